/** The page: opens cameras, videos and pictures, and connects the parts that show what the server finds. */
import { Client, openCamera } from "../client.js";
import { animate } from "./art.js";
import { Cameras } from "./cameras.js";
import { Counts } from "./counts.js";
import { readSkeleton } from "./draw.js";
import { Figures } from "./figures.js";
import { Jobs } from "./jobs.js";
import { Live, named, openVideo } from "./live.js";
import { $, onFile, write } from "./make.js";
import { Notice } from "./notice.js";
import { PeopleList } from "./people.js";
import { Playback } from "./playback.js";
import { readPicture } from "./picture.js";
import { Recording, save } from "./recording.js";
import { RegionEditor } from "./regions.js";
import { Settings } from "./settings.js";
import { Space } from "./space.js";
import { View } from "./view.js";
import { cameraWords, requestWords, stateWords, streamWords } from "./words.js";

const KEY = "posewire-key"; // in the storage of this tab, which ends with it
const RETRY = 2000; // milliseconds
const LONGEST = 960; // pixels of what is sent of a video: networks use less, and larger frames take longer

/** Bytes cost nothing on the server's own machine, and pictures cost it less time than compressed video. */
const LOCAL = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);

const client = new Client(undefined, { key: sessionStorage.getItem(KEY) ?? "" });
const settings = new Settings($("settings"));
const view = new View();
const live = new Live(view, { state: showState, camera: showCamera, result: showResult });
const notice = new Notice(useKey);
const people = new PeopleList();
const counts = new Counts(settings);
const figures = new Figures();
const space = new Space();
const recording = new Recording();
const playback = new Playback();
const editor = new RegionEditor(view, settings, showTool);
const jobs = new Jobs(client, settings, notice);
const cameras = new Cameras(client, notice, watch);

/** @type {Map<string, import("./draw.js").Skeleton>} */
const skeletons = new Map();
/** @typedef {"" | "camera" | "video" | "picture" | "server camera"} Kind What is on the stage. */
/** @type {Kind} */
let kind = "";
/** @type {import("./picture.js").Picture | null} */
let picture = null;
let asked = new AbortController(); // of the answer for the picture
let wasLost = false;

/** Learn what the server offers. */
async function load() {
  try {
    const [models, sets] = await Promise.all([client.models(), client.skeletons()]);
    for (const set of sets) skeletons.set(set.name, readSkeleton(set));
    settings.offer(models, sets);
    notice.clear("server");
    jobs.load();
    cameras.load();
  } catch (error) {
    if (/** @type {any} */ (error).status === 401) return notice.askKey(Boolean(client.key));
    notice.show(requestWords(error), "server");
    setTimeout(load, RETRY);
  }
}

/** @param {string} key */
function useKey(key) {
  client.key = key;
  sessionStorage.setItem(KEY, key);
  load();
  if (live.video) openStream();
  else if (picture) estimate();
  else if (cameras.chosen) watch(cameras.chosen, true);
}

/** Show a camera of the server, or none if it is shown. @param {string} name @param {boolean} [again] */
function watch(name, again = false) {
  if (name === cameras.chosen && !again) return stop();
  clear("server camera");
  cameras.chosen = name;
  cameras.load();
  $("overlay").focus();
  status("busy", "Connecting");
  live.watch(client, name);
}

async function startCamera() {
  if (kind === "camera") return stop();
  try {
    const chosen = $("cameras").value;
    const device = chosen ? { deviceId: { exact: chosen } } : { facingMode: "user" };
    const video = await openCamera({ width: { ideal: 1280 }, height: { ideal: 720 }, ...device });
    begin("camera", video);
    const [track] = /** @type {MediaStream} */ (video.srcObject).getVideoTracks();
    track.addEventListener("ended", () => {
      if (live.video !== video) return;
      stop();
      notice.show("The camera was switched off or unplugged.");
    });
    listCameras(track.getSettings().deviceId ?? "");
  } catch (error) {
    notice.show(cameraWords(error));
  }
}

