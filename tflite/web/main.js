// The page: takes a model and an image, a video or the camera, and shows what the model finds.
// Address: ?model=NAME of a file that is served, ?image=URL of a picture.
// After every inference the document gets the event "found", with {found, image} in its detail.
import { readPicture } from "./image.js";
import { hasGpu, hasThreads, openModel } from "./model.js";
import { colourOf, draw } from "./overlay.js";
import { hasSeveralCameras, nextFrame, openCamera, play, release } from "./sources.js";

const SHOWN = 5; // rows of the list
const TIMED = { runs: 10, milliseconds: 1000 }; // of a picture: a median needs some
const SAY_EVERY = 4000; // milliseconds between what a screen reader says of a video
const element = (id) => document.getElementById(id);
const [view, frame, overlay, video] = ["view", "frame", "overlay", "video"].map(element);
const state = { model: null, bytes: null, image: null, found: null, live: 0, facing: "environment", times: [] };

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

const wrong = (error) => say(error.message.replace(/\.?$/, "."), true);
const nameOf = (label) => state.model?.labels?.[label] ?? `class ${label}`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

// --- the model ------------------------------------------------------------------------------------

let [opening, looking] = [Promise.resolve(), Promise.resolve()];

/** Open what `state.bytes` holds, one after the other, and look at the image again. */
function open() {
  opening = opening.then(async () => {
    try {
      say("Opening the model …");
      element("times").textContent = "";
      await looking.catch(() => null); // whose model is not to be deleted yet
      state.model?.delete();
      state.model = null;
      const gpu = element("processor").value === "gpu";
      state.model = await openModel(state.bytes, { threads: Number(element("threads").value), gpu });
      state.times = [];
    } catch (error) {
      stop();
      clear();
      wrong(error);
      return;
    }
    const { task, height, width } = state.model;
    element("task").textContent = `${task}, ${width} × ${height} pixels`;
    element("threshold-row").hidden = task !== "detection";
    ready();
    if (state.image && !state.live) await lookAtPicture();
    keepForOffline();
  });
  return opening;
}

function ready() {
  if (!state.model) return;
  if (!state.image && !state.live) say("Open the camera, or choose a picture or a video.");
}

async function chooseServed(name) {
  try {
    const answer = await fetch(`models/${encodeURIComponent(name)}`).catch(() => {
      throw Error(`The model ${name} cannot be had: is the server still running?`);
    });
    if (!answer.ok) throw Error(`There is no model ${name} here`);
    state.bytes = new Uint8Array(await answer.arrayBuffer());
  } catch (error) {
    return wrong(error);
  }
  return open();
}

async function chooseFile(file) {
  state.bytes = new Uint8Array(await file.arrayBuffer());
  const choice = element("model");
  choice.querySelector("[data-own]")?.remove();
  const own = new Option(file.name, "", true, true);
  own.dataset.own = "";
  choice.add(own);
  return open();
}

// --- looking --------------------------------------------------------------------------------------

async function look(image) {
  looking = state.model.run(image);
  const found = await looking;
  state.times = [...state.times, found.milliseconds].slice(-TIMED.runs);
  [state.image, state.found] = [image, found];
  return found;
}

function show() {
  const { image, found, model } = state;
  if (!image) return;
  element("empty").hidden = true;
  view.hidden = false;
  view.style.setProperty("--ratio", image.width / image.height);
  frame.classList.toggle("coarse", Math.max(image.width, image.height) <= 160);
  if (found) {
    draw(overlay, { ...found, objects: found.objects?.filter(isShown) }, nameOf);
    list(rowsOf(found));
    document.dispatchEvent(new CustomEvent("found", { detail: { found, image, labels: model.labels } }));
  }
}

function put(image) {
  [frame.width, frame.height] = [image.width, image.height];
  frame.getContext("2d").putImageData(image, 0, 0);
}

const isShown = ({ score }) => score >= Number(element("threshold").value);

