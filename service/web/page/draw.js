/** Skeletons, boxes, names and trails on a canvas. */

/**
 * Which keypoints are connected, and on which side of the body each one is.
 *
 * @typedef {object} Skeleton
 * @property {[number, number][]} limbs Indices of keypoints.
 * @property {("left" | "right" | "middle")[]} sides Of each keypoint.
 * @property {boolean[]} fine Of each keypoint: whether it belongs to a hand or a face of a whole body.
 * @property {string[]} keypoints
 */

/**
 * @typedef {object} Look
 * @property {number} width Of the picture, in its pixels.
 * @property {number} scale Pixels of the canvas for one of the picture.
 * @property {boolean} mirror
 * @property {boolean} boxes
 * @property {boolean} labels
 */

/** @typedef {{x: number, y: number}} Place On the canvas. */
/** @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Pen */
/** @typedef {import("../client.js").Person & {name?: string, fade?: number}} Figure */

const LOWEST_SCORE = 0.3;
const LIGHTNESS = { left: 72, middle: 64, right: 55 };
const FINE = /face|hand|thumb|finger|pinky|palm/;
const SMALL = 500; // a stage that is less wide has no room for whole names
const BODY = 40; // skeletons with more keypoints than this have hands or faces

/** A person's colour: hues of consecutive ids are far apart. @param {number} id @param {number} [lightness] */
export function colour(id, lightness = LIGHTNESS.middle) {
  return id < 1 ? `hsl(215 10% ${lightness + 8}%)` : `hsl(${((id * 137.508) % 360).toFixed(1)} 92% ${lightness}%)`;
}

/**
 * @param {{keypoints: string[], limbs: [string, string][], pairs: [string, string][]}} info Of GET /skeletons.
 * @returns {Skeleton}
 */
export function readSkeleton({ keypoints, limbs, pairs }) {
  const index = new Map(keypoints.map((name, k) => [name, k]));
  const left = new Set(pairs.map(([a]) => a));
  const right = new Set(pairs.map(([, b]) => b));
  return {
    keypoints,
    limbs: limbs.map(([a, b]) => /** @type {[number, number]} */ ([index.get(a), index.get(b)])),
    sides: keypoints.map((name) => (left.has(name) ? "left" : right.has(name) ? "right" : "middle")),
    fine: keypoints.map((name) => keypoints.length > BODY && FINE.test(name)),
  };
}

/**
 * Draw people, the best one on top.
 *
 * @param {Pen} pen
 * @param {Figure[]} people
 * @param {Skeleton} skeleton
 * @param {Look} look
 */
export function drawPeople(pen, people, skeleton, look) {
  pen.save();
  pen.lineCap = pen.lineJoin = "round";
  for (const person of [...people].reverse()) {
    pen.globalAlpha = person.fade ?? 1;
    if (look.boxes) drawBox(pen, person, look);
    drawSkeleton(pen, person, skeleton, look);
  }
  if (look.labels) for (const person of people) drawLabel(pen, person, look);
  pen.restore();
}

