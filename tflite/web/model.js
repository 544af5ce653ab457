// A .tflite as a function of an image: which task it is for, and what it finds.
import { loadAndCompile, loadLiteRt, supportsFeature, Tensor, unloadLiteRt } from "@litertjs/core";
import { decoded, finished } from "./detection.js";
import { classMap, encoded, probabilities, resized } from "./image.js";
import { readMetadata } from "./metadata.js";

// What the names of a detector's outputs contain: ours, and those MediaPipe asks for.
const ROLES = {
  boxes: ["box", "location"],
  classes: ["class", "category"],
  scores: ["score"],
  count: ["count", "num"],
};
// A class map is computed at the image's size, of photographs at no more than this many pixels a side.
const LONGEST = 1024;
const UNSUPPORTED = "not supported by GPU delegate"; // before the names of operations, in what LiteRT.js logs
let runtime = null; // what is loaded: {kind, ready}
let leftOut = []; // of the model that was compiled last

/** Whether threads can be had: browsers give shared memory to isolated pages, see serve.py. */
export const hasThreads = () => self.crossOriginIsolated === true;

/** Whether the browser offers a GPU. */
export const hasGpu = async () => Boolean(await navigator.gpu?.requestAdapter().catch(() => null));

/**
 * Open a file. `threads`: of the CPU; `gpu`: run on it what it takes.
 * Returns {task, classes, height, width, labels, said, left, run, delete}; `run(image)` takes an
 * ImageData and returns what was found, by task, and the `milliseconds` of the model alone:
 * classification {scores}, detection {objects}, segmentation {map, width, height}. `left`: the names
 * of operations that the GPU left to the CPU.
 */
export async function openModel(bytes, { threads, gpu }) {
  const magic = String.fromCharCode(...bytes.slice(4, 8));
  if (magic !== "TFL3") throw Error("this is not a .tflite file (no TFL3 at its bytes 4 to 8)");
  const metadata = await readMetadata(bytes);
  await load(gpu);
  const options = { accelerator: gpu ? "webgpu" : "wasm", cpuOptions: { numThreads: threads } };
  const left = (leftOut = []);
  const compiled = await loadAndCompile(bytes, options).catch((error) => {
    const place = gpu ? ` on the GPU${left.length ? `, which does not take ${left.join(", ")}` : ""}` : "";
    throw Error(`LiteRT.js cannot run this file${place} (${error.message})`);
  });
  try {
    return { ...described(compiled, metadata), left, delete: () => compiled.delete() };
  } catch (error) {
    compiled.delete();
    throw error;
  }
}

/** Load LiteRT.js in the form that is wanted: a GPU shares a model with the CPU in one of its own. */
async function load(gpu) {
  const jspi = gpu && (await supportsFeature("jspi"));
  const kind = jspi ? "jspi" : hasThreads() ? "threads" : "plain";
  if (runtime?.kind === kind) return runtime.ready;
  if (runtime) unloadLiteRt(); // after the last model of it was deleted
  const folder = new URL("node_modules/@litertjs/core/wasm/", document.baseURI).href;
  const ready = listening(() => loadLiteRt(folder, { jspi, threads: kind === "threads" })).catch((error) => {
    runtime = null;
    throw Error(`LiteRT.js does not start in this browser (${error.message}): try a newer one`);
  });
  runtime = { kind, ready };
  return ready;
}

/** Load LiteRT.js so that `hear` gets what it will log: it keeps the console's methods that it finds. */
async function listening(loading) {
  const methods = ["log", "info", "warn", "error", "debug"];
  const before = methods.map((method) => console[method]);
  methods.forEach((method, i) => {
    console[method] = (...words) => {
      String(words[0]).split("\n").forEach(hear);
      before[i].apply(console, words);
    };
  });
  try {
    return await loading();
  } finally {
    methods.forEach((method, i) => (console[method] = before[i]));
  }
}

