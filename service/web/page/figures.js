/** Live figures: how often, how old, how many frames are left out, and where the server's time goes. */
import { $, clearedPen, make, write } from "./make.js";
import { quantile } from "./timeline.js";

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
  /** @type {(import("../connection.js").Result & {time: number})[]} Of the last second. */
  #results = [];
  /** @type {{time: number, delay: number}[]} */
  #graph = [];
  #dropped = 0;
  #received = 0;

  constructor() {
    for (const [, word, colour] of PARTS) {
      const style = `background: ${colour}`;
      $("split").append(make("div", { style }));
      $("split-legend").append(make("li", {}, make("i", { style }), `${word} `, make("span")));
    }
  }

  clear() {
    [this.#results, this.#graph] = [[], []];
    this.#dropped = this.#received = 0;
  }

  /** @param {import("../connection.js").Result} result */
  add(result) {
    this.#received += 1;
    this.#dropped += result.dropped;
    this.#results.push({ ...result, time: performance.now() });
  }

  /**
   * Show what there is; called a few times a second.
   *
   * @param {number[]} delays Milliseconds from captures until their people were drawn.
   * @param {number} skipped Frames that the page has not sent.
   */
  show(delays, skipped) {
    const time = performance.now();
    const results = (this.#results = this.#results.filter((result) => result.time > time - SECOND));
    const delay = median(delays.slice(-30));
    const left = this.#dropped + skipped;
    const share = left / Math.max(1, left + this.#received);
    this.#write("figure-fps", String(results.length));
    this.#write("figure-age", ...milliseconds(median(results.map(({ age_ms }) => age_ms))));
    this.#write("figure-delay", ...milliseconds(delay));
    this.#write("figure-dropped", `${Math.round(100 * share)} %`, ` ${left}`);
    if (delays.length) this.#graph.push({ time, delay });
    this.#graph = this.#graph.filter((point) => point.time > time - SPAN * SECOND);
    this.#draw(time);
    this.#split(results.flatMap(({ timing_ms }) => (timing_ms ? [timing_ms] : [])));
  }

  /** @param {Record<string, number>[]} timings */
  #split(timings) {
    if (!timings.length) return;
    const medians = PARTS.map(([part]) => median(timings.map((timing) => timing[part] ?? 0)));
    const total = medians.reduce((sum, part) => sum + part, 0) || 1;
    medians.forEach((part, n) => {
      $("split").children[n].style.width = `${(100 * part) / total}%`;
      $("split-legend").children[n].lastElementChild.textContent = `${part.toFixed(1)} ms`;
    });
  }

  /** @param {number} time */
  #draw(time) {
    const { pen, width, height } = clearedPen($("figure-graph"));
    const top = Math.max(50, ...this.#graph.map(({ delay }) => delay)) * 1.15;
    pen.strokeStyle = getComputedStyle(pen.canvas).color;
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
    const element = $(id);
    if (element.textContent === text + unit) return;
    element.replaceChildren(text, ...(unit ? [make("small", {}, unit)] : []));
  }
}

/** @param {number} value @returns {[string, string]} */
const milliseconds = (value) => (isNaN(value) ? ["–", ""] : [value.toFixed(0), " ms"]);

/** @param {number[]} values @returns {number} NaN without values. */
const median = (values) => quantile(values, 0.5);
