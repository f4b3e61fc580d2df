/** A stream of live video: it sends the newest frames, and reconnects and resumes by itself. @module */
import { Connection, now } from "./connection.js";
import { chooseVideo } from "./encoders.js";

/** @typedef {import("./connection.js").Result} Result */

/**
 * The hello of a stream, see GET /docs/stream; for example `{smoothing: true, model: "blazepose"}`.
 *
 * @typedef {Record<string, unknown>} Hello
 */

/**
 * @typedef {object} StreamOptions
 * @property {boolean | import("./encoders.js").VideoName} [video] Send compressed video where the browser and the
 *     server can; by default every frame is a JPEG.
 * @property {number} [quality] Of JPEGs, 0 to 1.
 * @property {number} [longest] Greatest width or height of what is sent; larger frames are scaled down.
 * @property {number} [ahead] The most frames that are sent before the answer to the first of them.
 * @property {boolean} [watch] The frames are those of a camera of the server.
 */

/**
 * What `state` events tell. `open`: frames are sent; `resumed` says that ids continue. `lost`: there is no connection,
 * the next attempt is in `wait` milliseconds. `closed`: the stream has ended for good.
 *
 * @typedef {object} State
 * @property {"connecting" | "open" | "lost" | "closed"} name
 * @property {number} [code] The close code, see GET /docs/stream.
 * @property {string} [reason] Of the close code, or why a stream was not resumed.
 * @property {boolean} [resumed]
 * @property {number} [wait]
 */

const SHORTEST_WAIT = 200;
const LONGEST_WAIT = 5000;
const STEADY = 5000; // a connection that lasted so many milliseconds is replaced at once
const [UNAUTHORIZED, SILENT, GONE, BAD_HELLO] = [4401, 4408, 4410, 4422];
/** Close codes after which the same connection would end in the same way. */
const FATAL = new Set([1002, 1003, 1007, 1009, 4400, UNAUTHORIZED, 4404, 4409, 4415, BAD_HELLO]);

/** Why a stream has ended. */
export class StreamError extends Error {
  /** @param {number} code @param {string} reason */
  constructor(code, reason) {
    super(reason || `the stream was closed with ${code}`);
    this.name = "StreamError";
    /** A close code, see GET /docs/stream. */
    this.code = code;
  }
}

/** Made by `Client.stream`. Iterate over it for the results. Dispatches `state` events, whose `detail` is a State. */
export class Stream extends EventTarget {
  /** @type {State} */
  state = { name: "connecting" };
  /** The server's welcome: `model`, `skeleton`, `keypoints` and so on. Null until there is a connection. */
  welcome = /** @type {any} */ (null);
  /** The codec of what is sent, an empty string for JPEGs. */
  video = /** @type {import("./encoders.js").VideoName | ""} */ ("");
  /** Frames that were sent, frames that were not because the last ones had no answer, and bytes sent. */
  sent = 0;
  skipped = 0;
  bytes = 0;

  #url;
  #hello;
  #options;
  #token = "";
  /** @type {Connection | null} */
  #connection = null;
  /** @type {{result: Result, connection: Connection}[]} */
  #results = [];
  #wake = () => {};
  #wanted = () => {};
  #stop = () => {};
  #stopped = new Promise((resolve) => (this.#stop = () => resolve(undefined)));
  /** @type {HTMLVideoElement | null} */
  #filmed = null;

  /** @param {URL} url @param {Hello} hello @param {StreamOptions} options */
  constructor(url, hello, { video = false, quality = 0.8, longest = 1280, ahead = 4, watch = false } = {}) {
    super();
    this.#url = new URL(url);
    if (!watch) this.#url.searchParams.set("session", Math.random().toString(36).slice(2)); // keeps it at one of several replicas
    this.#hello = { ...hello };
    this.#options = { video, quality, longest, ahead, watch };
    this.#run();
  }

  /**
   * Send a frame, unless there is no connection, or the last frames have no answer yet.
   *
   * @param {import("./encoders.js").Source} source A video, picture, canvas or VideoFrame.
   * @param {number} [timestamp] When it was captured, milliseconds; results repeat it.
   * @returns {boolean} Whether it will be sent.
   */
  send(source, timestamp = now()) {
    this.#wanted();
    const taken = this.#connection?.send(source, timestamp) ?? false;
    if (!taken) this.skipped += 1;
    return taken;
  }

