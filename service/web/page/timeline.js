/**
 * Results and pictures of the last moments, so that each is shown when its time has come.
 *
 * A result arrives later than its picture. Pictures are therefore shown with a delay that is as long as results usually
 * take, so that a skeleton lies on its own picture. In pictures without a result, people are interpolated between the
 * two results around it, or move on as they did where results are so frequent that this is not seen.
 */

/** @typedef {import("./draw.js").Figure} Figure */
/** @typedef {VideoFrame | ImageBitmap} Picture */
/** @typedef {{time: number, people: Figure[], width: number, height: number}} Moment time: of capture, milliseconds. */

const REMEMBERED = 64; // results
const OBSERVED = 30; // latencies from which the delay is derived
const LONGEST_DELAY = 1500; // milliseconds
const FURTHER = 40; // milliseconds for which people move on as they did before
const STALE = 700; // milliseconds after which people without a newer result are no longer shown
const TRAIL = 1500; // milliseconds
const MOST_FRAMES = 8; // a camera has only so many buffers, and stops while all of them are in use

/** @type {Figure[]} */
const NOBODY = [];

/** The results, by the time at which their frames were captured. */
export class Timeline {
  /** How many milliseconds pictures wait for their results. */
  delay = 0;
  /** @type {Moment[]} Oldest first. */
  moments = [];
  #latencies = /** @type {number[]} */ ([]);
  #intervals = /** @type {number[]} */ ([]);

  clear() {
    this.moments = [];
    this.#intervals = [];
  }

  /**
   * @param {Moment} moment
   * @param {number} latency Milliseconds from the capture until the result was here.
   * @param {number} between Milliseconds between two pictures of the source.
   */
  add(moment, latency, between) {
    const last = this.moments.at(-1);
    if (last && moment.time <= last.time) return;
    if (last) remember(this.#intervals, moment.time - last.time);
    this.waited(latency);
    this.moments.push(moment);
    if (this.moments.length > REMEMBERED) this.moments.shift();
    // Where results are frequent, people move on until the next one. Otherwise there must be one to interpolate to.
    const gap = this.#intervals.length ? quantile(this.#intervals, 0.7) - between : 0;
    const wanted = Math.min(LONGEST_DELAY, quantile(this.#latencies, 0.7) + (gap > FURTHER ? gap : 0));
    // Too short a delay takes skeletons off their people, so it grows faster than it shrinks.
    this.delay = this.delay ? this.delay + (wanted - this.delay) / (wanted > this.delay ? 2 : 8) : wanted;
  }

  /** A result or picture has arrived. @param {number} latency Milliseconds since its capture. */
  waited(latency) {
    remember(this.#latencies, latency);
  }

  /**
   * The people at a time, from the two results around it or the last two before it.
   *
   * @param {number} time
   * @returns {Figure[]}
   */
  at(time) {
    const next = this.moments.findIndex((moment) => moment.time > time);
    const [before, after] = next ? this.moments.slice(next < 0 ? -2 : next - 1).slice(0, 2) : [];
    const last = after?.time <= time ? after : before;
    if (!last || time - last.time > STALE) return NOBODY;
    if (!after || last.time === time) return last.people;
    const shown = Math.min(time, after.time + FURTHER);
    return between(before.people, after.people, (shown - before.time) / (after.time - before.time));
  }

  /**
   * Where people were before a time.
   *
   * @param {number} time
   * @returns {Map<number, {x: number, y: number, age: number}[]>} By id, see `drawTrails`.
   */
  trails(time) {
    /** @type {ReturnType<Timeline["trails"]>} */
    const trails = new Map();
    for (const moment of this.moments) {
      const age = (time - moment.time) / TRAIL;
      for (const { id = 0, box } of age >= 0 && age <= 1 ? moment.people : NOBODY) {
        const point = { x: (box[0] + box[2]) / 2, y: box[3], age };
        if (id > 0) trails.set(id, [...(trails.get(id) ?? []), point]);
      }
    }
    return trails;
  }
}

/** The pictures that wait to be shown. */
export class Pictures {
  /** @type {{frame: Picture, time: number}[]} */
  #waiting = [];

  /**
   * @param {Picture} frame
   * @param {number} time
   * @param {number} delay How long it will wait, milliseconds. Where that is long, some pictures are left out.
   */
  put(frame, time, delay) {
    const last = this.#waiting.at(-1);
    if (last && time - last.time < delay / MOST_FRAMES) return frame.close();
    this.#waiting.push({ frame, time });
    if (this.#waiting.length > 2 * MOST_FRAMES) this.#waiting.shift()?.frame.close();
  }

  /** The newest picture that was captured by then, if it was not taken before. @param {number} time */
  take(time) {
    let taken = null;
    while (this.#waiting.length && this.#waiting[0].time <= time) {
      taken?.close();
      taken = /** @type {{frame: Picture}} */ (this.#waiting.shift()).frame;
    }
    return taken;
  }

  clear() {
    for (const { frame } of this.#waiting) frame.close();
    this.#waiting = [];
  }
}

/**
 * @param {Figure[]} before @param {Figure[]} after
 * @param {number} share 0 for the people of `before`, 1 for those of `after`, more for where they go from there.
 * @returns {Figure[]}
 */
function between(before, after, share) {
  const earlier = new Map(before.filter(({ id = 0 }) => id > 0).map((person) => [person.id, person]));
  const people = after.map((person) => {
    const then = earlier.get(person.id);
    if (then?.keypoints.length !== person.keypoints.length) return { ...person, fade: Math.min(1, share) };
    earlier.delete(person.id);
    const mix = (/** @type {any} */ a, /** @type {any} */ b) =>
      a.map((/** @type {number} */ value, /** @type {number} */ n) => value + (b[n] - value) * share);
    return {
      ...person,
      box: mix(then.box, person.box),
      keypoints: person.keypoints.map((point, k) => mix(then.keypoints[k], point)),
      ...(person.keypoints_3d && then.keypoints_3d
        ? { keypoints_3d: person.keypoints_3d.map((point, k) => mix(then.keypoints_3d?.[k], point)) }
        : {}),
    };
  });
  return share < 1 ? [...people, ...[...earlier.values()].map((person) => ({ ...person, fade: 1 - share }))] : people;
}

/** @param {number[]} values @param {number} value */
function remember(values, value) {
  values.push(value);
  if (values.length > OBSERVED) values.shift();
}

/** @param {number[]} values @param {number} share Less than 1. @returns {number} NaN without values. */
export function quantile(values, share) {
  return [...values].sort((a, b) => a - b)[Math.floor(share * values.length)] ?? NaN;
}
