/** Zones and lines: drawn on the stage with the mouse, a finger or the keyboard. */
import { dot, place } from "./draw.js";

/** @typedef {import("./settings.js").Zone} Zone */
/** @typedef {import("./settings.js").Line} Line */
/** @typedef {[number, number]} Point As fractions of the picture. */

const NEAR = 14; // pixels of the page at which the pointer takes a corner
const STEP = 0.01; // of the keyboard's cursor; ten times as far with Shift
const HELP = {
  zone:
    "Click the corners of the zone, and its first corner again to finish. " +
    "With the keyboard: arrow keys move, Space sets a corner, Enter finishes, Backspace takes one back, Escape ends.",
  line:
    "Click the beginning and the end of the line. " +
    "With the keyboard: arrow keys move, Space sets a point, Backspace takes one back, Escape ends.",
};

/** A region's colour, unlike those of people. @param {number} n @param {number} [alpha] */
export const regionColour = (n, alpha = 1) => `hsl(${(200 + n * 47) % 360} 95% 70% / ${alpha})`;

export class RegionEditor {
  /** @type {"zone" | "line" | ""} */
  tool = "";
  /** @type {Point[]} */
  #points = [];
  /** @type {Point} */
  #cursor = [0.5, 0.5];
  #dragged = /** @type {{shape: any, key: string | number} | null} */ (null);

