// What run.py does with an image and with scores, number for number.

// Python's rounding: halves go to the even neighbour.
function round(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest > 0.5 || (rest === 0.5 && whole % 2) ? whole + 1 : whole;
}

const float = Math.fround; // 32 bits, as numpy computes

/**
 * For the middle `count` of `target` pixels the two of `source` they lie between (`low`, `high`),
 * and where (`share`): bilinear, half-pixel centres, no antialiasing.
 */
export function neighbours(source, target, count) {
  const first = Math.floor((target - count) / 2);
  const scale = float(source / target);
  const clip = (place) => Math.min(Math.max(place, 0), source - 1);
  const found = { low: new Int32Array(count), high: new Int32Array(count), share: new Float32Array(count) };
  for (let i = 0; i < count; i++) {
    const place = float(float(float(first + i + 0.5) * scale) - 0.5);
    const lower = Math.floor(place);
    found.low[i] = clip(lower);
    found.high[i] = clip(Math.ceil(place));
    found.share[i] = place - lower;
  }
  return found;
}

/**
 * An ImageData as (height, width) RGB; one of just that size is taken as it is.
 * `crop`: the model's side as a share of the short side that the image is resized to, of which the
 * centre is cut out; null: all of the image, stretched.
 */
export function resized({ data, width: w, height: h }, height, width, crop) {
  let whole = [height, width];
  if (crop && (h !== height || w !== width)) {
    const longer = Math.max(height, width);
    const shortSide = round(longer / crop);
    const tall = Math.floor((shortSide * height) / longer);
    const wide = Math.floor((shortSide * width) / longer);
    whole = h * wide < w * tall ? [tall, Math.floor((tall * w) / h)] : [Math.floor((wide * h) / w), wide];
  }
  const rows = neighbours(h, whole[0], height);
  const columns = neighbours(w, whole[1], width);
  const pixels = new Uint8Array(height * width * 3);
  for (let y = 0, at = 0; y < height; y++) {
    const [above, below, down] = [4 * w * rows.low[y], 4 * w * rows.high[y], rows.share[y]];
    for (let x = 0; x < width; x++) {
      const [before, behind, right] = [4 * columns.low[x], 4 * columns.high[x], columns.share[x]];
      for (let channel = 0; channel < 3; channel++, at++) {
        let start = data[above + before + channel];
        const upper = float(start + float((data[above + behind + channel] - start) * right));
        start = data[below + before + channel];
        const lower = float(start + float((data[below + behind + channel] - start) * right));
        pixels[at] = round(float(upper + float(float(lower - upper) * down)));
      }
    }
  }
  return pixels;
}

/** RGB values of 0..255 as the model takes them. */
export function encoded(pixels, { mean, std, channels }) {
  const values = new Float32Array(pixels.length);
  for (let i = 0; i < pixels.length; i++) {
    const from = channels === "bgr" ? i + 2 - 2 * (i % 3) : i;
    values[i] = (pixels[from] - mean[i % mean.length]) / std[i % std.length];
  }
  return values;
}

/** Softmax where the scores are logits. */
export function probabilities(scores) {
  if (scores.every((value) => value >= 0 && value <= 1)) return scores;
  const largest = scores.reduce((a, b) => Math.max(a, b));
  const powers = scores.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((value) => value / sum);
}

/** The class of every pixel (height, width) of logits (rows, columns, classes), bilinear. */
export function classMap(logits, rows, columns, classes, height, width) {
  const [down, right] = [neighbours(rows, height, height), neighbours(columns, width, width)];
  const line = new Float32Array(columns * classes); // logits of one row of the image
  const map = new Uint8Array(height * width);
  for (let y = 0, at = 0; y < height; y++) {
    const [above, below] = [down.low[y] * line.length, down.high[y] * line.length];
    for (let i = 0; i < line.length; i++) {
      line[i] = logits[above + i] + (logits[below + i] - logits[above + i]) * down.share[y];
    }
    for (let x = 0; x < width; x++, at++) {
      const [before, behind, share] = [right.low[x] * classes, right.high[x] * classes, right.share[x]];
      let [best, most] = [0, -Infinity];
      for (let i = 0; i < classes; i++) {
        const value = line[before + i] + (line[behind + i] - line[before + i]) * share;
        if (value > most) [best, most] = [i, value];
      }
      map[at] = best;
    }
  }
  return map;
}

/** The pixels of a picture file (ImageData), upright, without its transparency. */
export async function readPicture(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw Error(`${blob.name ?? "the file"} is not a picture that this browser can read`);
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const image = context.getImageData(0, 0, bitmap.width, bitmap.height);
  for (let i = 3; i < image.data.length; i += 4) if (image.data[i] !== 255) return withoutAlpha(bitmap);
  return image;
}

// The colours of an image with transparency as they are in the file: a canvas multiplies them by
// alpha, a texture does not.
function withoutAlpha(bitmap) {
  const { width, height } = bitmap;
  const gl = document.createElement("canvas").getContext("webgl");
  const texture = gl?.createTexture();
  gl?.bindTexture(gl.TEXTURE_2D, texture);
  gl?.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl?.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl?.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  if (gl?.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl?.FRAMEBUFFER_COMPLETE || !gl) {
    throw Error("this browser cannot read pictures with transparency: save it without");
  }
  const image = new ImageData(width, height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, image.data);
  for (let i = 3; i < image.data.length; i += 4) image.data[i] = 255;
  return image;
}
