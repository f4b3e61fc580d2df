/**
 * The browser client of a Posewire server: the poses of pictures, and of live video with identities.
 *
 *     import { Client, openCamera } from "http://localhost:8000/client.js";
 *
 *     const client = new Client();                    // of the server that this module was loaded from
 *     const { people } = await client.pose(file);     // a picture
 *
 *     const stream = client.stream({ smoothing: true });
 *     stream.film(await openCamera());                // live video
 *     for await (const { people } of stream) draw(people);
 *
 * It has no dependencies. The protocol of streams is described at GET /docs/stream.
 *
 * @module
 */
import { Stream } from "./stream.js";

export { now } from "./connection.js";
export { Stream, StreamError } from "./stream.js";

/**
 * A person in a picture or frame.
 *
 * @typedef {object} Person
 * @property {number} score 0 to 1.
 * @property {[number, number, number, number]} box x1, y1, x2, y2 in pixels.
 * @property {[number, number, number][]} keypoints x, y in pixels and score, in the skeleton's order.
 * @property {[number, number, number][]} [keypoints_3d] x, y, z in metres, from models that give them.
 * @property {number} [id] Of streams: 1 or higher, or -1 until the tracker is sure.
 * @property {[number, number]} [velocity] Of streams with `extras`: pixels a second.
 * @property {number} [age_s] Of streams with `extras`: seconds since the person was first seen.
 * @property {Record<string, number>} [angles] Of streams with `rules`, as all that follow: degrees.
 * @property {Record<string, number>} [angles_3d] Degrees in space, from models that give metres.
 * @property {{name: "standing" | "sitting" | "lying", confidence: number}} [posture]
 * @property {number} [speed] Metres a second.
 * @property {Record<string, number>} [repetitions] So far.
 */

/**
 * @typedef {object} PoseAnswer
 * @property {number} width Of the picture, in pixels.
 * @property {number} height
 * @property {string} model
 * @property {string} skeleton
 * @property {Person[]} people Best first.
 * @property {Record<string, number>} timing_ms Where the time went.
 */

/** An error of the server, from its problem document (RFC 9457). */
export class ProblemError extends Error {
  /** @param {Response} response @param {{type?: string, title?: string, detail?: string}} problem */
  constructor(response, problem) {
    super(problem.detail || problem.title || `the server answered ${response.status}`);
    this.name = "ProblemError";
    /** The HTTP status. */
    this.status = response.status;
    /** Such as `/problems/overloaded`. */
    this.type = problem.type ?? "about:blank";
    /** Seconds after which to try again, 0 if the server does not say. */
    this.retryAfter = Number(response.headers.get("retry-after")) || 0;
  }
}

/** A server. */
export class Client {
  /**
   * @param {string | URL} [url] Where the server is; by default where this module is.
   * @param {{key?: string}} [options] key: an API key, if the server requires one.
   */
  constructor(url = new URL(".", import.meta.url), { key = "" } = {}) {
    this.url = new URL(url, globalThis.location?.href);
    if (!this.url.pathname.endsWith("/")) this.url.pathname += "/";
    this.key = key;
  }

  /**
   * Find the people in a picture: JPEG, PNG, WebP, BMP or TIFF.
   *
   * @param {Blob | ArrayBuffer} picture
   * @param {Record<string, string | number>} [parameters] Those of POST /pose, such as `model` and `skeleton`.
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<PoseAnswer>} Rejects with a ProblemError, or a TypeError if the server cannot be reached.
   */
  async pose(picture, parameters = {}, { signal } = {}) {
    const headers = { accept: "application/json" };
    return (await this.request("pose", { method: "POST", body: picture, headers, signal }, parameters)).json();
  }

  /**
   * As `pose`, but returns the picture with the skeletons drawn on it.
   *
   * @param {Blob | ArrayBuffer} picture
   * @param {Record<string, string | number>} [parameters]
   * @param {{signal?: AbortSignal, type?: "image/jpeg" | "image/png"}} [options]
   * @returns {Promise<Blob>}
   */
  async draw(picture, parameters = {}, { signal, type = "image/png" } = {}) {
    const headers = { accept: type };
    return (await this.request("pose", { method: "POST", body: picture, headers, signal }, parameters)).blob();
  }

  /** @returns {Promise<{name: string, title: string, default: boolean, skeleton: string}[]>} The default first. */
  async models() {
    return (await this.request("models")).json();
  }

  /** @returns {Promise<{name: string, keypoints: string[], limbs: [string, string][], pairs: [string, string][]}[]>} */
  async skeletons() {
    return (await this.request("skeletons")).json();
  }

  /**
   * Open a stream of live video. It connects at once, and again whenever the connection is lost, until it is closed.
   *
   * @param {import("./stream.js").Hello} [hello] See GET /docs/stream. `timestamps` is always true.
   * @param {import("./stream.js").StreamOptions} [options]
   * @returns {Stream}
   */
  stream(hello = {}, options = {}) {
    return this.#open("stream", hello, options);
  }

  /**
   * Watch a camera of the server: a stream whose frames come from there. Its `camera` events tell the camera's state.
   *
   * @param {string} name See GET /cameras.
   * @param {{fps?: number, window?: number}} [hello] fps: at most so many results a second.
   * @returns {Stream}
   */
  watch(name, hello = {}) {
    return this.#open(`cameras/${encodeURIComponent(name)}/results`, hello, { watch: true });
  }

  /** @param {string} path @param {import("./stream.js").Hello} hello @param {import("./stream.js").StreamOptions} options */
  #open(path, hello, options) {
    const url = new URL(path, this.url);
    url.protocol = url.protocol.replace("http", "ws");
    return new Stream(url, this.key ? { key: this.key, ...hello } : hello, options);
  }

  /**
   * Send any request, with the API key.
   *
   * @param {string} path Relative to the server's URL.
   * @param {RequestInit} [init]
   * @param {Record<string, string | number>} [parameters] Of the query.
   * @returns {Promise<Response>} Rejects with a ProblemError for a status of 400 or more.
   */
  async request(path, init = {}, parameters = {}) {
    const url = new URL(path, this.url);
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, String(value));
    const headers = new Headers(init.headers);
    if (this.key) headers.set("x-api-key", this.key);
    const response = await fetch(url, { ...init, headers });
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({})); // a proxy's error may be no problem document
    throw new ProblemError(response, problem);
  }
}

/**
 * Open a camera.
 *
 * @param {MediaTrackConstraints} [constraints]
 * @returns {Promise<HTMLVideoElement>} Playing. Rejects with the DOMException of `getUserMedia`, or a TypeError where
 *     the page is not on a secure origin: browsers give cameras only to pages of HTTPS and of localhost.
 */
export async function openCamera(constraints = { width: { ideal: 1280 }, height: { ideal: 720 } }) {
  if (!navigator.mediaDevices) throw new TypeError("cameras need a page that comes over HTTPS or from localhost");
  const video = document.createElement("video");
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: constraints, audio: false });
  video.muted = video.playsInline = true;
  await video.play();
  return video;
}
