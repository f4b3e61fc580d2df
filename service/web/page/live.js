/** Live video on the stage: the pictures of a camera or file, their stream, and the people at each moment. */
import { now } from "../client.js";
import { Pictures, Timeline } from "./timeline.js";

/** @typedef {import("../client.js").Person} Person */
/** @typedef {import("../connection.js").Result} Result */

const OBSERVED = 120; // delays that are kept
const RETRY = 1000; // milliseconds
const WATCHED_FPS = 10; // pictures of a camera of the server; between them skeletons go on

/** @typedef {import("../stream.js").State} State */
/** @typedef {{state: string, reason?: string}} CameraState Of a camera of the server. */
/** @typedef {{state(s: State): void, camera(c: CameraState): void, result(r: Result): void}} Told Called with what comes. */

export class Live {
  /** Milliseconds from the capture of the last pictures until their people were drawn. @type {number[]} */
  delays = [];
  /** Milliseconds between two pictures of the source. */
  between = 33;
  timeline = new Timeline();
  #pictures = new Pictures();
  #newest = 0; // capture time of the newest picture
  #shown = 0; // capture time of the last result that was drawn
  /** The time that was painted last, and the newest result then. @type {unknown[]} */
  #painted = [];
  /** @type {import("../stream.js").Stream | null} */
  stream = null;
  /** @type {HTMLVideoElement | null} */
  video = null;
  #showing = new AbortController(); // what is shown now
  #offset = Infinity; // from the clock of a camera of the server to the page's, milliseconds

  /** @param {import("./view.js").View} view @param {Told} told */
  constructor(view, told) {
    this.view = view;
    this.told = told;
  }

  /** Show a video in place of the last one. @param {HTMLVideoElement} video */
  start(video) {
    this.stop();
    this.video = video;
    this.view.size(video.videoWidth, video.videoHeight);
    video.addEventListener("seeking", () => this.timeline.clear());
    this.#capture(video);
    this.#animate();
  }

  /** Show a camera of the server. @param {import("../client.js").Client} client @param {string} name */
  watch(client, name) {
    this.stop();
    this.between = 1000 / WATCHED_FPS;
    this.use(client.watch(name));
    this.#watch(client, name, this.#showing.signal);
    this.#animate();
  }

  /** Send the video to a stream, in place of the last one. @param {import("../stream.js").Stream} stream */
  use(stream) {
    this.stream?.close();
    this.stream = stream;
    for (const kind of /** @type {const} */ (["state", "camera"])) {
      stream.addEventListener(kind, (/** @type {any} */ { detail }) => this.stream === stream && this.told[kind](detail));
    }
    this.#receive(stream);
  }

  /** End the stream and release the camera or file. */
  stop() {
    const { stream, video } = this;
    this.#showing.abort();
    this.#showing = new AbortController();
    this.#offset = Infinity;
    this.video = this.stream = null;
    stream?.close();
    if (video) release(video);
    this.timeline = new Timeline();
    this.#pictures.clear();
    this.#newest = this.#shown = 0;
    this.delays = [];
  }

  /** @param {HTMLVideoElement} video */
  #capture(video) {
    const step = (/** @type {number} */ at, /** @type {VideoFrameCallbackMetadata} */ metadata) => {
      if (this.video !== video) return;
      video.requestVideoFrameCallback(step);
      const time = performance.timeOrigin + (metadata.captureTime ?? at);
      const apart = time - this.#newest;
      if (apart > 0 && apart < 500) this.between += (apart - this.between) / 8;
      if (time <= this.#newest || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
      const frame = new VideoFrame(video, { timestamp: Math.round(1000 * time) }); // shares the video's memory
      this.#newest = time;
      this.stream?.send(frame, time);
      this.#pictures.put(frame, time, this.timeline.delay);
    };
    video.requestVideoFrameCallback(step);
  }

