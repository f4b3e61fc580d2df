/** Three people who walk across the empty stage: what the page does, before it has a picture. */
import { drawPeople } from "./draw.js";

const NAMES = ["head", "neck", "hip", "l_elbow", "l_hand", "r_elbow", "r_hand", "l_knee", "l_foot", "r_knee", "r_foot"];
/** @type {import("./draw.js").Skeleton} */
const SKELETON = {
  keypoints: NAMES,
  limbs: [[0, 1], [1, 2], [1, 3], [3, 4], [1, 5], [5, 6], [2, 7], [7, 8], [2, 9], [9, 10]],
  sides: NAMES.map((name) => (name.startsWith("l_") ? "left" : name.startsWith("r_") ? "right" : "middle")),
  fine: NAMES.map(() => false),
};
const WALKERS = [
  { id: 3, start: 0.2, height: 205, pace: 1 },
  { id: 1, start: 0.52, height: 230, pace: 0.86 },
  { id: 2, start: 0.82, height: 190, pace: 1.12 },
];

/**
 * Animate the canvas while it is shown; it stands still for those who want less motion.
 *
 * @param {HTMLCanvasElement} canvas
 */
export function animate(canvas) {
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const ratio = Math.min(2, devicePixelRatio || 1);
  const { width, height } = canvas;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const step = (/** @type {number} */ time) => {
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const look = { width, scale: 1, mirror: false, boxes: false, labels: true };
    const seconds = still ? 0.35 : time / 1000;
    drawPeople(pen, WALKERS.map((walker) => walk(walker, seconds, width, height)), SKELETON, look);
    if (!still && canvas.offsetParent) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

/**
 * A person who walks to the right, and comes back in from the left.
 *
 * @param {{id: number, start: number, height: number, pace: number}} walker
 * @param {number} seconds @param {number} width @param {number} ground
 * @returns {import("./draw.js").Figure}
 */
function walk({ id, start, height, pace }, seconds, width, ground) {
  const phase = 4.6 * pace * seconds + id;
  const room = width + 160;
  const x = ((start * width + 80 + 46 * pace * seconds) % room) - 80;
  const part = (/** @type {number} */ share) => share * height;
  const hip = { x, y: ground - part(0.47) - 8 - part(0.012) * Math.cos(2 * phase) };
  const neck = { x: x + part(0.02), y: hip.y - part(0.31) };
  /** A limb of two parts. @param {{x: number, y: number}} from */
  const limb = (from, /** @type {number} */ angle, /** @type {number} */ bend, /** @type {number} */ length) => {
    const middle = { x: from.x + part(length) * Math.sin(angle), y: from.y + part(length) * Math.cos(angle) };
    const end = { x: middle.x + part(length) * Math.sin(angle + bend), y: middle.y + part(length) * Math.cos(angle + bend) };
    return [middle, end];
  };
  const swing = Math.sin(phase);
  const lift = (/** @type {number} */ s) => -0.15 - 0.65 * Math.max(0, s);
  const points = [
    { x: neck.x + part(0.02), y: neck.y - part(0.13) },
    neck,
    hip,
    ...limb(neck, -0.5 * swing, 0.35, 0.16),
    ...limb(neck, 0.5 * swing, 0.35, 0.16),
    ...limb(hip, 0.46 * swing, lift(Math.cos(phase)), 0.235),
    ...limb(hip, -0.46 * swing, lift(-Math.cos(phase)), 0.235),
  ];
  const top = points[0].y - part(0.06);
  return {
    id,
    name: `Person ${id}`,
    score: 1,
    box: [x - part(0.4), top, x + part(0.4), ground],
    keypoints: points.map((point) => /** @type {[number, number, number]} */ ([point.x, point.y, 1])),
  };
}