/** Of a line of the log: a list of operations begins, names one, or ends. */
function hear(line) {
  if (line.includes(UNSUPPORTED)) leftOut.isOpen = true;
  else if (/\boperations? will run/.test(line)) leftOut.isOpen = false;
  else if (leftOut.isOpen) {
    const name = line.match(/^(?:CUSTOM )?(\w+)/)?.[1];
    if (name && !leftOut.includes(name)) leftOut.push(name);
  }
}

function described(compiled, metadata) {
  const [inputs, outputs] = [compiled.getInputDetails(), compiled.getOutputDetails()];
  const text = (tensors) => tensors.map(({ dtype, shape }) => `${dtype} (${[...shape].join(", ")})`).join(", ");
  const [batch, height, width, channels] = inputs[0]?.shape ?? [];
  const floats = [...inputs, ...outputs].every(({ dtype }) => dtype === "float32");
  if (inputs.length !== 1 || inputs[0].shape.length !== 4 || batch !== 1 || channels !== 3 || !floats) {
    throw Error(
      "expected one image, float32 (1, height, width, 3), and float32 outputs; the file takes " +
        `${text(inputs)} and gives ${text(outputs)}: export it with float32 input and output`,
    );
  }
  const { task, classes, read } = taskOf(outputs, metadata, text(outputs));
  if (metadata.labels && classes && metadata.labels.length !== classes) {
    throw Error(`the file has ${metadata.labels.length} labels for ${classes} classes: export it again`);
  }
  const { labels, said, crop } = metadata;
  const window = task === "classification" ? crop : null;
  const run = async (image) => {
    const input = new Tensor(encoded(resized(image, height, width, window), metadata), [1, height, width, 3]);
    const start = performance.now();
    const results = await compiled.run(input);
    const values = await Promise.all(results.map(async (each) => Float32Array.from(await each.data())));
    const milliseconds = performance.now() - start;
    [input, ...results].forEach((tensor) => tensor.delete());
    return { task, milliseconds, ...read(values, image) };
  };
  return { task, classes, height, width, labels, said, run };
}

// What a file is for, by its outputs as run.py tells, and how these are read.
function taskOf(outputs, metadata, text) {
  const [first] = outputs;
  const last = first.shape.at(-1);
  if (outputs.length === 1 && first.shape.length === 4 && first.shape[1] * first.shape[2] > 1) {
    const [, rows, columns] = first.shape;
    const read = ([logits], image) => {
      const share = Math.min(1, LONGEST / Math.max(image.width, image.height));
      const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * share)));
      return { map: classMap(logits, rows, columns, last, height, width), width, height };
    };
    return { task: "segmentation", classes: last, read };
  }
  if (outputs.length === 1) {
    const read = ([scores]) => ({ scores: probabilities(scores) });
    return { task: "classification", classes: last, read };
  }
  const roles = rolesOf(outputs, metadata);
  const named = (values) => Object.fromEntries(values.map((value, i) => [roles[i], value]));
  if (["boxes", "classes", "scores", "count"].every((role) => roles.includes(role))) {
    return { task: "detection", classes: 0, read: (values) => ({ objects: finished(named(values)) }) };
  }
  if (outputs.length === 2 && roles.includes("boxes") && roles.includes("scores")) {
    const { shape } = outputs[roles.indexOf("scores")];
    if (metadata.decoding?.anchors.length !== 4 * shape[1]) {
      throw Error("the file leaves its boxes to be decoded and does not say how: export it with labels");
    }
    const read = (values) => ({ objects: decoded(named(values), metadata.decoding) });
    return { task: "detection", classes: shape[2], read };
  }
  throw Error(
    "expected a classifier, a detector or a segmenter: one output, or boxes, classes, scores and count; " +
      `the file gives ${text}`,
  );
}

function rolesOf(outputs, { outputNames }) {
  const role = (name) =>
    Object.keys(ROLES).find((each) => ROLES[each].some((word) => name.toLowerCase().includes(word)));
  const roles = outputs.map(({ name }) => role(name));
  const known = new Set(roles).size === roles.length && !roles.includes(undefined);
  return known || outputNames.length !== outputs.length ? roles : outputNames.map(role);
}
