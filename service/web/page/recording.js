/** The last results, to download as JSON or CSV. */

const MOST = 1800; // results: a minute of 30 a second

export class Recording {
  /** @type {object[]} */
  #frames = [];
  #began = 0;
  /** @type {Record<string, unknown>} */
  #about = {};

  clear() {
    this.#frames = [];
  }

  /**
   * A result of a stream.
   *
   * @param {import("../connection.js").Result} result
   * @param {{model: string, skeleton: string, keypoints: string[]}} welcome
   */
  add({ frame, timestamp, width, height, people, events }, { model, skeleton, keypoints }) {
    if (!this.#frames.length) this.#began = timestamp;
    this.#about = { width, height, model, skeleton, keypoints };
    const time = Math.round(timestamp - this.#began) / 1000;
    this.#frames.push({ frame, time, people, ...(events?.length ? { events } : {}) });
    if (this.#frames.length > MOST) this.#frames.shift();
  }

  /** The answer for a picture. @param {import("../client.js").PoseAnswer} answer @param {string[]} keypoints */
  still({ width, height, model, skeleton, people }, keypoints) {
    this.#about = { width, height, model, skeleton, keypoints };
    this.#frames = [{ frame: 0, time: 0, people }];
  }

  /** As `posewire video --poses` writes it. */
  json() {
    return new Blob([JSON.stringify({ ...this.#about, frames: this.#frames })], { type: "application/json" });
  }

  /** One row for each keypoint, as in `posewire video --poses` and CSV. */
  csv() {
    const rows = ["frame,time,person,id,score,keypoint,x,y,keypoint_score"];
    const names = /** @type {string[]} */ (this.#about.keypoints ?? []);
    for (const { frame, time, people } of /** @type {any[]} */ (this.#frames)) {
      people.forEach((/** @type {import("../client.js").Person} */ { id, score, keypoints }, /** @type {number} */ n) => {
        keypoints.forEach(([x, y, sure], k) => {
          const cells = [x.toFixed(2), y.toFixed(2), sure.toFixed(3)];
          rows.push([frame, time.toFixed(3), n, id ?? "", score.toFixed(3), names[k] ?? k, ...cells].join(","));
        });
      });
    }
    return new Blob([`${rows.join("\n")}\n`], { type: "text/csv" });
  }
}

/** @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser has read it by then
}
