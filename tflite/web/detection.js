// What a detector finds: of its own post-processing, or of deltas and probabilities.

// Of files that leave it to the client, as keras_parc.detections has it.
const SCORE = 0.05;
const OVERLAP = 0.5;
const MOST = 100;

/**
 * The objects of the four outputs {boxes, classes, scores, count}: [{box, label, score}], the best
 * first. `box`: [ymin, xmin, ymax, xmax], shares of the image.
 */
export function finished({ boxes, classes, scores, count }) {
  // What lies behind the count is left over in memory.
  const found = Array.from({ length: Math.max(Math.trunc(count[0]), 0) }, (_, i) => ({
    box: Array.from(boxes.subarray(4 * i, 4 * i + 4)),
    label: Math.trunc(classes[i]),
    score: scores[i],
  }));
  return found.sort((a, b) => b.score - a.score);
}

/**
 * The same of the two outputs {boxes, scores}: deltas (anchors, 4), and probabilities
 * (anchors, classes) without the background. `decoding`: what the file says of the anchors.
 */
export function decoded({ boxes: deltas, scores }, { anchors, scales }) {
  const classes = scores.length / (anchors.length / 4);
  const found = [];
  for (let label = 0; label < classes; label++) {
    const candidates = [];
    for (let i = 0; 4 * i < anchors.length; i++) {
      const score = scores[i * classes + label];
      if (score > SCORE) candidates.push({ score, i });
    }
    candidates.sort((a, b) => b.score - a.score);
    const kept = [];
    for (const { score, i } of candidates) {
      const box = decode(deltas, anchors, scales, 4 * i);
      if (kept.every((each) => overlap(each.box, box) <= OVERLAP)) kept.push({ box, label, score });
    }
    found.push(...kept);
  }
  return found.sort((a, b) => b.score - a.score).slice(0, MOST);
}

function decode(deltas, anchors, scales, at) {
  const side = (k) => Math.exp(deltas[at + k] / scales[k]) * anchors[at + k];
  const centre = (k) => (deltas[at + k] / scales[k]) * anchors[at + k + 2] + anchors[at + k];
  const [y, x, height, width] = [centre(0), centre(1), side(2), side(3)];
  return [y - height / 2, x - width / 2, y + height / 2, x + width / 2];
}

/** Intersection over union of two boxes. */
function overlap(a, b) {
  const height = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const width = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (height <= 0 || width <= 0) return 0;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (height * width) / (area(a) + area(b) - height * width);
}