/** The rows of the list: {label, share}, and of objects `where`, for who cannot see the box. */
function rowsOf({ scores, objects, map }) {
  if (scores) {
    const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, SHOWN);
    return order.map((label) => ({ label, share: scores[label] }));
  }
  if (objects) {
    return objects.filter(isShown).map(({ label, score, box }) => {
      const [top, left, bottom, right] = box.map((side) => Math.round(100 * side));
      return { label, share: score, where: `${left} to ${right} % across, ${top} to ${bottom} % down` };
    });
  }
  const counts = new Map();
  for (const label of map) counts.set(label, (counts.get(label) ?? 0) + 1);
  const order = [...counts].sort(([, a], [, b]) => b - a).slice(0, SHOWN);
  return order.map(([label, count]) => ({ label, share: count / map.length }));
}

function list(rows) {
  const { task } = state.model;
  const items = rows.slice(0, 2 * SHOWN).map(({ label, share, where }) => {
    const item = document.createElement("li");
    const name = Object.assign(document.createElement("span"), { className: "name", textContent: nameOf(label) });
    const value = Object.assign(document.createElement("span"), { className: "value", textContent: percent(share) });
    const bar = Object.assign(document.createElement("span"), { className: `bar ${task}` });
    bar.style.setProperty("--share", share);
    const isPainted = task === "detection" || (task === "segmentation" && label); // not the background
    if (isPainted) bar.style.setProperty("--colour", colourOf(task, label));
    item.append(name, value, bar);
    if (where) item.append(Object.assign(document.createElement("span"), { className: "unseen", textContent: where }));
    return item;
  });
  element("result").replaceChildren(...items);
  const nothing = rows.length ? "" : "Nothing found.";
  element("nothing").textContent = nothing;
  const heads = { classification: "Classes", detection: "Objects", segmentation: "Share of the pixels" };
  element("head").textContent = heads[task];
  speak(nothing || rows.slice(0, 3).map(({ label, share }) => `${nameOf(label)}, ${percent(share)}`).join("; "));
}

let spoken = { text: "", at: -Infinity };

/** Tell a screen reader, of a video only now and then and what is new. */
function speak(text) {
  const [what, now] = [text.replace(/, [\d.]+ %/g, ""), performance.now()];
  if (state.live && (what === spoken.text || now - spoken.at < SAY_EVERY)) return;
  spoken = { text: what, at: now };
  element("spoken").textContent = text;
}

function clear() {
  for (const id of ["result", "head", "nothing", "task", "spoken", "times"]) element(id).replaceChildren();
  overlay.width = 1;
  state.found = null;
}

/** What the user should know of the model. */
function remarks() {
  const { said, left } = state.model;
  const assumed = said ? "" : "The model does not say what it takes: RGB 0..255 is assumed.";
  return `${assumed}${left.length ? ` Not taken by the GPU, so on the CPU: ${left.join(", ")}.` : ""}`.trim();
}

async function lookAtPicture() {
  const { image, model } = state;
  put(image);
  await look(image); // the first run warms up
  show();
  const end = performance.now() + TIMED.milliseconds;
  state.times = [];
  do {
    if (state.model !== model || state.image !== image) return; // another was chosen meanwhile
    await look(image);
  } while (state.times.length < TIMED.runs && performance.now() < end);
  element("times").textContent = `${median(state.times).toFixed(1)} ms, median of ${state.times.length}`;
  say(remarks());
}

async function choosePicture(blob) {
  stop();
  if (blob.type?.startsWith("video/")) return watch(() => blob);
  say("Reading the picture …");
  element("times").textContent = "";
  const image = await readPicture(blob);
  [state.image, state.found] = [image, null];
  put(image);
  await opening;
  show();
  if (state.model) await lookAtPicture();
  else say("Now choose a model.");
}

// --- the camera and videos ------------------------------------------------------------------------

