/** Whole videos as jobs: upload, progress, and the drawn result with its data beside it. */
import { $, button, line, make, onFile, refill } from "./make.js";
import { save } from "./recording.js";
import { clock, counted, requestWords } from "./words.js";

const POLL = 1000; // milliseconds between two looks at jobs that are not done
const MOST_DATA = 20e6; // characters of a result that are shown beside the video; more fills the memory of a phone
const RESULTS = { CSV: "csv", JSON: "json", PoseTrack: "posetrack", COCO: "coco" };

/**
 * @typedef {object} Job
 * @property {string} id
 * @property {string} name
 * @property {"queued" | "running" | "done" | "failed"} state
 * @property {number | null} percent
 * @property {number | null} fps
 * @property {number | null} seconds_left
 * @property {{detail: string} | null} error
 * @property {{poses: string, video: string, self: string}} links
 */

export class Jobs {
  #timer = 0;
  /** @type {{name: string, share: number, request: XMLHttpRequest}[]} */
  #uploads = [];
  /** @type {Job[]} */
  #jobs = [];

  /**
   * @param {import("../client.js").Client} client
   * @param {import("./settings.js").Settings} settings Their model and skeleton are those of the jobs.
   * @param {import("./notice.js").Notice} notice
   */
  constructor(client, settings, notice) {
    this.client = client;
    this.settings = settings;
    this.notice = notice;
    this.panel = $("jobs-panel");
    this.list = $("jobs");
    this.player = $("job-player");
    $("job-open").addEventListener("click", () => $("job-file").click());
    onFile($("job-file"), (file) => this.upload(file));
  }

  /** Show the jobs, or nothing where the server takes none. */
  async load() {
    clearTimeout(this.#timer);
    try {
      this.#jobs = (await (await this.client.request("videos")).json()).videos;
      this.panel.hidden = false;
    } catch (error) {
      if (/** @type {any} */ (error).status === 404) this.panel.hidden = true;
      return;
    } finally {
      this.#show();
    }
    const busy = this.#jobs.some(({ state }) => state === "queued" || state === "running");
    if (busy) this.#timer = window.setTimeout(() => this.load(), POLL);
  }

  /** @param {File} file */
  upload(file) {
    const url = new URL("videos", this.client.url);
    const parameters = { name: file.name, ...this.settings.parameters() };
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    const request = new XMLHttpRequest(); // fetch tells nothing of the progress of an upload
    const upload = { name: file.name, share: 0, request };
    request.open("POST", url);
    request.setRequestHeader("content-type", "application/octet-stream");
    if (this.client.key) request.setRequestHeader("x-api-key", this.client.key);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => {
      upload.share = loaded / (total || 1);
      this.#show();
    };
    request.onerror = () => this.notice.show(`${file.name} could not be sent to the server.`, "job");
    request.onloadend = () => {
      this.#uploads = this.#uploads.filter((other) => other !== upload);
      if (request.status === 202) this.notice.clear("job");
      else if (request.status) {
        const why = request.response?.detail ?? `the server answered ${request.status}`;
        this.notice.show(`${file.name} was not taken: ${why}`, "job");
      }
      this.load();
    };
    this.#uploads.push(upload);
    request.send(file);
    this.#show();
  }

  #show() {
    const rows = [
      ...this.#uploads.map(({ name, share }) => ({ name, text: `sending, ${Math.round(100 * share)} %`, share })),
      ...this.#jobs.map((job) => ({ name: job.name, ...progress(job) })),
    ];
    refill(this.list, [rows, this.#jobs.map(({ id }) => id)], () =>
      rows.map((row, n) => {
        const upload = this.#uploads[n];
        const buttons = upload
          ? [button("Cancel", `Cancel sending ${row.name}`, `cancel ${row.name}`, () => upload.request.abort())]
          : this.#buttons(this.#jobs[n - this.#uploads.length]);
        return line(row, buttons);
      }),
    );
  }

  /** @param {Job} job */
  #buttons(job) {
    const { id, name, state } = job;
    const play = button("Play", `Play ${name}`, `play ${id}`, () => this.#play(job));
    const remove = button(
      state === "done" || state === "failed" ? "Delete" : "Cancel",
      `Delete ${name}`,
      `remove ${id}`,
      async () => {
        await this.#get(job.links.self, { method: "DELETE" });
        if (this.player.dataset.job === id) this.#close();
        this.load();
      },
    );
    return state === "done" ? [play, remove] : [remove];
  }

  /** Play the drawn video, with the people of its current frame beside it. @param {Job} job */
  async #play(job) {
    this.#close();
    this.player.dataset.job = job.id;
    const playing = { controls: true, playsInline: true, autoplay: true, muted: true };
    const video = make("video", { ...playing, label: `${job.name} with skeletons` });
    const data = make("pre", { label: "The people of this frame", tabIndex: 0 }); // to be scrolled with the keyboard
    const saves = Object.entries(RESULTS).map(([word, format]) =>
      button(word, `Download ${word}`, `save ${format}`, async () => {
        const response = await this.#get(`${job.links.poses}?format=${format}`);
        if (response) save(await response.blob(), `${job.name}.${format === "csv" ? "csv" : `${format}.json`}`);
      }),
    );
    this.player.replaceChildren(video, make("div", {}, data, make("p", { className: "actions" }, ...saves)));
    this.player.hidden = false;
    // A video element cannot send a key, so the whole video is fetched where one is needed.
    const whole = this.client.key ? await this.#get(job.links.video) : null;
    video.src = whole ? URL.createObjectURL(await whole.blob()) : new URL(job.links.video, this.client.url).href;
    const frames = await this.#frames(job);
    const show = () => {
      const next = frames.findIndex(({ time }) => time > video.currentTime + 0.001);
      data.textContent = words(frames[next < 0 ? frames.length - 1 : Math.max(0, next - 1)]);
    };
    for (const name of ["timeupdate", "seeked", "loadeddata"]) video.addEventListener(name, show);
    show();
  }

