/** The controls of a video file: pause, position and time. */
import { $ } from "./make.js";
import { clock } from "./words.js";

export class Playback {
  /** @type {HTMLVideoElement | null} */
  #video = null;

  constructor() {
    this.button = $("play");
    this.seek = $("seek");
    this.button.addEventListener("click", () => {
      if (this.#video?.paused) this.#video.play();
      else this.#video?.pause();
    });
    this.seek.addEventListener("input", () => {
      const { duration = NaN } = this.#video ?? {};
      if (this.#video && isFinite(duration)) this.#video.currentTime = this.seek.value * duration;
    });
  }

  /** @param {HTMLVideoElement | null} video Null hides the controls. */
  show(video) {
    this.#video = video;
    $("playback").hidden = !video;
    if (!video) return;
    for (const name of ["play", "pause", "ended", "timeupdate"]) {
      video.addEventListener(name, () => this.#video === video && this.#update(video));
    }
    this.#update(video);
  }

  /** @param {HTMLVideoElement} video */
  #update({ paused, ended, currentTime, duration }) {
    this.button.textContent = ended ? "Play again" : paused ? "Play" : "Pause";
    if (isFinite(duration)) this.seek.value = String(currentTime / duration || 0);
    this.seek.setAttribute("aria-valuetext", clock(currentTime));
    $("clock").textContent = `${clock(currentTime)}${isFinite(duration) ? ` / ${clock(duration)}` : ""}`;
  }
}