  /**
   * @param {import("./view.js").View} view
   * @param {import("./settings.js").Settings} settings Has the zones and lines.
   * @param {(help: string) => void} changed Called when the tool changes.
   */
  constructor(view, settings, changed) {
    this.view = view;
    this.settings = settings;
    this.changed = changed;
    view.drawRegions = this.draw.bind(this);
    const { overlay } = view;
    overlay.addEventListener("pointerdown", (event) => this.#press(event));
    overlay.addEventListener("pointermove", (event) => this.#move(event));
    overlay.addEventListener("pointerup", () => this.#release());
    overlay.addEventListener("pointercancel", () => this.#release());
    overlay.addEventListener("keydown", (event) => this.#key(event));
  }

  /** @param {"zone" | "line" | ""} tool */
  use(tool) {
    this.tool = tool;
    this.#points = [];
    this.#cursor = [0.5, 0.5];
    this.view.stage.classList.toggle("drawing", Boolean(tool));
    if (tool) this.view.overlay.focus({ preventScroll: true });
    this.changed(tool ? HELP[tool] : "");
    this.view.draw();
  }

  /** @param {PointerEvent} event */
  #press(event) {
    const point = this.#at(event);
    if (this.tool) {
      event.preventDefault();
      this.view.overlay.focus({ preventScroll: true });
      this.#cursor = point;
      if (this.tool === "zone" && this.#points.length > 2 && this.#near(point, this.#points[0])) this.#finish();
      else this.#add(point);
      return;
    }
    if (this.settings.watched) return;
    const { zones, lines } = this.settings.values;
    for (const [shape, key, corner] of corners(zones, lines)) {
      if (!this.#near(point, corner)) continue;
      this.#dragged = { shape, key };
      this.view.overlay.setPointerCapture(event.pointerId);
      event.preventDefault();
      return;
    }
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const point = this.#at(event);
    if (this.tool) this.#cursor = point;
    if (this.#dragged) {
      const { shape, key } = this.#dragged;
      (shape.polygon ?? shape)[key] = point;
    }
    if (this.tool || this.#dragged) this.view.draw();
  }

  #release() {
    if (!this.#dragged) return;
    this.#dragged = null;
    const { zones, lines } = this.settings.values;
    this.settings.set({ zones: [...zones], lines: [...lines] });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!this.tool) return;
    const step = event.shiftKey ? 10 * STEP : STEP;
    const aside = this.view.display.mirror ? -step : step;
    const moves = { ArrowLeft: [-aside, 0], ArrowRight: [aside, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (move) this.#cursor = [within(this.#cursor[0] + move[0]), within(this.#cursor[1] + move[1])];
    else if (event.key === " ") this.#add(this.#cursor);
    else if (event.key === "Enter") this.#finish();
    else if (event.key === "Backspace") this.#points.pop();
    else if (event.key === "Escape") return this.use("");
    else return;
    event.preventDefault();
    this.view.draw();
  }

  /** @param {Point} point */
  #add(point) {
    this.#points.push([...point]);
    if (this.tool === "line" && this.#points.length === 2) this.#finish();
    else this.view.draw();
  }

  #finish() {
    const { zones, lines } = this.settings.values;
    const points = this.#points;
    if (this.tool === "zone" && points.length > 2) {
      this.settings.set({ zones: [...zones, { name: unused("Zone", zones), polygon: points }] });
    } else if (this.tool === "line" && points.length === 2) {
      this.settings.set({ lines: [...lines, { name: unused("Line", lines), start: points[0], end: points[1] }] });
    } else {
      return; // there are not enough corners yet
    }
    this.use("");
  }

  /** Where a pointer is in the picture. @param {PointerEvent} event @returns {Point} */
  #at(event) {
    const { left, top, width, height } = this.view.overlay.getBoundingClientRect();
    const x = snapped(event.clientX - left, width);
    return [this.view.display.mirror ? within(1 - x) : x, snapped(event.clientY - top, height)];
  }

  /** @param {Point} a @param {Point} b */
  #near(a, b) {
    const { clientWidth, clientHeight } = this.view.stage;
    return Math.hypot((a[0] - b[0]) * clientWidth, (a[1] - b[1]) * clientHeight) < NEAR;
  }

  /** @param {import("./draw.js").Pen} pen @param {import("./draw.js").Look & {height: number}} look */
  draw(pen, look) {
    const at = ([x, y] = [0, 0]) => place(x * look.width, y * look.height, look);
    const { zones, lines } = this.settings.regions;
    pen.save();
    pen.lineJoin = pen.lineCap = "round";
    zones.forEach(({ name, polygon }, n) => outline(pen, polygon.map(at), regionColour(n), name, true));
    lines.forEach(({ name, start, end }, n) => {
      const [a, b] = [at(start), at(end)];
      outline(pen, [a, b], regionColour(zones.length + n), name, false);
      arrow(pen, a, b, look.mirror);
    });
    if (this.tool) {
      const points = [...this.#points, this.#cursor].map(at);
      outline(pen, points, "#fff", "", this.tool === "zone" && points.length > 2);
      const { x, y } = at(this.#cursor);
      pen.lineWidth = 1.5;
      pen.strokeStyle = "#fff";
      pen.strokeRect(x - 6, y - 6, 12, 12);
    }
    pen.restore();
  }
}

/** Every corner with its shape, and its place there. @param {Zone[]} zones @param {Line[]} lines */
function* corners(zones, lines) {
  for (const zone of zones) for (const [n, corner] of zone.polygon.entries()) yield /** @type {const} */ ([zone, n, corner]);
  for (const line of lines) {
    yield /** @type {const} */ ([line, "start", line.start]);
    yield /** @type {const} */ ([line, "end", line.end]);
  }
}

/** @param {import("./draw.js").Pen} pen @param {import("./draw.js").Place[]} points @param {string} colour
 * @param {string} name @param {boolean} closed */
function outline(pen, points, colour, name, closed) {
  pen.beginPath();
  points.forEach(({ x, y }, n) => (n ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  if (closed) pen.closePath();
  pen.strokeStyle = "rgb(8 10 14 / 0.6)";
  pen.lineWidth = 5;
  pen.stroke();
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 2.5;
  pen.stroke();
  if (closed) {
    pen.globalAlpha = 0.14;
    pen.fill();
    pen.globalAlpha = 1;
  }
  for (const point of points) dot(pen, point, 4);
  if (!name) return;
  const x = points.reduce((sum, point) => sum + point.x, 0) / points.length;
  const y = points.reduce((sum, point) => sum + point.y, 0) / points.length;
  pen.font = "600 13px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.lineWidth = 3;
  pen.strokeStyle = "rgb(8 10 14 / 0.75)";
  pen.strokeText(name, x, y - 7);
  pen.fillText(name, x, y - 7);
}

/** The side that counts as right, as seen from the start. @param {import("./draw.js").Pen} pen
 * @param {import("./draw.js").Place} a @param {import("./draw.js").Place} b @param {boolean} mirror */
function arrow(pen, a, b, mirror) {
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  const side = mirror ? -1 : 1;
  const [nx, ny] = [(-(b.y - a.y) / length) * side, ((b.x - a.x) / length) * side];
  const [x, y] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
  pen.beginPath();
  pen.moveTo(x + nx * 18, y + ny * 18);
  pen.lineTo(x + nx * 6 + ny * 6, y + ny * 6 - nx * 6);
  pen.lineTo(x + nx * 6 - ny * 6, y + ny * 6 + nx * 6);
  pen.closePath();
  pen.fill();
}

/** @param {number} share */
const within = (share) => Math.min(1, Math.max(0, Math.round(share * 1000) / 1000));

/** Where a pointer is between two edges. Feet are often at an edge itself. @param {number} at @param {number} length */
function snapped(at, length) {
  if (at < NEAR) return 0;
  return at > length - NEAR ? 1 : within(at / length);
}

/** @param {string} word @param {{name: string}[]} shapes */
function unused(word, shapes) {
  for (let n = 1; ; n++) if (!shapes.some(({ name }) => name === `${word} ${n}`)) return `${word} ${n}`;
}
