/**
 * Frames of a stream as messages: JPEG pictures, or chunks of compressed video where the browser has WebCodecs.
 *
 * @module
 */

/** @typedef {Exclude<CanvasImageSource, SVGImageElement>} Source */
/** @typedef {{frame: VideoFrame | ImageBitmap, width: number, height: number, quality: number}} JpegOrder */
/** @typedef {"vp8" | "vp9" | "h264" | "av1"} VideoName */
/** @typedef {(timestamp: number, frame: Uint8Array) => void} Output Takes the frame of a message. */

/** What WebCodecs calls the codecs that the server decodes, at up to 1920x1080 and 30 frames a second. */
const CODECS = { h264: "avc1.42E028", vp8: "vp8", vp9: "vp09.00.40.08", av1: "av01.0.08M.08" };
/** Bits that a pixel of a frame takes. More do not change the keypoints. */
const BITS_PER_PIXEL = 0.07;
const FRAME_RATE = 30;
/** Every so many frames one stands alone, so that a broken stream heals even if nobody asks. */
const KEY_FRAME_EVERY = 300;

/**
 * Encodes each frame as a JPEG.
 *
 * @param {Output} output
 * @param {{quality: number, longest: number}} options longest: greatest width or height of what is sent, in pixels.
 */
export function jpegEncoder(output, { quality, longest }) {
  let make = jpegWorker();
  let busy = false;
  return {
    get busy() {
      return busy;
    },
    /** @param {Source} source @param {number} timestamp */
    async encode(source, timestamp) {
      busy = true;
      try {
        const plain = !("VideoFrame" in globalThis);
        const frame = plain ? await createImageBitmap(source) : new VideoFrame(source, { timestamp: 0 });
        const order = { frame, ...fitted(frame, longest), quality };
        output(timestamp, await make(order));
      } catch (error) {
        make.close();
        make = jpegMaker(); // on the page's own thread from now on
        throw error;
      } finally {
        busy = false;
      }
    },
    requestKeyFrame() {},
    close() {
      make.close();
    },
  };
}

/** A function that makes a frame a JPEG of some size, and closes the frame. */
export function jpegMaker() {
  const canvas = new OffscreenCanvas(1, 1);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  const make = async (/** @type {JpegOrder} */ { frame, width, height, quality }) => {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    pen.drawImage(frame, 0, 0, width, height);
    frame.close();
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality });
    return new Uint8Array(await blob.arrayBuffer());
  };
  return Object.assign(make, { close: () => {} });
}

/** As jpegMaker, in a worker where there can be one: pages of another origin than this module's have none. */
function jpegWorker() {
  try {
    const worker = new Worker(new URL("jpeg_worker.js", import.meta.url), { type: "module" });
    let broken = false;
    worker.onerror = () => (broken = true);
    const make = (/** @type {JpegOrder} */ order) =>
      new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => (data instanceof Uint8Array ? resolve(data) : reject(data));
        worker.onerror = () => reject(new Error("the worker for JPEGs has failed"));
        if (broken) reject(new Error("there is no worker for JPEGs"));
        worker.postMessage(order, [order.frame]);
      });
    return Object.assign(make, { close: () => worker.terminate() });
  } catch {
    return jpegMaker();
  }
}

/**
 * Encodes frames as chunks of video. The first of each size is a key frame.
 *
 * @param {Output} output
 * @param {{video: VideoName, longest: number, failed: (error: Error) => void}} options failed: called when the encoder
 *     has ended for good.
 */
export function videoEncoder(output, { video, longest, failed }) {
  let size = "";
  let frames = 0;
  let wantsKeyFrame = true;
  /** @type {Map<number, number>} Timestamps of frames in the encoder, whose own clock has whole microseconds. */
  const timestamps = new Map();
  const encoder = new VideoEncoder({
    output(chunk) {
      const bytes = new Uint8Array(1 + chunk.byteLength);
      bytes[0] = Number(chunk.type === "key");
      chunk.copyTo(bytes.subarray(1));
      const timestamp = timestamps.get(chunk.timestamp) ?? chunk.timestamp / 1000;
      timestamps.delete(chunk.timestamp);
      output(timestamp, bytes);
    },
    error: failed,
  });
  return {
    get busy() {
      return encoder.encodeQueueSize > 1;
    },
    /** @param {Source} source @param {number} timestamp */
    async encode(source, timestamp) {
      const time = Math.round(timestamp * 1000);
      const frame = new VideoFrame(source, { timestamp: time });
      const { width, height } = fitted(frame, longest, 2);
      if (size !== `${width}x${height}`) {
        size = `${width}x${height}`;
        wantsKeyFrame = true;
        encoder.configure(configuration(video, width, height));
      }
      timestamps.set(time, timestamp);
      encoder.encode(frame, { keyFrame: wantsKeyFrame || frames % KEY_FRAME_EVERY === 0 });
      frame.close();
      frames += 1;
      wantsKeyFrame = false;
    },
    requestKeyFrame() {
      wantsKeyFrame = true;
    },
    close() {
      if (encoder.state !== "closed") encoder.close();
    },
  };
}

/**
 * Choose a codec that this browser encodes in real time.
 *
 * @param {boolean | VideoName} wanted true for any.
 * @returns {Promise<VideoName | "">} An empty string if there is none.
 */
export async function chooseVideo(wanted) {
  if (!wanted || typeof VideoEncoder === "undefined") return "";
  // Software encoders of VP9 and AV1 take several times as long as VP8's, so they are used only if named.
  for (const name of wanted === true ? /** @type {const} */ (["vp8", "h264"]) : [wanted]) {
    const support = await VideoEncoder.isConfigSupported(configuration(name, 1280, 720)).catch(() => null);
    if (support?.supported) return name;
  }
  return "";
}

/** @param {VideoName} video @param {number} width @param {number} height @returns {VideoEncoderConfig} */
function configuration(video, width, height) {
  return {
    codec: CODECS[video],
    width,
    height,
    bitrate: Math.round(width * height * FRAME_RATE * BITS_PER_PIXEL),
    framerate: FRAME_RATE,
    latencyMode: "realtime",
    ...(video === "h264" ? { avc: { format: "annexb" } } : {}),
  };
}

/**
 * The size at which a frame is sent.
 *
 * @param {VideoFrame | ImageBitmap} frame @param {number} longest
 * @param {number} [multiple] Width and height are multiples of this.
 */
function fitted(frame, longest, multiple = 1) {
  const [w, h] = "width" in frame ? [frame.width, frame.height] : [frame.displayWidth, frame.displayHeight];
  const scale = Math.min(1, longest / Math.max(w, h));
  const round = (/** @type {number} */ side) => Math.max(multiple, Math.round((side * scale) / multiple) * multiple);
  return { width: round(w), height: round(h) };
}