/** @param {string} current */
async function listCameras(current) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === "videoinput");
  $("camera-choice").hidden = cameras.length < 2;
  const options = cameras.map(({ deviceId, label }, n) => new Option(label || `Camera ${n + 1}`, deviceId));
  $("cameras").replaceChildren(...options);
  $("cameras").value = current;
}

/** @param {File} file */
async function openFile(file) {
  notice.clear();
  try {
    if (!file.type.startsWith("video/")) {
      const read = await readPicture(file).catch((error) => {
        if (file.type.startsWith("image/")) throw error;
        return null; // perhaps a video without a known type
      });
      if (read) return showPicture(read);
    }
    begin("video", await openVideo(file));
  } catch (error) {
    notice.show(`${file.name} cannot be opened: ${/** @type {Error} */ (error).message}.`);
  }
}

/** @param {import("./picture.js").Picture} read */
function showPicture(read) {
  clear("picture");
  picture = read;
  view.show(read.bitmap);
  view.draw();
  estimate();
}

/** Ask for the people in the picture. */
async function estimate() {
  if (!picture) return;
  asked.abort();
  asked = new AbortController();
  status("busy", "Looking");
  const began = performance.now();
  try {
    const answer = await client.pose(picture.blob, settings.parameters(), asked);
    const skeleton = skeletons.get(answer.skeleton) ?? null;
    view.skeleton = skeleton;
    view.people = answer.people.map((person, n) => named({ ...person, id: n + 1 }, view.width / answer.width));
    view.draw();
    people.still(answer.people);
    space.show(view.people, skeleton);
    recording.still(answer, skeleton?.keypoints ?? []);
    status("live", `Found in ${Math.round(performance.now() - began)} ms`);
    notice.clear();
  } catch (error) {
    const words = requestWords(error);
    if (!words) return; // another picture has taken its place
    status("bad", "No result");
    if (/** @type {any} */ (error).status === 401) notice.askKey(Boolean(client.key));
    else notice.show(words);
  }
}

/** @param {"camera" | "video"} next @param {HTMLVideoElement} video */
function begin(next, video) {
  clear(next);
  live.start(video);
  openStream();
  playback.show(next === "video" ? video : null);
}

function openStream() {
  status("busy", "Connecting");
  live.use(client.stream(settings.hello(), { video: !LOCAL, longest: LONGEST }));
}

/** Make room on the stage. @param {Kind} next */
function clear(next) {
  asked.abort();
  live.stop();
  view.clear();
  for (const part of [people, counts, figures, space, recording]) part.clear();
  notice.clear();
  playback.show(null);
  picture = settings.watched = null;
  if (cameras.chosen) cameras.load();
  cameras.chosen = "";
  kind = next;
  wasLost = false;
  display();
  editor.use("");
  $("empty").hidden = Boolean(kind);
  $("camera").setAttribute("aria-pressed", String(kind === "camera"));
  $("camera").textContent = kind === "camera" ? "Stop camera" : "Camera";
  $("figures-panel").hidden = !kind || kind === "picture";
  $("add-zone").disabled = $("add-line").disabled = kind !== "camera" && kind !== "video";
  $("download").disabled = !kind;
  $("overlay").setAttribute("aria-label", kind ? `The ${kind} with the skeletons of the people in it` : "No picture yet");
}

function stop() {
  clear("");
  status("idle", "Ready");
  animate($("figures-art"));
}

/** Show what the settings of the drawing say. */
function display() {
  const { mirror, hide, boxes, labels, trails } = settings.values;
  view.display = { mirror: mirror && kind === "camera", hide, boxes, labels, trails };
  counts.show();
  view.draw();
}

/** @param {"idle" | "busy" | "live" | "bad"} state @param {string} text */
function status(state, text) {
  $("status").dataset.state = state;
  write($("status-text"), text);
}

/** @param {string} help */
function showTool(help) {
  $("drawing-help").textContent = help;
  $("drawing-help").hidden = !help;
  $("add-zone").setAttribute("aria-pressed", String(editor.tool === "zone"));
  $("add-line").setAttribute("aria-pressed", String(editor.tool === "line"));
}

