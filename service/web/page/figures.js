/** Live figures: how often, how old, how many frames are left out, and where the server's time goes. */
import { make } from "./make.js";

const SECOND = 1000;
const SPAN = 60; // seconds of the graph
const PARTS = [
  ["queue", "waiting", "#8d99ab"],
  ["prepare", "preparing", "#4aa3df"],
  ["infer", "networks", "#5b6ee1"],
  ["decode", "reading results", "#9b6be0"],
  ["track", "tracking", "#2fb39b"],
  ["serialise", "writing", "#d9a441"],
];

export class Figures {
  /** @type {import("../connection.js").Result[]} Of the last second. */
  #results = [];
  /** @type {{time: number, delay: number}[]} */
  #graph = [];
  #dropped = 0;
  #received = 0;
  #times = /** @type {number[]} */ ([]);

  /** @param {(id: string) => HTMLElement} $ Finds the elements of the page. */
  constructor($) {
    this.$ = $;
    this.panel = $("figures-panel");
    this.canvas = /** @type {HTMLCanvasElement} */ ($("figure-graph"));
    $("split").append(...PARTS.map(([, , colour]) => box("div", colour)));
    $("split-legend").append(
      ...PARTS.map(([, word, colour]) => make("li", {}, box("i", colour), `${word} `, make("span"))),
    );
  }

  clear() {
    [this.#results, this.#graph, this.#times] = [[], [], []];
    this.#dropped = this.#received = 0;
  }

  /** @param {import("../connection.js").Result} result */
  add(result) {
    const time = performance.now();
    this.#received += 1;
    this.#dropped += result.dropped;
    this.#results.push(result);
    this.#times.push(time);
    while (this.#times[0] < time - SECOND) (this.#times.shift(), this.#results.shift());
  }

  /**
   * Show what there is; called a few times a second.
   *
   * @param {number[]} delays Milliseconds from captures until their people were drawn.
   * @param {number} skipped Frames that the page has not sent.
   */
  show(delays, skipped) {
    const time = performance.now();
    while (this.#times[0] < time - SECOND) (this.#times.shift(), this.#results.shift());
    const results = this.#results;
    const delay = median(delays.slice(-30));
    const left = this.#dropped + skipped;
    const share = left / Math.max(1, left + this.#received);
    this.#write("figure-fps", String(results.length));
    this.#write("figure-age", ...milliseconds(median(results.map(({ age_ms }) => age_ms))));
    this.#write("figure-delay", ...milliseconds(delay));
    this.#write("figure-dropped", `${Math.round(100 * share)} %`, ` ${left}`);
    if (delays.length) this.#graph.push({ time, delay });
    while (this.#graph.length && this.#graph[0].time < time - SPAN * SECOND) this.#graph.shift();
    this.#draw(time);
    this.#split(results.flatMap(({ timing_ms }) => (timing_ms ? [timing_ms] : [])));
  }

  /** @param {Record<string, number>[]} timings */
  #split(timings) {
    if (!timings.length) return;
    const medians = PARTS.map(([part]) => median(timings.map((timing) => timing[part] ?? 0)));
    const total = medians.reduce((sum, part) => sum + part, 0) || 1;
    medians.forEach((part, n) => {
      /** @type {HTMLElement} */ (this.$("split").children[n]).style.width = `${(100 * part) / total}%`;
      const text = this.$("split-legend").children[n].lastElementChild;
      if (text) text.textContent = `${part.toFixed(1)} ms`;
    });
  }

  /** @param {number} time */
  #draw(time) {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.scale(ratio, ratio);
    const top = Math.max(50, ...this.#graph.map(({ delay }) => delay)) * 1.15;
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.beginPath();
    for (const { time: at, delay } of this.#graph) {
      pen.lineTo(width * (1 - (time - at) / (SPAN * SECOND)), height - 2 - ((height - 4) * delay) / top);
    }
    pen.stroke();
  }

  /** @param {string} id @param {string} text @param {string} [unit] */
  #write(id, text, unit = "") {
    const element = this.$(id);
    if (element.textContent === text + unit) return;
    element.replaceChildren(text, ...(unit ? [make("small", {}, unit)] : []));
  }
}

/** @param {number} value @returns {[string, string]} */
const milliseconds = (value) => (isNaN(value) ? ["–", ""] : [value.toFixed(0), " ms"]);

/** @param {number[]} values @returns {number} NaN without values. */
function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/** @param {string} tag @param {string} colour */
function box(tag, colour) {
  const element = make(tag);
  element.style.background = colour;
  return element;
}
