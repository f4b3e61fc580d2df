/** The stage: the picture, and on it the people, zones and lines. */
import { drawPeople, drawTrails } from "./draw.js";
import { $ } from "./make.js";

/** @typedef {import("./draw.js").Figure} Figure */
/** @typedef {import("./draw.js").Pen} Pen */
/** @typedef {import("./draw.js").Look} Look */
/** @typedef {{mirror: boolean, hide: boolean, boxes: boolean, labels: boolean, trails: boolean}} Display */

const MOST_PIXELS = 2.1e6; // of the drawing: more are not seen, and take time on large screens

export class View {
  /** The picture's width and height in its own pixels, 0 without a picture. */
  width = 0;
  height = 0;
  /** @type {import("./draw.js").Skeleton | null} */
  skeleton = null;
  /** @type {Display} */
  display = { mirror: false, hide: false, boxes: false, labels: true, trails: false };
  /** Draws zones and lines. */
  drawRegions = (/** @type {Pen} */ _pen, /** @type {Look & {height: number}} */ _look) => {};
  /** People at a moment and the picture of it. @type {Figure[]} */
  people = [];
  /** @type {Map<number, {x: number, y: number, age: number}[]>} */
  trails = new Map();

  stage = /** @type {HTMLElement} */ ($("stage"));
  picture = /** @type {HTMLCanvasElement} */ ($("picture"));
  overlay = /** @type {HTMLCanvasElement} */ ($("overlay"));
  pen = /** @type {CanvasRenderingContext2D} */ (this.overlay.getContext("2d"));

  constructor() {
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  /** Show a picture, and close it. @param {ImageBitmap | VideoFrame} picture */
  show(picture) {
    const { width, height } =
      picture instanceof ImageBitmap ? picture : { width: picture.displayWidth, height: picture.displayHeight };
    this.size(width, height);
    this.picture.getContext("2d")?.drawImage(picture, 0, 0, width, height);
    picture.close();
  }

  /** @param {number} width @param {number} height */
  size(width, height) {
    if (this.width === width && this.height === height) return;
    [this.width, this.height] = [width, height];
    Object.assign(this.picture, { width, height });
    this.stage.style.setProperty("--ratio", String(width / height || 16 / 9));
  }

  clear() {
    [this.people, this.trails] = [[], new Map()];
    this.size(0, 0);
    this.draw();
  }

  draw() {
    const ratio = globalThis.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.stage;
    const shrink = Math.min(1, Math.sqrt(MOST_PIXELS / Math.max(1, clientWidth * clientHeight * ratio * ratio)));
    const width = Math.round(clientWidth * ratio * shrink);
    const height = Math.round(clientHeight * ratio * shrink);
    if (this.overlay.width !== width || this.overlay.height !== height) Object.assign(this.overlay, { width, height });
    this.pen.clearRect(0, 0, width, height);
    this.stage.classList.toggle("mirrored", this.display.mirror);
    this.stage.classList.toggle("hides", this.display.hide);
    if (!this.width) return;
    this.pen.save();
    this.pen.scale(ratio * shrink, ratio * shrink); // lines and letters are as thick as on the page
    this.#paint(this.pen, clientWidth / this.width);
    this.pen.restore();
  }

  /** @param {Pen} pen @param {number} scale */
  #paint(pen, scale) {
    const { width, height } = this;
    const look = { width, height, scale, ...this.display };
    this.drawRegions(pen, look);
    if (this.display.trails) drawTrails(pen, this.trails, look);
    if (this.skeleton) drawPeople(pen, this.people, this.skeleton, look);
  }

  /** The picture with all that is drawn on it, as a PNG. @returns {Promise<Blob>} */
  async snapshot() {
    const { width, height } = this;
    const canvas = new OffscreenCanvas(width, height);
    const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.save();
    if (this.display.mirror) pen.setTransform(-1, 0, 0, 1, width, 0);
    if (this.display.hide) pen.fillRect(0, 0, width, height);
    else pen.drawImage(this.picture, 0, 0, width, height);
    pen.restore();
    const shown = Math.max(1, width / 1000); // as thick as on a stage of 1000 pixels
    pen.scale(shown, shown);
    this.#paint(pen, 1 / shown);
    return canvas.convertToBlob({ type: "image/png" });
  }
}