  /** Send the frames of a video while it plays, in place of those of an earlier one. @param {HTMLVideoElement} video */
  film(video) {
    this.#filmed = video;
    const step = () => {
      if (this.#filmed !== video || this.state.name === "closed") return;
      if (video.readyState >= 2 && !video.paused) this.send(video);
      video.requestVideoFrameCallback(step);
    };
    video.requestVideoFrameCallback(step);
  }

  /** Replace members of the hello, such as `zones`. The stream resumes with them. @param {Hello} members */
  change(members) {
    this.#hello = { ...this.#hello, ...members };
    this.#connection?.leave();
  }

  /** End the stream. */
  close() {
    this.#end();
  }

  /**
   * Iterate over the results, in order. A result is acknowledged when the next one is asked for, so a slow loop gets
   * current results and not old ones. Ends with `close`; throws a StreamError if the server ends the stream for good.
   *
   * @returns {AsyncGenerator<Result>}
   */
  async *[Symbol.asyncIterator]() {
    while (true) {
      const next = this.#results.shift();
      if (next) {
        yield next.result;
        next.connection.acknowledge(next.result.frame);
      } else if (this.#is("closed")) {
        if (this.state.code) throw new StreamError(this.state.code, this.state.reason ?? "");
        return;
      } else {
        await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
      }
    }
  }

  async #run() {
    let failures = 0;
    this.video = await chooseVideo(this.#options.video);
    while (!this.#is("closed")) {
      const predecessor = this.#connection; // serves until its successor is open
      const hello = this.#hello;
      const connection = this.#connect(hello);
      const opened = await Promise.race([connection.opened, this.#stopped]);
      if (this.#is("closed")) return connection.close();
      if (opened) {
        predecessor?.close();
        this.#connection = connection;
        this.welcome = opened;
        this.#tell({ name: "open", resumed: opened.resumed, reason: opened.detail });
        if (hello !== this.#hello) connection.leave();
        await Promise.race([connection.ended, connection.leaving, this.#stopped]);
        if (this.#is("closed")) return connection.close();
        if (!connection.end) continue; // it announced its end, or the hello has changed
        if (connection.lasted > STEADY) failures = 0;
      }
      const { code, reason } = await connection.ended;
      if (this.#connection?.end) this.#connection = null;
      if (code === BAD_HELLO && this.video && /^video\b/.test(reason)) {
        this.video = ""; // this server takes pictures only
      } else if (FATAL.has(code)) {
        return this.#end(code, reason);
      } else {
        const wait = connection.lasted > STEADY ? 0 : Math.min(LONGEST_WAIT, SHORTEST_WAIT * 2 ** failures++);
        if (!this.#connection) this.#tell({ name: "lost", code, reason, wait });
        const asked = new Promise((resolve) => (this.#wanted = () => resolve(undefined)));
        const due = new Promise((resolve) => setTimeout(resolve, wait * (0.75 + Math.random() / 2)));
        await Promise.race([this.#stopped, code === SILENT || code === GONE ? asked : due]);
      }
    }
  }

  /** @param {Hello} hello */
  #connect(hello) {
    const video = this.video ? { video: this.video } : {};
    const resume = this.#token ? { resume: this.#token } : {};
    const members = this.#options.watch ? hello : { ...hello, timestamps: true, ...video, ...resume };
    return new Connection(this.#url, members, { ...this.#options, video: this.video }, {
      token: (token) => (this.#token = token),
      sent: (bytes) => {
        this.sent += 1;
        this.bytes += bytes;
      },
      result: (connection, result) => {
        this.#results.push({ connection, result });
        this.#wake();
      },
      camera: (detail) => this.dispatchEvent(new CustomEvent("camera", { detail })),
      failed: () => {
        this.video = ""; // the browser's encoder has broken: continue with JPEGs
      },
    });
  }

  /** @param {State["name"]} name */
  #is(name) {
    return this.state.name === name;
  }

  /** @param {number} [code] @param {string} [reason] */
  #end(code, reason) {
    if (this.#is("closed")) return;
    this.#tell({ name: "closed", code, reason });
    this.#connection?.close();
    this.#stop();
    this.#wake();
  }

  /** @param {State} state */
  #tell(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
