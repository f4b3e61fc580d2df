/** The line above the picture that says what is wrong, and asks for the API key. */

import { $, write } from "./make.js";

const SHORT = 6000; // milliseconds for which good news is shown

export class Notice {
  #about = "";
  #timer = 0;

  /** @param {(key: string) => void} useKey */
  constructor(useKey) {
    this.box = $("notice");
    this.text = $("notice-text");
    this.form = $("key-form");
    this.input = $("key");
    $("notice-close").addEventListener("click", () => this.clear());
    this.form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      const key = this.input.value.trim();
      this.input.value = "";
      this.clear();
      if (key) useKey(key);
    });
  }

  /** @param {string} words Nothing is shown without any. @param {string} [about] `good` goes away by itself. */
  show(words, about = "") {
    if (!words) return;
    clearTimeout(this.#timer);
    this.#about = about;
    this.form.hidden = true;
    this.box.dataset.kind = about === "good" ? "good" : "bad";
    this.box.hidden = false;
    write(this.text, words);
    if (about === "good") this.#timer = window.setTimeout(() => this.clear("good"), SHORT);
  }

  /** @param {boolean} wrong Whether there was a key, which the server does not know. */
  askKey(wrong) {
    this.show(wrong ? "The server does not know this API key. Enter another one." : "This server asks for an API key.", "key");
    this.form.hidden = false;
    this.input.focus();
  }

  /** @param {string} [about] Only what was shown about this. */
  clear(about) {
    if (about !== undefined && about !== this.#about) return;
    clearTimeout(this.#timer);
    this.box.hidden = this.form.hidden = true;
    this.text.textContent = "";
  }
}