/** Look at frame after frame of what `source` returns, until `stop` or another source. */
async function watch(source) {
  stop();
  const turn = (state.live = performance.now());
  say("Opening …");
  turnTo("stop", "camera");
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  try {
    const opened = await source();
    if (state.live !== turn) return opened.getTracks?.().forEach((track) => track.stop());
    await play(video, opened);
    if (video.srcObject) element("switch").hidden = !(await hasSeveralCameras());
    await opening;
    if (!state.model) throw Error("Choose a model first");
    say(remarks());
    let [last, rate] = [performance.now(), 0];
    while (state.live === turn) {
      await nextFrame(video);
      if (state.live !== turn) break;
      if (!video.videoWidth) continue;
      [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
      context.drawImage(video, 0, 0);
      const image = context.getImageData(0, 0, canvas.width, canvas.height);
      await opening;
      if (!state.model) break;
      await look(image);
      if (state.live !== turn) break;
      put(image);
      show();
      const now = performance.now();
      rate = rate ? 0.9 * rate + (0.1 * 1000) / (now - last) : 1000 / (now - last);
      last = now;
      element("times").textContent = `${rate.toFixed(0)} FPS, model alone ${median(state.times).toFixed(1)} ms`;
    }
  } catch (error) {
    if (state.live !== turn) return;
    stop();
    wrong(error);
  }
}

function stop() {
  state.live = 0;
  turnTo("camera", "stop");
  element("switch").hidden = true;
  release(video);
}

/** Show one button in the place of another, which may have the focus. */
function turnTo(shown, hidden) {
  const focused = document.activeElement === element(hidden);
  element(shown).hidden = false;
  element(hidden).hidden = true;
  if (focused) element(shown).focus();
}

async function openTheCamera() {
  await watch(() => openCamera(state.facing));
}

// --- what the user does ---------------------------------------------------------------------------

const doing = (action) => (event) => Promise.resolve(action(event)).catch(wrong);

function listen() {
  element("camera").addEventListener("click", doing(openTheCamera));
  element("stop").addEventListener("click", () => {
    stop();
    say("Stopped.");
  });
  element("switch").addEventListener("click", () => {
    state.facing = state.facing === "user" ? "environment" : "user";
    return openTheCamera();
  });
  element("picture").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = ""; // so that the same file can be chosen again
    if (file) choosePicture(file).catch(wrong);
  });
  element("model").addEventListener("change", ({ target }) => target.value && chooseServed(target.value));
  element("own").addEventListener("change", doing(({ target }) => target.files[0] && chooseFile(target.files[0])));
  for (const id of ["threads", "processor"]) {
    element(id).addEventListener("change", () => {
      element("threads-row").hidden = element("processor").value === "gpu";
      if (state.bytes) open();
    });
  }
  element("threshold").addEventListener("input", ({ target }) => {
    element("threshold-value").textContent = Number(target.value).toFixed(2);
    if (state.found) show();
  });
  addEventListener("resize", () => state.found && show());
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragged");
  });
  addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || document.body.classList.remove("dragged"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragged");
    const [file] = event.dataTransfer.files;
    if (!file) return;
    (file.name.endsWith(".tflite") ? chooseFile(file) : choosePicture(file)).catch(wrong);
  });
}

function offerThreads() {
  const most = hasThreads() ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
  for (let i = 1; i <= most; i++) element("threads").add(new Option(i, i, i === Math.min(most, 4), i === Math.min(most, 4)));
  element("threads").disabled = most === 1;
}

// --- offline --------------------------------------------------------------------------------------

/** Keep what has been loaded, so that the page opens without a network next time. */
async function keepForOffline() {
  if (!navigator.serviceWorker) return; // not on http:// of another machine
  await navigator.serviceWorker.register("sw.js");
  const cache = await caches.open("keras-parc");
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name.split("#")[0]);
  const here = new Set([location.href.split(/[?#]/)[0], ...loaded.filter((name) => name.startsWith(location.origin))]);
  await Promise.all([...here].map(async (name) => (await cache.match(name)) || cache.add(name).catch(() => null)));
  document.body.dataset.offline = "ready";
}

// --- start ----------------------------------------------------------------------------------------

async function start() {
  if (!self.WebAssembly) {
    say("This browser has no WebAssembly, which runs the model: open the page in a newer one.", true);
    return;
  }
  listen();
  offerThreads();
  element("processor-row").hidden = !(await hasGpu());
  const address = new URLSearchParams(location.search);
  const answer = await fetch("models.json").catch(() => null);
  const served = answer?.ok ? await answer.json() : [];
  for (const { name, megabytes } of served) element("model").add(new Option(`${name} (${megabytes} MB)`, name));
  const name = address.get("model") ?? served[0]?.name;
  if (name) {
    element("model").value = name;
    await chooseServed(name);
  } else say("Choose a model, a .tflite file.");
  if (!address.has("image")) return;
  const picture = await fetch(address.get("image"));
  if (!picture.ok) throw Error(`There is no picture ${address.get("image")} here`);
  if (state.model) await choosePicture(await picture.blob());
}

start().catch(wrong);
