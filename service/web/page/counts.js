/** Zones and lines as a list, with what has happened in them. */
import { $, make } from "./make.js";
import { regionColour } from "./regions.js";

const MOST_EVENTS = 60; // in the list

/** @typedef {{kind: string, name: string, id: number, direction?: string, seconds?: number}} RegionEvent */
/** @typedef {{inside: Set<number>, entered: number, right: number, left: number}} Count */

export class Counts {
  /** @type {Map<string, Count>} By the region's name. */
  #counts = new Map();

  /** @param {import("./settings.js").Settings} settings Has the zones and lines. */
  constructor(settings) {
    this.settings = settings;
    this.list = /** @type {HTMLElement} */ ($("regions"));
    this.events = /** @type {HTMLElement} */ ($("events"));
  }

  /** Begin again, for a new stream. */
  clear() {
    this.#counts.clear();
    this.events.replaceChildren();
    this.show();
  }

  /** @param {RegionEvent[]} events Of a result. */
  add(events) {
    for (const event of events) {
      const count = this.#count(event.name);
      if (event.kind === "enter") (count.inside.add(event.id), count.entered++);
      else if (event.kind === "leave") count.inside.delete(event.id);
      else if (event.kind === "cross") count[event.direction === "right" ? "right" : "left"]++;
      const time = make("time", {}, new Date().toLocaleTimeString());
      this.events.prepend(make("li", {}, time, sentence(event)));
      if (this.events.children.length > MOST_EVENTS) this.events.lastElementChild?.remove();
    }
    if (events.length) this.#tally();
  }

  /** Show the regions of the settings. */
  show() {
    const { zones, lines } = this.settings.regions;
    const shapes = [...zones, ...lines];
    $("regions-panel").hidden = !shapes.length && !this.events.children.length;
    this.list.replaceChildren(...shapes.map((shape, n) => this.#row(shape, n)));
    this.#tally();
  }

  /** @param {string} name */
  #count(name) {
    const count = this.#counts.get(name) ?? { inside: new Set(), entered: 0, right: 0, left: 0 };
    this.#counts.set(name, count);
    return count;
  }

  #tally() {
    $("events-none").hidden = Boolean(this.events.children.length);
    for (const tally of /** @type {any} */ (this.list.querySelectorAll(".tally"))) {
      const { inside, entered, right, left } = this.#count(tally.dataset.name);
      tally.textContent = tally.dataset.zone
        ? `${inside.size} inside, ${entered} entered`
        : `${right} with the arrow, ${left} against`;
    }
  }

  /** @param {any} shape @param {number} n */
  #row(shape, n) {
    const label = `Name of ${shape.name}`;
    const chip = make("span", { className: "chip", style: `background: ${regionColour(n)}` });
    const onchange = () => this.#rename(shape, name);
    const name = make("input", { type: "text", value: shape.name, maxLength: 64, required: true, label, onchange });
    const tally = make("span", { className: "tally" });
    Object.assign(tally.dataset, { name: shape.name, ...(shape.polygon ? { zone: "1" } : {}) });
    const others = (/** @type {any[]} */ shapes) => shapes.filter((other) => other !== shape);
    const onclick = () => {
      const { zones, lines } = this.settings.values;
      this.settings.set({ zones: others(zones), lines: others(lines) });
    };
    const remove = make("button", { className: "quiet", label: `Remove ${shape.name}`, onclick }, "✕");
    name.disabled = remove.hidden = Boolean(this.settings.watched);
    return make("li", {}, chip, name, tally, remove);
  }

  /** @param {any} shape @param {HTMLInputElement} input */
  #rename(shape, input) {
    const { zones, lines } = this.settings.values;
    const wanted = input.value.trim();
    const taken = [...zones, ...lines].some((other) => other !== shape && other.name === wanted);
    if (!wanted || taken) {
      input.value = shape.name; // the server tells regions apart by their names
      return;
    }
    shape.name = wanted;
    this.settings.set({ zones: [...zones], lines: [...lines] });
  }
}

/** @param {RegionEvent} event */
function sentence({ kind, name, id, direction, seconds = 0 }) {
  const who = `Person ${id}`;
  if (kind === "enter") return `${who} entered ${name}`;
  if (kind === "leave") return `${who} left ${name} after ${seconds.toFixed(0)} s`;
  if (kind === "dwell") return `${who} has been in ${name} for ${seconds.toFixed(0)} s`;
  if (kind === "cross") return `${who} crossed ${name} ${direction === "right" ? "with" : "against"} the arrow`;
  return `${id > 0 ? `${who}: ` : ""}${kind} ${name}`;
}