/** @param {import("../stream.js").State} state */
function showState(state) {
  if (state.name === "open") {
    const skeleton = skeletons.get(live.stream?.welcome.skeleton) ?? null;
    if (skeleton !== view.skeleton) live.timeline.clear();
    view.skeleton = skeleton;
    if (kind === "server camera") {
      settings.watched = live.stream?.welcome;
      counts.show();
    }
    status("live", "Live");
    notice.clear("stream");
    if (wasLost) notice.show(streamWords(state), "good");
    wasLost = false;
  } else if (state.name === "lost") {
    wasLost = true;
    status("busy", state.code === 1013 ? "Waiting for a place" : "Reconnecting");
    notice.show(streamWords(state), "stream");
  } else if (state.name === "closed" && state.code) {
    status("bad", "Ended");
    if (state.code === 4401) notice.askKey(Boolean(client.key));
    else notice.show(streamWords(state), "stream");
  }
}

/** @param {{state: string, reason?: string}} camera */
function showCamera(camera) {
  const isLive = camera.state === "live";
  status(isLive ? "live" : "busy", isLive ? "Live" : `${cameras.chosen} ${stateWords({ state: camera.state })}`);
  if (isLive) notice.clear("stream");
  else notice.show(`The camera ${cameras.chosen} ${stateWords(camera)}.`, "stream");
}

/** @param {import("../connection.js").Result} result */
function showResult(result) {
  figures.add(result);
  if (result.type !== "result" || !live.stream) return;
  people.show(result.people, performance.now());
  space.show(result.people, view.skeleton);
  counts.add(result.events ?? []);
  recording.add(result, live.stream.welcome);
}

settings.addEventListener("change", (event) => {
  display();
  if (!(/** @type {CustomEvent} */ (event).detail.server)) return;
  if (kind === "picture") estimate();
  else if (kind === "server camera") return; // its entry says what is looked for
  else if (live.stream?.state.name === "closed") openStream(); // it had refused the settings before
  else live.stream?.change(settings.hello());
});

setInterval(() => {
  if (!live.stream) return;
  figures.show(live.delays, live.stream.skipped);
}, 500);

/** @type {Record<string, () => void>} */
const buttons = {
  camera: startCamera,
  "start-camera": startCamera,
  open: () => $("file").click(),
  "start-file": () => $("file").click(),
  "add-zone": () => editor.use(editor.tool === "zone" ? "" : "zone"),
  "add-line": () => editor.use(editor.tool === "line" ? "" : "line"),
  "save-picture": async () => save(await view.snapshot(), "posewire.png"),
  "save-json": () => save(recording.json(), "posewire.json"),
  "save-csv": () => save(recording.csv(), "posewire.csv"),
  share,
  download: () => openMenu($("download-menu").hidden),
};
for (const [id, act] of Object.entries(buttons)) $(id).addEventListener("click", act);
onFile($("file"), openFile);
$("cameras").addEventListener("change", () => {
  if (kind === "camera") stop();
  startCamera();
});

async function share() {
  const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  if (copied) notice.show("The link to these settings, zones and lines is copied. It contains no picture and no key.", "good");
  else notice.show(`Copy the address of this page: ${location.href}`);
}

document.addEventListener("click", (event) => {
  if (event.target !== $("download")) openMenu(false);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("download-menu").hidden) {
    openMenu(false);
    $("download").focus();
  }
});

/** @param {boolean} open */
function openMenu(open) {
  $("download-menu").hidden = !open;
  $("download").setAttribute("aria-expanded", String(open));
}

for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    event.preventDefault(); // or the browser would open the file in place of the page
    const over = name === "dragenter" || name === "dragover";
    $("surround").classList.toggle("dropping", over);
    $("drop-hint").hidden = !over;
    const [file] = (name === "drop" && /** @type {DragEvent} */ (event).dataTransfer?.files) || [];
    if (file) openFile(file);
  });
}
addEventListener("paste", (event) => {
  const [file] = event.clipboardData?.files ?? [];
  if (file) openFile(file);
});

display();
animate($("figures-art"));
load();
