// The page: takes a model and an image from the two inputs, or from the address
// (?model=URL&image=URL), and shows the five most probable classes and the time of an inference.
import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { centre, probabilities } from "./image.js";
import { readMetadata } from "./metadata.js";

const TOP = 5;
const TIMED_RUNS = 10;
const element = (id) => document.getElementById(id);
const chosen = {};
let runtime;

async function openModel(bytes) {
  const magic = String.fromCharCode(...bytes.slice(4, 8));
  if (magic !== "TFL3") throw Error(`expected a .tflite (TFL3 at byte 4), got ${JSON.stringify(magic)}`);
  // Threads need shared memory, which browsers give to cross-origin isolated pages: see serve.py.
  runtime ??= loadLiteRt(new URL("node_modules/@litertjs/core/wasm/", location.href).href, {
    threads: self.crossOriginIsolated,
  });
  await runtime;
  const compiled = await loadAndCompile(bytes, { accelerator: "wasm" });
  const [input, output] = [compiled.getInputDetails(), compiled.getOutputDetails()];
  const [batch, height, width, channels] = input[0].shape;
  const types = [...input, ...output].map(({ dtype }) => dtype).join();
  if (types !== "float32,float32" || batch !== 1 || channels !== 3) {
    throw Error(`expected float32 (1, height, width, 3) and one float32 output, got ${types}`);
  }
  return { compiled, height, width, ...(await readMetadata(bytes)) };
}

async function readPixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const image = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const opaque = image.data.every((value, i) => i % 4 !== 3 || value === 255);
  return opaque ? image : withoutAlpha(bitmap);
}

// The colours of an image with transparency as they are in the file: a canvas multiplies them by
// alpha, a texture does not.
function withoutAlpha(bitmap) {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl");
  const texture = gl?.createTexture();
  gl?.bindTexture(gl.TEXTURE_2D, texture);
  gl?.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl?.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl?.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  if (gl?.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl?.FRAMEBUFFER_COMPLETE || !gl) {
    throw Error("this browser cannot read images with transparency: save it without");
  }
  const data = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  return { data, width, height };
}

function encode(pixels, { mean, std, channels }) {
  const colour = channels === "bgr" ? (i) => pixels[i + 2 - 2 * (i % 3)] : (i) => pixels[i];
  return Float32Array.from(pixels, (_, i) => (colour(i) - mean[i % mean.length]) / std[i % std.length]);
}

async function infer(model, values) {
  const input = new Tensor(values, [1, model.height, model.width, 3]);
  const times = [];
  let scores;
  for (let i = 0; i <= TIMED_RUNS; i++) {
    const start = performance.now();
    const outputs = await model.compiled.run(input);
    scores = Float32Array.from(await outputs[0].data());
    times.push(performance.now() - start);
    outputs.forEach((output) => output.delete());
  }
  input.delete();
  times.shift(); // the first run warms up
  times.sort((a, b) => a - b);
  return { scores, milliseconds: times[TIMED_RUNS >> 1] };
}

function show(scores, labels) {
  const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, TOP);
  const rows = order.map((index) => {
    const row = document.createElement("tr");
    for (const text of [scores[index].toFixed(4), labels?.[index] ?? `class ${index}`]) {
      row.insertCell().textContent = text;
    }
    return row;
  });
  element("result").replaceChildren(...rows);
}

async function update() {
  const model = await chosen.model;
  if (!model || !chosen.image) {
    element("status").textContent = `Now choose ${model ? "an image" : "a model"}.`;
    return;
  }
  const pixels = centre(await readPixels(chosen.image), model.height, model.width, model.crop);
  const { scores, milliseconds } = await infer(model, encode(pixels, model));
  show(probabilities(scores), model.labels);
  const note = model.said ? "" : "; the model does not say what it takes: RGB 0..255 is assumed";
  element("status").textContent = `${milliseconds.toFixed(1)} ms, median of ${TIMED_RUNS}${note}`;
}

async function choose(kind, blob) {
  try {
    element("status").textContent = "…";
    element("result").replaceChildren();
    if (kind === "image") {
      element("preview").src = URL.createObjectURL(blob);
      element("preview").hidden = false;
    }
    const previous = chosen.model;
    chosen[kind] = kind === "model" ? openModel(new Uint8Array(await blob.arrayBuffer())) : blob;
    if (kind === "model") (await previous?.catch(() => null))?.compiled.delete();
    await update();
  } catch (error) {
    element("status").textContent = `error: ${error.message}`;
  }
}

const address = new URLSearchParams(location.search);
for (const kind of ["model", "image"]) {
  element(kind).addEventListener("change", (event) => choose(kind, event.target.files[0]));
  if (!address.has(kind)) continue;
  const answer = await fetch(address.get(kind));
  if (!answer.ok) {
    element("status").textContent = `error: no ${kind} at ${address.get(kind)}`;
    break;
  }
  await choose(kind, await answer.blob());
}
