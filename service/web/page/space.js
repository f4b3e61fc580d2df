/** Skeletons in space, from models that give keypoints in metres. Turned by dragging or with the arrow keys. */
import { colour, dot, segment } from "./draw.js";
import { $, clearedPen } from "./make.js";

const APART = 1.1; // metres between two people side by side
const MOST = 3; // people
const TURN = Math.PI / 24; // by an arrow key

export class Space {
  /** @type {import("./draw.js").Figure[]} */
  #people = [];
  #yaw = 0.5;
  #pitch = -0.15;
  /** @type {import("./draw.js").Skeleton | null} */
  #skeleton = null;

  panel = $("space-panel");
  canvas = /** @type {HTMLCanvasElement} */ ($("space"));

  constructor() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.#turn(event.movementX / 90, event.movementY / 90);
    });
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [-TURN, 0], ArrowRight: [TURN, 0], ArrowUp: [0, -TURN], ArrowDown: [0, TURN] };
      const turn = turns[/** @type {keyof typeof turns} */ (event.key)];
      if (!turn) return;
      event.preventDefault();
      this.#turn(turn[0], turn[1]);
    });
  }

  /** @param {import("./draw.js").Figure[]} people @param {import("./draw.js").Skeleton | null} skeleton */
  show(people, skeleton) {
    this.#people = people.filter(({ keypoints_3d }) => keypoints_3d?.length).slice(0, MOST);
    this.#skeleton = skeleton;
    if (this.#people.length) this.panel.hidden = false;
    if (!this.panel.hidden) this.#draw();
  }

  clear() {
    this.#people = [];
    this.panel.hidden = true;
  }

  /** @param {number} yaw @param {number} pitch Radians. */
  #turn(yaw, pitch) {
    this.#yaw += yaw;
    this.#pitch = Math.max(-1.4, Math.min(1.4, this.#pitch + pitch));
    this.#draw();
  }

  #draw() {
    const { pen, width, height } = clearedPen(this.canvas);
    pen.lineCap = "round";
    const metre = height / 2.3 / Math.max(1, (this.#people.length * APART) / 3);
    const [cy, sy, cp, sp] = [Math.cos(this.#yaw), Math.sin(this.#yaw), Math.cos(this.#pitch), Math.sin(this.#pitch)];
    /** @param {number} x @param {number} y @param {number} z */
    const project = (x, y, z) => {
      const [turned, deep] = [x * cy + z * sy, z * cy - x * sy];
      const far = 4 / (4 + deep * cp + y * sp); // a camera at 4 m
      return { x: width / 2 + turned * metre * far, y: height * 0.46 + (y * cp - deep * sp) * metre * far };
    };
    pen.strokeStyle = getComputedStyle(this.canvas).color;
    for (let step = -1; step <= 1.01; step += 0.25) {
      for (const [a, b] of [[project(step, 1, -1), project(step, 1, 1)], [project(-1, 1, step), project(1, 1, step)]]) {
        segment(pen, a, b);
      }
    }
    this.#people.forEach((person, n) => {
      const aside = (n - (this.#people.length - 1) / 2) * APART;
      const points = (person.keypoints_3d ?? []).map(([x, y, z]) => project(x + aside, y, z));
      pen.strokeStyle = colour(person.id ?? 0, 58);
      pen.fillStyle = colour(person.id ?? 0, 50);
      pen.lineWidth = 3;
      for (const [a, b] of this.#skeleton?.limbs ?? []) if (points[a] && points[b]) segment(pen, points[a], points[b]);
      for (const point of points) dot(pen, point, 2.4);
    });
  }
}
