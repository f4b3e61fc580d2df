/** Makes the elements of lists. */

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
  const made = make("button", { type: "button", label, onclick: act }, text);
  made.dataset.focus = focus;
  return made;
}
