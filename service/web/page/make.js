/** Finds, makes and fills elements of the page. */

/** @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

/** Writes only what has changed, so that screen readers say nothing twice. @param {Element} element @param {string} text */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {HTMLInputElement} input @param {(file: File) => void} act Called with each file that is chosen. */
export function onFile(input, act) {
  input.addEventListener("change", () => {
    const [file] = input.files ?? [];
    input.value = ""; // so that the same file can be chosen again
    if (file) act(file);
  });
}

/** Clear a canvas, which becomes as sharp as the screen. @param {HTMLCanvasElement} canvas Its size is that on the page. */
export function clearedPen(canvas) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.scale(ratio, ratio);
  return { pen, width, height };
}

/**
 * @param {string} tag @param {Record<string, any>} [properties] label: for screen readers.
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function make(tag, { label = "", ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (label) made.setAttribute("aria-label", label);
  made.append(...children);
  return made;
}

/** Replace the lines of a list if what it shows has changed; the focus stays.
 * @param {HTMLElement} list @param {any} shown @param {() => HTMLElement[]} lines */
export function refill(list, shown, lines) {
  const key = JSON.stringify(shown);
  if (list.dataset.shown === key) return;
  list.dataset.shown = key;
  const focused = document.activeElement?.getAttribute("data-focus");
  list.replaceChildren(...lines());
  if (focused) /** @type {any} */ (list.querySelector(`[data-focus="${CSS.escape(focused)}"]`))?.focus();
}

/** @param {{name: string, text: string, share: number | null}} row @param {HTMLElement[]} buttons */
export function line({ name, text, share }, buttons) {
  const title = make("span", { className: "name" }, name);
  const heading = make("span", { className: "heading" }, title, make("span", { className: "muted" }, ` ${text}`));
  const bar = share === null ? [] : [make("progress", { max: 1, value: share, label: `Progress of ${name}` })];
  return make("li", {}, heading, make("span", { className: "actions" }, ...buttons), ...bar);
}

/** @param {string} text @param {string} label @param {string} focus Finds it again in a new list.
 * @param {() => void} act */
export function button(text, label, focus, act) {
  const made = make("button", { label, onclick: act }, text);
  made.dataset.focus = focus;
  return made;
}
