"""Anchors of SSD: where they lie, which object each answers for, and boxes relative to them.

Liu and others: SSD: Single Shot MultiBox Detector, ECCV 2016, arXiv 1512.02325; as ParC-Net's
authors use it. Boxes are `[ymin, xmin, ymax, xmax]` ("yxyx"), anchors `[y, x, height, width]`
around their centre ("center_yxhw"), all in shares of the image, 0 to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from keras import ops
from keras.utils import bounding_boxes

from keras_parc.layers.blocks import Tensor

# What offsets and logarithms are divided by, in the order of "center_yxhw".
VARIANCE = (0.1, 0.1, 0.2, 0.2)
MATCH_IOU = 0.5
Detections = dict[str, np.ndarray]


@dataclass(frozen=True)
class Anchors:
    """Which anchors every cell of every feature map has (section 2.2 of SSD).

    Args:
        aspect_ratios: For each map, finest first, ratios r above 1: each adds an anchor r times as
            wide as high, and one as high as wide, to two squares.
        smallest: Side of the finest map's small square, in shares of the image.
        largest: Side of the large square of the map behind the last one.

    Raises:
        ValueError: No maps, a ratio not above 1, or sizes that are not `0 < smallest < largest`.

    Example:
        >>> Anchors().per_cell
        (6, 6, 6, 6, 6, 4)
    """

    aspect_ratios: tuple[tuple[float, ...], ...] = (*((2.0, 3.0),) * 5, (2.0,))
    smallest: float = 0.1
    largest: float = 1.05

    def __post_init__(self):
        try:
            ratios = tuple(tuple(float(r) for r in each) for each in self.aspect_ratios)
        except TypeError:
            raise ValueError(
                "`aspect_ratios` must be a list of ratios for each feature map, got "
                f"{self.aspect_ratios!r}."
            ) from None
        if not ratios or not all(1 < ratio < np.inf for each in ratios for ratio in each):
            raise ValueError(
                "`aspect_ratios` must be a list of ratios above 1 for each feature map, got "
                f"{self.aspect_ratios!r}."
            )
        if not 0 < self.smallest < self.largest < np.inf:
            raise ValueError(
                f"`smallest` and `largest` must be 0 < smallest < largest, got {self.smallest} and "
                f"{self.largest}."
            )
        object.__setattr__(self, "aspect_ratios", ratios)

    @property
    def per_cell(self) -> tuple[int, ...]:
        """The number of anchors of one cell, for each map."""
        return tuple(2 + 2 * len(ratios) for ratios in self.aspect_ratios)

    def on(self, map_sizes: Sequence[tuple[int, int]]) -> np.ndarray:
        """Lay the anchors out.

        Args:
            map_sizes: `(height, width)` of each feature map, in cells.

        Returns:
            `(anchors, 4)` float32, "center_yxhw", clipped to 0..1: map after map, row after row,
            cell after cell.

        Raises:
            ValueError: There are not as many maps as lists of ratios, or one is empty.

        Example:
            >>> Anchors().on([(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]).shape
            (3232, 4)
        """
        if len(map_sizes) != len(self.aspect_ratios):
            raise ValueError(
                f"The anchors are for {len(self.aspect_ratios)} feature maps, there are "
                f"{len(map_sizes)}: {list(map_sizes)}."
            )
        if not all(side and side > 0 for size in map_sizes for side in size):
            raise ValueError(f"Feature maps need known sides of at least 1, got {list(map_sizes)}.")
        sizes = np.linspace(self.smallest, self.largest, len(map_sizes) + 1)
        found = []
        for level, (height, width) in enumerate(map_sizes):
            shapes = self._shapes(sizes[level], sizes[level + 1], self.aspect_ratios[level])
            y, x = np.meshgrid(
                (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
            )
            centres = np.stack([y, x], -1).reshape(-1, 1, 2).repeat(len(shapes), 1)
            sides = np.broadcast_to(shapes, centres.shape)
            found.append(np.concatenate([centres, sides], -1).reshape(-1, 4))
        return np.clip(np.concatenate(found), 0, 1).astype("float32")

    @staticmethod
    def _shapes(small: float, next_small: float, ratios: tuple[float, ...]) -> list:
        """Height and width of the anchors of a cell."""
        large = np.sqrt(small * next_small)
        shapes = [(small, small), (large, large)]
        for root in np.sqrt(ratios):
            shapes += [(small / root, small * root), (small * root, small / root)]
        return shapes


def match(boxes: Tensor, labels: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Give every anchor the object it answers for (section 2.2 of SSD, "Matching strategy").

    That is the object it overlaps most, if their IoU is at least 0.5; and every object has the
    anchor that overlaps it most, the last object where several claim one.

    Args:
        boxes: `(batch, objects, 4)`, "yxyx". Objects may be padded.
        labels: `(batch, objects)`, classes from 0; below 0: padding. Boxes without an area are
            padding too.
        anchors: `(anchors, 4)`, "center_yxhw".

    Returns:
        Deltas `(batch, anchors, 4)` of the boxes, see `encode`, and classes `(batch, anchors)` from
        1, int32; 0 is background, whose deltas mean nothing.
    """
    labels = ops.cast(labels, "int32")
    area = ops.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
    real = ops.logical_and(labels >= 0, area > 0)[:, None, :]
    corners = bounding_boxes.convert_format(anchors, "center_yxhw", "yxyx")
    # (batch, anchors, objects); an object that is none overlaps less than any.
    iou = ops.where(real, bounding_boxes.compute_iou(corners, boxes, "yxyx"), -1.0)
    best = ops.argmax(iou, axis=-1)
    number = ops.arange(ops.shape(anchors)[0], dtype="int32")[None, :, None]
    claimed = ops.cast(ops.argmax(iou, axis=1), "int32")[:, None, :]
    objects = ops.arange(ops.shape(boxes)[1], dtype="int32")
    claim = ops.logical_and(number == claimed, real)
    forced = ops.max(ops.where(claim, objects, -1), axis=-1)
    positive = ops.logical_or(forced >= 0, ops.max(iou, axis=-1) >= MATCH_IOU)
    chosen = ops.where(forced >= 0, forced, ops.cast(best, "int32"))
    deltas = encode(ops.take_along_axis(boxes, chosen[..., None], axis=1), anchors)
    classes = ops.take_along_axis(labels, chosen, axis=1) + 1
    return deltas, ops.where(positive, classes, 0)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes relative to anchors: `(batch, anchors, 4)`, "yxyx", to deltas of that shape.

    Offsets of the centre in sides of the anchor over 0.1, logarithms of the sides' ratios over 0.2,
    in the order y, x, height, width.
    """
    return bounding_boxes.encode_box_to_deltas(
        anchors, boxes, "center_yxhw", "yxyx", variance=VARIANCE
    )


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode`."""
    return bounding_boxes.decode_deltas_to_boxes(
        anchors, deltas, "center_yxhw", "yxyx", variance=VARIANCE
    )


def detections(
    outputs: Mapping[str, Tensor],
    anchors: np.ndarray,
    *,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    per_class: int = 200,
    max_boxes: int | None = None,
) -> list[Detections]:
    """Decode what an `SSDLite` puts out: softmax, boxes, non-maximum suppression class by class.

    Args:
        outputs: "boxes" `(batch, anchors, 4)` and "scores" `(batch, anchors, classes + 1)`, logits,
            the background first.
        anchors: What `keras_parc.ssd_anchors` returns for the image size.
        score_threshold: What a probability must be above, 0 to 1.
        iou_threshold: Of two boxes of one class that overlap by more, the better one stays, 0 to 1.
        per_class: Largest number of boxes of one class, at least 1.
        max_boxes: Largest number of boxes of an image, the best ones, at least 1; None: all.

    Returns:
        For each image "boxes" `(n, 4)`, "yxyx", not clipped to the image, "scores" `(n,)` and
        "labels" `(n,)`, classes from 0 without the background: the best first.

    Raises:
        ValueError: The outputs do not fit the anchors, or an argument is out of its range.

    Example:
        >>> anchors = np.array([[0.5, 0.5, 0.4, 0.2]], "float32")
        >>> outputs = {"boxes": np.zeros((1, 1, 4)), "scores": np.array([[[0.0, 9.0, 0.0]]])}
        >>> found = detections(outputs, anchors)[0]
        >>> found["labels"].tolist(), (10 * found["boxes"]).round().tolist()
        ([0], [[3.0, 4.0, 7.0, 6.0]])
    """
    for name, share in (("score_threshold", score_threshold), ("iou_threshold", iou_threshold)):
        if not 0 <= share <= 1:
            raise ValueError(f"`{name}` must be 0 to 1, got {share}.")
    if per_class < 1 or (max_boxes is not None and max_boxes < 1):
        raise ValueError(
            f"`per_class` and `max_boxes` must be at least 1, got {per_class} and {max_boxes}."
        )
    deltas = ops.convert_to_tensor(outputs["boxes"], "float32")
    logits = ops.convert_to_tensor(outputs["scores"], "float32")
    expected = (deltas.shape[0], len(anchors))
    if tuple(deltas.shape) != (*expected, 4) or tuple(logits.shape[:2]) != expected:
        raise ValueError(
            f"There are {len(anchors)} anchors, the outputs are {tuple(deltas.shape)} and "
            f"{tuple(logits.shape)}: expected (batch, anchors, 4) and (batch, anchors, classes)."
        )
    # The runtime's own kernel, for all classes at once: Keras has none.
    from tensorflow import image

    boxes = ops.convert_to_numpy(decode(deltas, anchors))[:, :, None]
    scores = ops.convert_to_numpy(ops.softmax(logits))[..., 1:]
    max_boxes = max_boxes or per_class * scores.shape[-1]
    limits = (per_class, max_boxes, iou_threshold, score_threshold)
    found = image.combined_non_max_suppression(boxes, scores, *limits, clip_boxes=False)
    boxes, scores, labels, counts = (each.numpy() for each in found)
    return [
        {"boxes": boxes[i, :n], "scores": scores[i, :n], "labels": labels[i, :n].astype("int32")}
        for i, n in enumerate(counts)
    ]
