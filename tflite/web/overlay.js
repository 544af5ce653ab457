// What is drawn over the image: boxes with labels, the classes of pixels.

// Okabe and Ito's palette, distinguishable with any colour vision.
const BOXES = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000"];
const PAINT = 0.6; // how much of a class's colour

/** The colour of a class: of boxes, or of pixels (PASCAL VOC's). */
export function colourOf(task, label) {
  if (task === "detection") return BOXES[label % BOXES.length];
  const bits = (channel) => [0, 1, 2].reduce((sum, i) => sum | (((label >> (3 * i + channel)) & 1) << (7 - i)), 0);
  return `rgb(${bits(0)} ${bits(1)} ${bits(2)})`;
}

/** Draw what was found over an image of (width, height) pixels; the canvas gets the screen's own. */
export function draw(canvas, found, nameOf) {
  const { width, height } = canvas.getBoundingClientRect();
  const scale = self.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  const context = canvas.getContext("2d");
  if (found?.map) paint(context, found, canvas);
  for (const object of [...(found?.objects ?? [])].reverse()) drawBox(context, object, nameOf, scale);
}

function paint(context, { map, width, height }, canvas) {
  const layer = new ImageData(width, height);
  const colours = new Map([...new Set(map)].map((label) => [label, colourOf("segmentation", label).match(/\d+/g)]));
  for (let i = 0; i < map.length; i++) {
    if (!map[i]) continue; // class 0, the background, stays
    layer.data.set(colours.get(map[i]), 4 * i);
    layer.data[4 * i + 3] = 255 * PAINT;
  }
  const small = document.createElement("canvas");
  [small.width, small.height] = [width, height];
  small.getContext("2d").putImageData(layer, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function drawBox(context, { box, label, score }, nameOf, scale) {
  const { width, height } = context.canvas;
  const [top, left, bottom, right] = box.map((side, i) => side * (i % 2 ? width : height));
  const [line, size] = [3 * scale, 15 * scale];
  const colour = colourOf("detection", label);
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = line;
  context.strokeRect(left, top, right - left, bottom - top);
  const text = `${nameOf(label)} ${Math.round(100 * score)} %`;
  context.font = `600 ${size}px system-ui, sans-serif`;
  const [wide, tall] = [context.measureText(text).width + 0.7 * size, 1.4 * size];
  const x = Math.max(0, Math.min(left - line / 2, width - wide));
  const y = top >= tall ? top - tall : Math.max(0, top);
  context.fillRect(x, y, wide, tall);
  context.fillStyle = ["#0072b2", "#d55e00", "#000000"].includes(colour) ? "#fff" : "#000";
  context.textBaseline = "middle";
  context.fillText(text, x + 0.35 * size, y + tall / 2);
}
