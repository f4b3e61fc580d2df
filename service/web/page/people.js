/** The list of people: who is in view, how sure the server is, and for how long. */
import { colour } from "./draw.js";
import { $, make, write } from "./make.js";
import { clock, counted } from "./words.js";

const KEPT = 8000; // milliseconds for which somebody who has left is listed
const MOST = 24; // rows
const SAID_EVERY = 3000; // milliseconds between two announcements to screen readers

/** @typedef {{score: number, seen: number, last: number}} Entry seen, last: milliseconds. */

export class PeopleList {
  /** @type {Map<number, Entry>} By id. */
  #people = new Map();
  #shown = 0;
  #said = { count: -1, at: 0 };

  rows = /** @type {HTMLElement} */ ($("people-rows"));

  clear() {
    this.#people.clear();
    this.#shown = 0;
    this.show([], performance.now());
  }

  /** The people of a picture, who have no ids. @param {{score: number}[]} people */
  still(people) {
    this.#people.clear();
    this.#render(people.map(({ score }, n) => ({ id: n + 1, score, seen: NaN, gone: false })), people.length);
    this.#say(people.length, performance.now());
  }

  /**
   * The people of a result.
   *
   * @param {import("../client.js").Person[]} people
   * @param {number} time Milliseconds.
   */
  show(people, time) {
    for (const { id = -1, score } of people) {
      if (id < 1) continue;
      const entry = this.#people.get(id) ?? { score, seen: 0, last: time };
      entry.seen += Math.min(1000, time - entry.last);
      Object.assign(entry, { score, last: time });
      this.#people.set(id, entry);
    }
    for (const [id, { last }] of this.#people) if (time - last > KEPT) this.#people.delete(id);
    this.#say(people.length, time);
    if (time - this.#shown < 250 && this.#shown) return; // numbers that change more often cannot be read
    this.#shown = time;
    const here = new Set(people.map(({ id }) => id));
    const rows = [...this.#people].map(([id, { score, seen }]) => ({ id, score, seen, gone: !here.has(id) }));
    rows.sort((a, b) => Number(a.gone) - Number(b.gone) || a.id - b.id);
    this.#render(rows, people.length);
  }

  /** @param {{id: number, score: number, seen: number, gone: boolean}[]} people @param {number} count */
  #render(people, count) {
    const rows = people.slice(0, MOST);
    while (this.rows.children.length > rows.length) this.rows.lastElementChild?.remove();
    while (this.rows.children.length < rows.length) this.rows.append(emptyRow());
    rows.forEach(({ id, score, seen, gone }, n) => {
      const row = this.rows.children[n];
      const { chip, name, bar, percent, time } = /** @type {any} */ (row).parts;
      row.classList.toggle("gone", gone);
      chip.style.background = colour(id, 60);
      bar.style.width = `${Math.round(score * 100)}%`;
      write(name, `Person ${id}`);
      write(percent, gone ? "left" : `${Math.round(score * 100)} %`);
      write(time, isNaN(seen) ? "–" : clock(seen / 1000));
    });
    write($("people-count"), String(count));
    $("people-none").hidden = rows.length > 0;
  }

  /** @param {number} count @param {number} time */
  #say(count, time) {
    if (count === this.#said.count || (this.#said.count >= 0 && time - this.#said.at < SAID_EVERY)) return;
    this.#said = { count, at: time };
    write($("people-said"), `${counted(count, "person", "people")} in view`);
  }
}

function emptyRow() {
  const [chip, name, bar, percent, time] = ["chip", "", "", "", ""].map((className) => make("span", { className }));
  const cells = [[chip, name], [make("span", { className: "meter" }, bar), percent], [time]];
  return make("tr", { parts: { chip, name, bar, percent, time } }, ...cells.map((cell) => make("td", {}, ...cell)));
}
