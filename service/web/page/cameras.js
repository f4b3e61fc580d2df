/** The cameras that the server opens itself, and what each of them does. */
import { $, button, line, refill } from "./make.js";
import { counted, requestWords, stateWords } from "./words.js";

const EVERY = 2000; // milliseconds

export class Cameras {
  /** The one on the stage, by its name. */
  chosen = "";
  #timer = 0;

  /**
   * @param {import("../client.js").Client} client
   * @param {import("./notice.js").Notice} notice
   * @param {(name: string) => void} choose Called with the camera that shall be on the stage.
   */
  constructor(client, notice, choose) {
    this.client = client;
    this.notice = notice;
    this.choose = choose;
    document.addEventListener("visibilitychange", () => this.load());
  }

  /** Show the cameras, and again while somebody looks. */
  async load() {
    clearTimeout(this.#timer);
    if (document.hidden) return;
    try {
      this.#show(await (await this.client.request("cameras")).json());
    } catch (error) {
      if ([401, 404].includes(/** @type {any} */ (error).status)) return; // asked for elsewhere; an older server
    }
    this.#timer = window.setTimeout(() => this.load(), EVERY);
  }

  /** @param {{cameras: any[], admin: boolean}} answer */
  #show({ cameras, admin }) {
    const rows = cameras.map((camera) => ({ name: camera.name, text: words(camera), share: null }));
    $("server-cameras-panel").hidden = false;
    $("server-cameras-none").hidden = rows.length > 0;
    refill($("server-cameras"), [rows, admin, this.chosen], () =>
      rows.map((row, n) => line(row, this.#buttons(cameras[n], admin))),
    );
  }

  /** @param {{name: string, state: string}} camera @param {boolean} admin */
  #buttons({ name, state }, admin) {
    const watch = button("Watch", `Watch ${name}`, `watch ${name}`, () => this.choose(name));
    watch.setAttribute("aria-pressed", String(name === this.chosen));
    const [text, act] = state === "paused" ? ["Resume", "resume"] : ["Pause", "pause"];
    const pause = button(text, `${text} ${name}`, `pause ${name}`, async () => {
      try {
        await this.client.request(`cameras/${name}/${act}`, { method: "POST" });
      } catch (error) {
        this.notice.show(requestWords(error));
      }
      this.load();
    });
    return admin ? [watch, pause] : [watch];
  }
}

/** @param {any} camera */
function words({ state, reason, fps_done, people, age_ms }) {
  if (state !== "live") return stateWords({ state, reason });
  const figures = [`${Math.round(fps_done)} frames a second`, counted(people ?? 0, "person", "people")];
  return [...figures, ...(age_ms === null ? [] : [`${Math.round(age_ms)} ms old`])].join(", ");
}
