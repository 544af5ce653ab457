// Read TFLite metadata: what images the model takes, and the labels.
// A flatbuffer table starts with the distance back to its vtable; the vtable lists where each field
// lies. Field numbers: tensorflow/lite/schema/schema.fbs and metadata_schema.fbs.

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

  tables(table, number) {
    const [start, length] = this.span(table, number);
    return Array.from({ length }, (_, i) => this.follow(start + 4 * i));
  }

  floats(table, number) {
    const [start, length] = this.span(table, number);
    return Array.from({ length }, (_, i) => this.view.getFloat32(start + 4 * i, true));
  }

  part(table, number) {
    const [start, length] = this.span(table, number);
    return this.bytes.subarray(start, start + length);
  }
}

function entryOf(bytes, name) {
  const model = new Flatbuffer(bytes);
  const buffers = model.tables(model.root, 4);
  for (const entry of model.tables(model.root, 6)) {
    if (new TextDecoder().decode(model.part(entry, 0)) !== name) continue;
    const field = model.field(entry, 1);
    return model.part(buffers[field ? model.view.getUint32(field, true) : 0], 0).slice();
  }
  return null;
}

function normalization(bytes) {
  const data = entryOf(bytes, "TFLITE_METADATA");
  if (data) {
    const file = new Flatbuffer(data);
    const subgraph = file.tables(file.root, 3)[0];
    for (const unit of file.tables(file.tables(subgraph, 2)[0], 4)) {
      const kind = file.field(unit, 0);
      if (!kind || data[kind] !== NORMALIZATION) continue;
      const options = file.follow(file.field(unit, 1));
      return { mean: file.floats(options, 0), std: file.floats(options, 1) };
    }
  }
  return {};
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

/** What a .tflite says about itself: {mean, std, channels, crop, labels}, and whether it `said` mean. */
export async function readMetadata(bytes) {
  const record = recorded(bytes);
  const found = { ...normalization(bytes), ...record };
  const said = "mean" in ("crop" in record ? record : found);
  return { ...DEFAULT, ...found, said, labels: await packedLabels(bytes) };
}
