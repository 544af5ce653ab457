// What run.py does with an image and with scores, number for number.


// Python's rounding: halves go to the even neighbour.
function round(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest > 0.5 || (rest === 0.5 && whole % 2) ? whole + 1 : whole;
}

const float = Math.fround; // 32 bits, as numpy computes

// For the middle `count` of `target` pixels the two of `source` they lie between, and where:
// bilinear, half-pixel centres, no antialiasing.
function neighbours(source, target, count) {
  const first = Math.floor((target - count) / 2);
  const scale = float(source / target);
  const clip = (place) => Math.min(Math.max(place, 0), source - 1);
  return Array.from({ length: count }, (_, i) => {
    const place = float(float(float(first + i + 0.5) * scale) - 0.5);
    const lower = Math.floor(place);
    return [clip(lower), clip(Math.ceil(place)), float(place - lower)];
  });
}

/**
 * The centre of an ImageData as (height, width) RGB; one of just that size is taken as it is.
 * `crop`: the model's side as a share of the short side that the image is resized to.
 */
export function centre({ data, width: w, height: h }, height, width, crop) {
  let whole = [height, width];
  if (h !== height || w !== width) {
    const longer = Math.max(height, width);
    const shortSide = round(longer / crop);
    const tall = Math.floor((shortSide * height) / longer);
    const wide = Math.floor((shortSide * width) / longer);
    whole = h * wide < w * tall ? [tall, Math.floor((tall * w) / h)] : [Math.floor((wide * h) / w), wide];
  }
  const columns = neighbours(w, whole[1], width);
  const pixels = new Uint8Array(height * width * 3);
  neighbours(h, whole[0], height).forEach(([above, below, down], y) => {
    columns.forEach(([before, behind, right], x) => {
      for (let channel = 0; channel < 3; channel++) {
        const between = (row) => {
          const start = data[(row * w + before) * 4 + channel];
          return float(start + float((data[(row * w + behind) * 4 + channel] - start) * right));
        };
        const upper = between(above);
        const value = float(upper + float(float(between(below) - upper) * down));
        pixels[(y * width + x) * 3 + channel] = round(value);
      }
    });
  });
  return pixels;
}

/** Softmax where the scores are logits. */
export function probabilities(scores) {
  if (scores.every((value) => value >= 0 && value <= 1)) return scores;
  const largest = scores.reduce((a, b) => Math.max(a, b));
  const powers = scores.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((value) => value / sum);
}
