/** The settings of the page. They live in the URL's fragment, which is never sent to a server, so that a link shares them. */

/** @typedef {{name: string, polygon: [number, number][]}} Zone Corners as fractions of the picture. */
/** @typedef {{name: string, start: [number, number], end: [number, number]}} Line */

const DEFAULTS = {
  model: "",
  skeleton: "native",
  detect_every: "auto",
  smoothing: true,
  labels: true,
  boxes: false,
  trails: false,
  mirror: true,
  hide: false,
  zones: /** @type {Zone[]} */ ([]),
  lines: /** @type {Line[]} */ ([]),
};
/** Settings that the server must know, so that a stream has to resume with them. */
const OF_THE_SERVER = new Set(["model", "skeleton", "detect_every", "smoothing", "zones", "lines"]);

/** Dispatches `change` events; `detail.server` says whether the server must know of it. */
export class Settings extends EventTarget {
  values = structuredClone(DEFAULTS);
  /** The zones and lines of a camera that is watched. @type {{zones: Zone[], lines: Line[]} | null} */
  watched = null;
  /** @type {{name: string, title: string, skeleton: string}[]} */
  #models = [];
  /** @type {{name: string, keypoints: string[]}[]} */
  #skeletons = [];

  /** @param {HTMLFormElement} form */
  constructor(form) {
    super();
    this.form = form;
    this.#read();
    this.#show();
    form.addEventListener("change", (event) => {
      const control = /** @type {HTMLInputElement} */ (event.target);
      if (control.name) this.set({ [control.name]: control.type === "checkbox" ? control.checked : control.value });
    });
    addEventListener("hashchange", () => {
      this.#read();
      this.#show();
      this.#tell(true);
    });
  }

  /** @param {Partial<typeof DEFAULTS>} changed */
  set(changed) {
    Object.assign(this.values, changed);
    if ("model" in changed) this.values.skeleton = "native"; // another model may not have the old one's keypoints
    this.#show();
    this.#write();
    this.#tell(Object.keys(changed).some((name) => OF_THE_SERVER.has(name)));
  }

  /** @param {any[]} models Of GET /models. @param {any[]} skeletons Of GET /skeletons. */
  offer(models, skeletons) {
    [this.#models, this.#skeletons] = [models, skeletons];
    this.#show();
  }

  /** The zones and lines on the stage. */
  get regions() {
    return this.watched ?? this.values;
  }

  /** The members of a stream's hello. */
  hello() {
    const { model, skeleton, smoothing, detect_every, zones, lines } = this.values;
    return {
      model: model || null,
      skeleton,
      smoothing,
      detect_every: detect_every === "auto" ? "auto" : Number(detect_every),
      zones,
      lines,
    };
  }

  /** The parameters of POST /pose. @returns {Record<string, string>} */
  parameters() {
    const { model, skeleton } = this.values;
    return { ...(model ? { model } : {}), skeleton };
  }

  /** @param {boolean} server */
  #tell(server) {
    this.dispatchEvent(new CustomEvent("change", { detail: { server } }));
  }

  #read() {
    const given = new URLSearchParams(location.hash.slice(1));
    this.values = structuredClone(DEFAULTS);
    for (const [name, fallback] of Object.entries(DEFAULTS)) {
      const text = given.get(name);
      if (text === null) continue;
      /** @type {any} */
      let value = text;
      if (typeof fallback === "boolean") value = text === "1";
      else if (Array.isArray(fallback)) value = readShapes(name, text);
      else if (name === "detect_every" && !/^(auto|\d{1,5})$/.test(text)) continue;
      Object.assign(this.values, { [name]: value });
    }
  }

  #write() {
    const fragment = new URLSearchParams();
    for (const [name, fallback] of Object.entries(DEFAULTS)) {
      const value = /** @type {any} */ (this.values)[name];
      const text = typeof value === "boolean" ? String(Number(value)) : Array.isArray(value) ? JSON.stringify(value) : value;
      if (JSON.stringify(value) !== JSON.stringify(fallback)) fragment.set(name, text);
    }
    history.replaceState(null, "", fragment.size ? `#${fragment}` : location.pathname + location.search);
  }

  #show() {
    const { form, values } = this;
    if (this.#models.length && !this.#models.some(({ name }) => name === values.model)) values.model = "";
    if (this.#skeletons.length && !this.#skeletons.some(({ name }) => name === values.skeleton)) values.skeleton = "native";
    const model = this.#models.find(({ name }) => name === values.model) ?? this.#models[0];
    const native = this.#skeletons.find(({ name }) => name === model?.skeleton);
    const alike = this.#skeletons.filter(
      ({ name, keypoints }) => name !== native?.name && keypoints.some((point) => native?.keypoints.includes(point)),
    );
    const models = this.#models.map(({ name }, n) => [n ? name : "", n ? name : `${name} (default)`]);
    fill(form.model, models.length ? models : [["", "the server's default"]], values.model);
    const own = native ? `${native.name} (the model's own)` : "the model's own";
    fill(form.skeleton, [["native", own], ...alike.map(({ name }) => [name, name])], values.skeleton);
    form.detect_every.value = values.detect_every;
    for (const name of ["smoothing", "labels", "boxes", "trails", "mirror", "hide"]) {
      form[name].checked = /** @type {any} */ (values)[name];
    }
  }
}

/** @param {HTMLSelectElement} select @param {string[][]} options Values and texts. @param {string} chosen */
function fill(select, options, chosen) {
  const wanted = options.some(([value]) => value === chosen) ? options : [...options, [chosen, chosen]];
  select.replaceChildren(...wanted.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

/** Zones or lines of a link, which may be broken. @param {string} kind @param {string} text */
function readShapes(kind, text) {
  try {
    const point = (/** @type {any} */ p) => Array.isArray(p) && p.length === 2 && p.every((v) => v >= 0 && v <= 1);
    return JSON.parse(text)
      .slice(0, 32)
      .filter((/** @type {any} */ shape) => {
        const points = kind === "zones" ? shape.polygon : [shape.start, shape.end];
        return typeof shape.name === "string" && shape.name && points.length >= 2 && points.every(point);
      });
  } catch {
    return [];
  }
}