  /** @param {Job} job @returns {Promise<{time: number, frame: number, people: any[]}[]>} */
  async #frames(job) {
    const response = await this.#get(`${job.links.poses}?format=ndjson`);
    if (!response?.body) return [];
    let text = "";
    const decoder = new TextDecoderStream();
    for await (const piece of /** @type {any} */ (response.body.pipeThrough(/** @type {any} */ (decoder)))) {
      text += piece;
      if (text.length > MOST_DATA) break;
    }
    const lines = text.split("\n");
    return lines.slice(0, -1).map((line) => JSON.parse(line)); // the last one is empty, or was cut
  }

  /** @param {string} path @param {RequestInit} [init] */
  async #get(path, init) {
    try {
      return await this.client.request(path, init);
    } catch (error) {
      this.notice.show(requestWords(error), "job");
      return null;
    }
  }

  #close() {
    const video = this.player.querySelector("video");
    if (video?.src.startsWith("blob:")) URL.revokeObjectURL(video.src);
    this.player.replaceChildren();
    this.player.hidden = true;
    delete this.player.dataset.job;
  }
}

/** @param {Job} job @returns {{text: string, share: number | null}} */
function progress({ state, percent, fps, seconds_left: left, error }) {
  if (state === "failed") return { text: `failed: ${error?.detail ?? "the server does not say why"}`, share: null };
  if (state === "done") return { text: error ? `done, but ${error.detail}` : "done", share: null };
  if (state === "queued") return { text: "waiting for its turn", share: 0 };
  const figures = [
    percent === null ? "" : `${Math.round(percent)} %`,
    fps ? `${fps.toFixed(0)} frames a second` : "",
    left === null ? "" : `${clock(left)} left`,
  ];
  return { text: figures.filter(Boolean).join(", ") || "running", share: (percent ?? 0) / 100 };
}

/** @param {{time: number, frame: number, people: any[]} | undefined} frame */
function words(frame) {
  if (!frame) return "No frame.";
  const people = frame.people.map(({ id, score, box }) => {
    const corners = box.map((/** @type {number} */ side) => Math.round(side)).join(", ");
    return `${id > 0 ? `Person ${id}` : "Somebody"}  ${Math.round(100 * score)} %  [${corners}]`;
  });
  const count = counted(people.length, "person", "people");
  return [`Frame ${frame.frame}, ${frame.time.toFixed(2)} s: ${count}`, ...people].join("\n");
}