/** @param {Pen} pen @param {Figure} person @param {Skeleton} skeleton @param {Look} look */
function drawSkeleton(pen, person, skeleton, look) {
  const [x1, y1, x2, y2] = person.box;
  const size = Math.sqrt(Math.max(1, (x2 - x1) * (y2 - y1))) * look.scale;
  const thick = Math.max(2, Math.min(9, size / 45));
  const id = person.id ?? 0;
  const points = person.keypoints.map(([x, y, score]) => ({ ...place(x, y, look), score }));
  const visible = ({ x = 0, y = 0, score = 0 }) => score >= LOWEST_SCORE && isFinite(x) && isFinite(y);
  const limbs = skeleton.limbs.filter(([a, b]) => points[a] && points[b] && visible(points[a]) && visible(points[b]));
  const alpha = pen.globalAlpha;

  pen.strokeStyle = "rgb(8 10 14 / 0.55)"; // an outline, so that limbs are seen before any picture
  pen.beginPath();
  for (const [a, b] of limbs) {
    if (skeleton.fine[a] && skeleton.fine[b]) continue;
    pen.moveTo(points[a].x, points[a].y);
    pen.lineTo(points[b].x, points[b].y);
  }
  pen.lineWidth = thick + Math.max(1.5, thick * 0.55);
  pen.stroke();

  for (const [a, b] of limbs) {
    const side = skeleton.sides[a] === skeleton.sides[b] ? skeleton.sides[a] : "middle";
    const fine = skeleton.fine[a] && skeleton.fine[b];
    pen.globalAlpha = alpha * confidence(Math.min(points[a].score, points[b].score));
    pen.strokeStyle = colour(id, LIGHTNESS[side]);
    pen.lineWidth = fine ? Math.max(1, thick * 0.35) : thick;
    segment(pen, points[a], points[b]);
  }
  points.forEach((point, k) => {
    if (!visible(point)) return;
    const radius = skeleton.fine[k] ? Math.max(0.8, thick * 0.3) : Math.max(1.6, thick * 0.62);
    pen.globalAlpha = alpha * confidence(point.score);
    pen.fillStyle = colour(id, LIGHTNESS[skeleton.sides[k] ?? "middle"]);
    dot(pen, point, radius + (skeleton.fine[k] ? 0 : 1));
    pen.fillStyle = "#fff";
    dot(pen, point, radius * 0.6);
  });
  pen.globalAlpha = alpha;
}

/** @param {Pen} pen @param {Figure} person @param {Look} look */
function drawBox(pen, person, look) {
  const [x1, y1, x2, y2] = person.box;
  const a = place(x1, y1, look);
  const b = place(x2, y2, look);
  pen.strokeStyle = colour(person.id ?? 0);
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.roundRect(Math.min(a.x, b.x), a.y, Math.abs(b.x - a.x), b.y - a.y, 6);
  pen.stroke();
}

/** @param {Pen} pen @param {Figure} person @param {Look} look */
function drawLabel(pen, person, look) {
  if (!person.name) return;
  const [x1, y1, x2] = person.box;
  const { x, y } = place((x1 + x2) / 2, y1, look);
  pen.globalAlpha = person.fade ?? 1;
  pen.font = "600 13px system-ui, sans-serif";
  const name = look.width * look.scale < SMALL ? `${person.id}` : person.name;
  const width = pen.measureText(name).width + 14;
  const bottom = Math.max(24, y - 10);
  const middle = Math.max(width / 2 + 3, Math.min(look.width * look.scale - width / 2 - 3, x));
  pen.fillStyle = "rgb(12 15 20 / 0.82)";
  pen.beginPath();
  pen.roundRect(middle - width / 2, bottom - 21, width, 21, 10.5);
  pen.fill();
  pen.fillStyle = colour(person.id ?? 0, 76);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(name, middle, bottom - 10);
}

/**
 * Draw where people have been.
 *
 * @param {Pen} pen
 * @param {Map<number, {x: number, y: number, age: number}[]>} trails By id, oldest first. age: 0 (now) to 1.
 * @param {Look} look
 */
export function drawTrails(pen, trails, look) {
  pen.save();
  pen.lineCap = "round";
  pen.lineWidth = 3;
  for (const [id, points] of trails) {
    pen.strokeStyle = colour(id);
    for (let k = 1; k < points.length; k++) {
      pen.globalAlpha = 0.8 * (1 - points[k].age);
      segment(pen, place(points[k - 1].x, points[k - 1].y, look), place(points[k].x, points[k].y, look));
    }
  }
  pen.restore();
}

/** Where a pixel of the picture is on the canvas. @param {number} x @param {number} y @param {Look} look */
export function place(x, y, { width, scale, mirror }) {
  return { x: (mirror ? width - x : x) * scale, y: y * scale };
}

/** Opacity by score. @param {number} score */
const confidence = (score) => 0.35 + 0.65 * Math.min(1, Math.max(0, (score - LOWEST_SCORE) / 0.3));

/** @param {Pen} pen @param {Place} a @param {Place} b */
export function segment(pen, a, b) {
  pen.beginPath();
  pen.moveTo(a.x, a.y);
  pen.lineTo(b.x, b.y);
  pen.stroke();
}

/** @param {Pen} pen @param {Place} middle @param {number} radius */
export function dot(pen, { x, y }, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}
