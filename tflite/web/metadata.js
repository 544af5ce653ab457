// Read TFLite metadata: what images the model takes, the labels, a detector's anchors.
// A flatbuffer table starts with the distance back to its vtable; the vtable lists where each field
// lies. Field numbers: tensorflow/lite/schema/schema.fbs, metadata_schema.fbs, and
// object_detector_metadata_schema.fbs of MediaPipe.

const NORMALIZATION = 1;
const STORED = 0;
// Of a file that does not say: pixels, and the evaluation rule of ImageNet at 256.
const DEFAULT = { mean: [0], std: [1], channels: "rgb", crop: 256 / 288 };

class Flatbuffer {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.root = this.follow(0);
  }

  follow(position) {
    return position + this.view.getUint32(position, true);
  }

  field(table, number) {
    const vtable = table - this.view.getInt32(table, true);
    const entry = 4 + 2 * number;
    const inside = entry < this.view.getUint16(vtable, true);
    const offset = inside ? this.view.getUint16(vtable + entry, true) : 0;
    return offset && table + offset;
  }

  span(table, number) {
    const field = this.field(table, number);
    if (!field) return [0, 0];
    const start = this.follow(field);
    return [start + 4, this.view.getUint32(start, true)];
  }

  /** The table in a field, or null. */
  table(table, number) {
    const field = this.field(table, number);
    return field ? this.follow(field) : null;
  }

  tables(table, number) {
    const [start, length] = this.span(table, number);
    return Array.from({ length }, (_, i) => this.follow(start + 4 * i));
  }

  float(table, number) {
    const field = this.field(table, number);
    return field ? this.view.getFloat32(field, true) : 0;
  }

  floats(table, number) {
    const [start, length] = this.span(table, number);
    return Array.from({ length }, (_, i) => this.view.getFloat32(start + 4 * i, true));
  }

  part(table, number) {
    const [start, length] = this.span(table, number);
    return this.bytes.subarray(start, start + length);
  }

  text(table, number) {
    return new TextDecoder().decode(this.part(table, number));
  }
}

function entryOf(bytes, name) {
  const model = new Flatbuffer(bytes);
  const buffers = model.tables(model.root, 4);
  for (const entry of model.tables(model.root, 6)) {
    if (model.text(entry, 0) !== name) continue;
    const field = model.field(entry, 1);
    return model.part(buffers[field ? model.view.getUint32(field, true) : 0], 0).slice();
  }
  return null;
}

// What the metadata say of the first input, of the outputs and of a detector's anchors.
function described(bytes) {
  const data = entryOf(bytes, "TFLITE_METADATA");
  if (!data) return {};
  const file = new Flatbuffer(data);
  const subgraph = file.tables(file.root, 3)[0];
  const found = { outputNames: file.tables(subgraph, 3).map((each) => file.text(each, 0)) };
  const input = file.tables(subgraph, 2)[0];
  for (const unit of input ? file.tables(input, 4) : []) {
    const kind = file.field(unit, 0);
    if (!kind || data[kind] !== NORMALIZATION) continue;
    const options = file.table(unit, 1);
    found.mean = file.floats(options, 0);
    found.std = file.floats(options, 1);
  }
  const custom = file.tables(subgraph, 9).find((each) => file.text(each, 0) === "DETECTOR_METADATA");
  if (custom) found.decoding = decoding(file.part(custom, 1).slice());
  return found;
}

// How boxes are made of deltas: `anchors`, four numbers each (centre y, x, height, width), and what
// the deltas are divided by, in that order.
function decoding(bytes) {
  const file = new Flatbuffer(bytes);
  const [ssd, options] = [file.table(file.root, 1), file.table(file.root, 2)];
  const fixed = ssd && file.table(ssd, 0);
  if (!fixed || !options) return undefined;
  const anchors = file.tables(fixed, 0).flatMap((each) => [1, 0, 3, 2].map((i) => file.float(each, i)));
  return { anchors: Float32Array.from(anchors), scales: [7, 6, 9, 8].map((i) => file.float(options, i)) };
}

// What keras_parc records: mean and std of the three channels, their order, the crop.
function recorded(bytes) {
  const data = entryOf(bytes, "keras_parc_image");
  return data ? JSON.parse(new TextDecoder().decode(data)) : {};
}

// The label file in the zip archive at the end of the file, or null.
async function packedLabels(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= 0 && end > bytes.length - 65558 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) return null;
  const files = [];
  for (let at = end - view.getUint32(end + 12, true); at < end; ) {
    const [nameLength, extra, comment] = [28, 30, 32].map((i) => view.getUint16(at + i, true));
    files.push({
      name: new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength)),
      method: view.getUint16(at + 10, true),
      size: view.getUint32(at + 20, true),
      header: view.getUint32(at + 42, true),
    });
    at += 46 + nameLength + extra + comment;
  }
  const texts = files.filter(({ name }) => name.endsWith(".txt"));
  const file = texts.find(({ name }) => name.includes("label")) ?? texts[0];
  if (!file) return null;
  const { header } = file;
  const start = header + 30 + view.getUint16(header + 26, true) + view.getUint16(header + 28, true);
  let stream = new Blob([bytes.subarray(start, start + file.size)]).stream();
  if (file.method !== STORED) stream = stream.pipeThrough(new DecompressionStream("deflate-raw"));
  return (await new Response(stream).text()).replace(/\r?\n$/, "").split(/\r?\n/);
}

/**
 * What a .tflite says about itself: {mean, std, channels, crop, labels, outputNames, decoding}, and
 * whether it `said` mean.
 */
export async function readMetadata(bytes) {
  try {
    const record = recorded(bytes);
    const found = { ...described(bytes), ...record };
    const said = "mean" in ("crop" in record ? record : found);
    return { ...DEFAULT, outputNames: [], ...found, said, labels: await packedLabels(bytes) };
  } catch (error) {
    throw Error(`the metadata in the file are damaged (${error.message}): export the model again`);
  }
}
