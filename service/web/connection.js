/** One connection of a stream: its hello, its frames and their answers. @module */
import { jpegEncoder, videoEncoder } from "./encoders.js";

/**
 * A result, or the `error` of a frame.
 *
 * @typedef {object} Result
 * @property {"result" | "error"} type
 * @property {number} frame
 * @property {number} timestamp The one that the frame was sent with, milliseconds.
 * @property {number} latency_ms From then until the result was here.
 * @property {number} age_ms From the frame's arrival at the server until the result was sent.
 * @property {number} dropped Frames that the server dropped since the last result.
 * @property {number} width Of the frame as it was sent, in pixels.
 * @property {number} height
 * @property {import("./client.js").Person[]} people Empty for an error.
 * @property {Record<string, number>} [timing_ms]
 * @property {({kind: string, name: string, id: number, direction?: string, seconds?: number} &
 *     Record<string, string | number | undefined>)[]} [events]
 * @property {Record<string, number>} [occupancy] People in each zone, with that rule.
 * @property {Record<string, Record<string, number>>} [counts] At each zone and line, with that rule.
 * @property {{type: string, title: string, status: number, detail: string}} [error]
 */

const MOST_BUFFERED = 250_000; // bytes that the network has not taken yet
const FRAMES_A_RESULT = 3; // more would not be newer by much, and only take bandwidth

/** The time now, in the milliseconds of timestamps. */
export const now = () => performance.timeOrigin + performance.now();

/** One websocket of a stream, from its hello to its end. */
export class Connection {
  /** @type {{code: number, reason: string} | null} */
  end = null;
  #sent = 0;
  #answered = -1;
  #interval = 0; // between two answers, milliseconds
  #answeredAt = 0;
  #sentAt = 0;
  #openedAt = 0;

  /**
   * @param {URL} url
   * @param {import("./stream.js").Hello} hello
   * @param {{quality: number, longest: number, ahead: number, video: import("./encoders.js").VideoName | ""}} options
   * @param {{token: (token: string) => void, sent: (bytes: number) => void,
   *     result: (connection: Connection, result: Result) => void, failed: () => void,
   *     camera: (state: {state: string, reason: string}) => void}} owner
   */
  constructor(url, hello, { quality, longest, ahead, video }, owner) {
    this.owner = owner;
    this.ahead = ahead;
    this.socket = new WebSocket(url, "posewire.json.v1");
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.socket.send(JSON.stringify(hello));
    const output = this.#send.bind(this);
    const failed = () => (owner.failed(), this.leave());
    this.encoder = video
      ? videoEncoder(output, { video, longest, failed })
      : jpegEncoder(output, { quality, longest });
    this.leave = () => {};
    /** Resolved when the server has announced its end, or another connection shall follow. */
    this.leaving = new Promise((resolve) => (this.leave = () => resolve(undefined)));
    /** The welcome, or null if the connection has ended before. @type {Promise<any>} */
    this.opened = new Promise((resolve) => {
      this.socket.onmessage = ({ data }) => this.#receive(JSON.parse(data), resolve);
      /** @type {Promise<{code: number, reason: string}>} */
      this.ended = new Promise((ended) => {
        this.socket.onclose = ({ code, reason }) => {
          this.end = { code, reason };
          this.encoder.close();
          resolve(null);
          ended(this.end);
        };
      });
    });
  }

  /** How many milliseconds it was open. */
  get lasted() {
    return this.#openedAt ? now() - this.#openedAt : 0;
  }

  /** @param {import("./encoders.js").Source} source @param {number} timestamp */
  send(source, timestamp) {
    const soon = now() - this.#sentAt < this.#interval / FRAMES_A_RESULT;
    const full = this.#sent - this.#answered > this.ahead || this.socket.bufferedAmount > MOST_BUFFERED;
    if (this.socket.readyState !== WebSocket.OPEN || soon || full || this.encoder.busy) return false;
    this.#sentAt = now();
    this.encoder.encode(source, timestamp).catch((error) => console.warn("a frame was not encoded:", error));
    return true;
  }

  /** @param {number} frame */
  acknowledge(frame) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ ack: frame }));
  }

  close() {
    this.socket.close();
  }

  /** @param {number} timestamp @param {Uint8Array} frame */
  #send(timestamp, frame) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const message = new Uint8Array(8 + frame.length);
    new DataView(message.buffer).setFloat64(0, timestamp);
    message.set(frame, 8);
    this.socket.send(message);
    this.#sent += 1;
    this.owner.sent(message.length);
  }

  /** @param {any} message @param {(welcome: any) => void} opened */
  #receive(message, opened) {
    if (message.token) this.owner.token(message.token);
    if (message.type === "welcome") {
      this.#openedAt = now();
      opened(message);
    } else if (message.type === "go_away") {
      this.leave();
    } else if (message.type === "camera") {
      this.owner.camera(message);
    } else if (message.type === "key_frame") {
      this.encoder.requestKeyFrame();
    } else if ("frame" in message) {
      const interval = Math.min(1000, now() - this.#answeredAt);
      this.#interval += (interval - this.#interval) / 4;
      this.#answeredAt = now();
      this.#answered = message.frame;
      this.owner.result(this, { people: [], ...message, latency_ms: now() - message.timestamp });
    }
  }
}