  /** @param {import("../stream.js").Stream} stream */
  async #receive(stream) {
    try {
      for await (const result of stream) {
        if (this.stream !== stream) return;
        if (result.type === "result") {
          let { timestamp: time, width, height, latency_ms } = result;
          if (!this.video) {
            this.#offset = Math.min(this.#offset, now() - result.age_ms - time);
            time += this.#offset;
            latency_ms = now() - time;
          }
          const people = result.people.map((person) => named(person, this.view.width / width || 1));
          this.timeline.add({ time, people, width, height }, latency_ms, this.between);
        }
        this.told.result(result);
      }
    } catch (error) {
      if (/** @type {any} */ (error)?.name !== "StreamError") throw error; // its state event says more
    }
  }

  /** @param {import("../client.js").Client} client @param {string} name @param {AbortSignal} signal */
  async #watch(client, name, signal) {
    while (!signal.aborted) {
      try {
        for await (const { time, blob } of livePictures(client, name, signal)) {
          const [frame, at] = [await createImageBitmap(blob), time + this.#offset];
          if (signal.aborted || !(at > this.#newest && isFinite(at))) frame.close();
          else {
            this.timeline.waited(now() - at);
            this.#newest = at;
            this.#pictures.put(frame, at, this.timeline.delay);
          }
        }
      } catch {
        // the stream of results says why there is none
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY));
    }
  }

  #animate() {
    const { signal } = this.#showing;
    const paint = () => {
      if (signal.aborted) return;
      this.#paint();
      requestAnimationFrame(paint);
    };
    requestAnimationFrame(paint);
  }

  #paint() {
    const time = Math.min(now() - this.timeline.delay, this.#newest);
    const last = this.timeline.moments.at(-1);
    if (this.#painted[0] === time && this.#painted[1] === last) return;
    this.#painted = [time, last];
    const picture = this.#pictures.take(time);
    if (picture) this.view.show(picture);
    this.view.people = this.timeline.at(time);
    this.view.trails = this.view.display.trails ? this.timeline.trails(time) : new Map();
    this.view.draw();
    const drawn = this.timeline.moments.findLast((moment) => moment.time <= time);
    if (drawn && drawn.time > this.#shown) {
      this.#shown = drawn.time;
      this.delays.push(now() - drawn.time);
      if (this.delays.length > OBSERVED) this.delays.shift();
    }
  }
}

/**
 * A person with a name to show, in pixels of another size.
 *
 * @param {Person} person
 * @param {number} factor
 * @returns {import("./draw.js").Figure}
 */
export function named(person, factor) {
  const { id = 0, box, keypoints } = person;
  return {
    ...person,
    name: id > 0 ? `Person ${id}` : "",
    box: /** @type {Person["box"]} */ (box.map((side) => side * factor)),
    keypoints: keypoints.map(([x, y, score]) => [x * factor, y * factor, score]),
  };
}

/**
 * A video file as a playing video element.
 *
 * @param {Blob} file
 * @returns {Promise<HTMLVideoElement>} Rejects if the browser cannot play it.
 */
export async function openVideo(file) {
  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  video.src = URL.createObjectURL(file);
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new Error("this browser cannot play this video"));
  });
  if (!video.videoWidth) throw new Error("the file has no pictures");
  await video.play();
  return video;
}

/** The pictures of a camera with their times. An `<img>` would send no API key, and tell no times.
 * @param {import("../client.js").Client} client @param {string} name @param {AbortSignal} signal */
async function* livePictures(client, name, signal) {
  const path = `cameras/${encodeURIComponent(name)}/live.mjpg`;
  const { body } = await client.request(path, { signal }, { draw: 0, fps: WATCHED_FPS, width: 1280 });
  let bytes = new Uint8Array();
  for await (const piece of /** @type {any} */ (body)) {
    bytes = new Uint8Array(await new Blob([bytes, piece]).arrayBuffer());
    const text = new TextDecoder("latin1").decode(bytes.subarray(0, 400));
    const head = /Length: (\d+)\r\n.*Timestamp: ([\d.]+)\r\n\r\n/.exec(text);
    if (!head) continue;
    const start = head.index + head[0].length;
    const end = start + Number(head[1]);
    if (bytes.length < end) continue;
    yield { time: Number(head[2]), blob: new Blob([bytes.subarray(start, end)], { type: "image/jpeg" }) };
    bytes = bytes.slice(end);
  }
}

/** @param {HTMLVideoElement} video */
function release(video) {
  video.pause();
  if (video.srcObject instanceof MediaStream) for (const track of video.srcObject.getTracks()) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
}
