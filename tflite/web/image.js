// What run.py does with an image and with scores, number for number.

// The evaluation rule: at input size 256, the short side goes to 288, and the centre is cut out.
const RESIZE_RATIO = 288 / 256;

// Python's rounding: halves go to the even neighbour.
function round(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest > 0.5 || (rest === 0.5 && whole % 2) ? whole + 1 : whole;
}

// Pillow's bilinear filter along one axis: a triangle as wide as one target pixel, at least as wide
// as one source pixel; weights with 22 bits after the point, rounded to 8-bit results.
function weights(source, target) {
  const scale = source / target;
  const reach = Math.max(scale, 1);
  return Array.from({ length: target }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), source);
    const raw = Array.from({ length: end - start }, (_, j) =>
      Math.max(1 - Math.abs(start + j - centre + 0.5) / reach, 0));
    const sum = raw.reduce((a, b) => a + b);
    return { start, taps: raw.map((value) => Math.floor((value / sum) * 2 ** 22 + 0.5)) };
  });
}

// One axis of an interleaved RGB image: `stride` is the step along it, `lines` are where it starts.
function filter(source, target, length, lines, stride) {
  lines.forEach(([from, to]) => {
    length.forEach(({ start, taps }, i) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** 21;
        taps.forEach((tap, j) => (sum += tap * source[from + (start + j) * stride + channel]));
        target[to + i * stride + channel] = Math.floor(sum / 2 ** 22);
      }
    });
  });
}

/** Scale an ImageData so that a little more than (height, width) is covered. */
export function resize({ data, width: w, height: h }, height, width) {
  const scale = Math.max(round(width * RESIZE_RATIO) / w, round(height * RESIZE_RATIO) / h);
  const [newWidth, newHeight] = [round(w * scale), round(h * scale)];
  const rgb = new Uint8ClampedArray(w * h * 3);
  for (let i = 0; i < w * h; i++) rgb.set(data.subarray(4 * i, 4 * i + 3), 3 * i);

  const wide = new Uint8ClampedArray(newWidth * h * 3);
  const rows = Array.from({ length: h }, (_, y) => [y * w * 3, y * newWidth * 3]);
  filter(rgb, wide, weights(w, newWidth), rows, 3);

  const pixels = new Uint8ClampedArray(newWidth * newHeight * 3);
  const columns = Array.from({ length: newWidth }, (_, x) => [x * 3, x * 3]);
  filter(wide, pixels, weights(h, newHeight), columns, newWidth * 3);
  return { pixels, width: newWidth, height: newHeight };
}

/** Cut (height, width) out of the middle. */
export function crop(image, height, width) {
  const top = round((image.height - height) / 2);
  const left = round((image.width - width) / 2);
  const cut = new Uint8Array(height * width * 3);
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * image.width + left) * 3;
    cut.set(image.pixels.subarray(start, start + width * 3), y * width * 3);
  }
  return cut;
}

/** Softmax where the scores are logits. */
export function probabilities(scores) {
  if (scores.every((value) => value >= 0 && value <= 1)) return scores;
  const largest = scores.reduce((a, b) => Math.max(a, b));
  const powers = scores.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((value) => value / sum);
}
