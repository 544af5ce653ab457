"""What an `SSDLite` learns from: its two losses, and the objects of images as they take them."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_parc.models.boxes import Anchors, match
from keras_parc.models.ssd_lite import anchor_layout

NEGATIVES = 3  # For each positive anchor.


class _SSDLoss(keras.losses.Loss):
    """What both losses share: anchors, matching, and the number of positives to divide by.

    `y_true` is `(batch, objects, 5)`: boxes "yxyx" and labels from 0, below 0 for padding. `call`
    returns a value for each image, whose mean is the sum of all over the positives of the batch:
    images of weight 0 must have no objects.
    """

    def __init__(
        self, anchors: Anchors | dict, map_sizes: Sequence[tuple[int, int]], name: str, **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.anchors = anchors if isinstance(anchors, Anchors) else Anchors(**anchors)
        self.map_sizes = [tuple(size) for size in map_sizes]
        self._laid_out = self.anchors.on(self.map_sizes)

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, "float32")
        anchors = ops.convert_to_tensor(self._laid_out)
        deltas, labels = match(y_true[..., :4], y_true[..., 4], anchors)
        positive = labels > 0
        each = self.of_images(deltas, labels, positive, ops.cast(y_pred, "float32"))
        total = ops.maximum(ops.sum(ops.cast(positive, "float32")), 1.0)
        return each * (ops.cast(ops.shape(labels)[0], "float32") / total)

    def get_config(self):
        anchors = dataclasses.asdict(self.anchors)
        return super().get_config() | {"anchors": anchors, "map_sizes": self.map_sizes}


@keras.saving.register_keras_serializable(package="keras_parc")
class BoxLoss(_SSDLoss):
    """Smooth L1 (beta 1) of the deltas of positive anchors (equation 2 of SSD).

    Args:
        anchors: Those of the model.
        map_sizes: `(height, width)` of its feature maps.
        name: Of the loss.
    """

    def __init__(self, anchors, map_sizes, name="box_loss", **kwargs):
        super().__init__(anchors, map_sizes, name, **kwargs)

    def of_images(self, deltas, labels, positive, predicted):
        off = ops.abs(predicted - ops.where(positive[..., None], deltas, predicted))
        return ops.sum(ops.where(off < 1, 0.5 * off * off, off - 0.5), axis=(1, 2))


@keras.saving.register_keras_serializable(package="keras_parc")
class ScoreLoss(_SSDLoss):
    """Cross entropy of positive anchors and the hardest negatives, three for each (section 2.2).

    The hardest are those whose background is least probable.

    Args:
        anchors: Those of the model.
        map_sizes: `(height, width)` of its feature maps.
        name: Of the loss.
    """

    def __init__(self, anchors, map_sizes, name="score_loss", **kwargs):
        super().__init__(anchors, map_sizes, name, **kwargs)

    def of_images(self, deltas, labels, positive, logits):
        log_p = ops.log_softmax(logits)
        hardness = ops.where(positive, -np.inf, -log_p[..., 0])
        rank = ops.argsort(ops.argsort(-hardness))
        wanted = NEGATIVES * ops.sum(ops.cast(positive, "int32"), axis=1, keepdims=True)
        kept = ops.logical_or(positive, ops.cast(rank, "int32") < wanted)
        entropy = -ops.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
        return ops.sum(ops.where(kept, entropy, 0.0), axis=1)


def ssd_losses(
    model: keras.Model, image_size: tuple[int, int] | None = None
) -> dict[str, keras.losses.Loss]:
    """The losses to train an `SSDLite` with, for `model.compile`.

    Both take the same targets, `(batch, objects, 5)`: see `ssd_targets`.

    Args:
        model: An `SSDLite`.
        image_size: `(height, width)` in pixels; default: the model's own.

    Returns:
        "boxes" and "scores": each a sum over the batch, divided by its positive anchors.

    Raises:
        ValueError: See `ssd_anchors`.

    Example:
        >>> import keras_parc
        >>> backbone = keras_parc.ParCNetXS(include_top=False, input_shape=(32, 32, 3))
        >>> model = keras_parc.SSDLite(backbone, classes=2)
        >>> model.compile("adam", loss=keras_parc.ssd_losses(model), run_eagerly=True)
        >>> objects = keras_parc.ssd_targets([[[0.1, 0.1, 0.6, 0.5]], []], [[1], []], classes=2)
        >>> targets = {"boxes": objects, "scores": objects}
        >>> history = model.fit(np.zeros((2, 32, 32, 3)), targets, verbose=0)
    """
    anchors, sizes = anchor_layout(model, image_size)
    return {"boxes": BoxLoss(anchors, sizes), "scores": ScoreLoss(anchors, sizes)}


def ssd_targets(
    boxes: Sequence, labels: Sequence, *, classes: int, most: int | None = None
) -> np.ndarray:
    """Objects of some images, checked and padded to one array: what `ssd_losses` take.

    Args:
        boxes: For each image `(objects, 4)`: `[ymin, xmin, ymax, xmax]` in shares of the image.
        labels: For each image `(objects,)`: classes from 0, the background not counted.
        classes: Number of classes.
        most: Objects to pad to; None: as many as an image has, at least one.

    Returns:
        `(images, most, 5)` float32: boxes and labels; the padding has the label -1.

    Raises:
        ValueError: A box is not finite, outside the image or without an area, a label is out of
            range, or an image has more than `most` objects.

    Example:
        >>> ssd_targets([[[0.1, 0.1, 0.6, 0.5]], []], [[1], []], classes=2)[:, 0, 4].tolist()
        [1.0, -1.0]
    """
    if len(boxes) != len(labels):
        raise ValueError(f"There are boxes of {len(boxes)} images and labels of {len(labels)}.")
    counts = [len(each) for each in boxes]
    most = max((1, *counts)) if most is None else most
    targets = np.tile(np.float32([0, 0, 0, 0, -1]), (len(boxes), most, 1))
    for number, (some, classes_of, count) in enumerate(zip(boxes, labels, counts, strict=True)):
        if count == 0 and len(classes_of) == 0:
            continue
        some, numbers = np.asarray(some, "float32"), np.asarray(classes_of)
        if some.shape != (count, 4) or numbers.shape != (count,):
            raise ValueError(
                f"Image {number} has boxes of shape {some.shape} and labels of {numbers.shape}; "
                "expected (objects, 4) and (objects,)."
            )
        if count > most:
            raise ValueError(f"Image {number} has {count} objects, more than {most}.")
        if not np.isfinite(some).all() or some.min() < 0 or some.max() > 1:
            raise ValueError(
                f"Image {number} has a box that is not finite or not within 0..1: shares of the "
                f"image are expected, [ymin, xmin, ymax, xmax], got {some.tolist()}."
            )
        if (some[:, :2] >= some[:, 2:]).any():
            raise ValueError(f"Image {number} has a box without an area: {some.tolist()}.")
        if (numbers != np.rint(numbers)).any() or numbers.min() < 0 or numbers.max() >= classes:
            raise ValueError(
                f"Image {number} has labels {numbers.tolist()}; expected whole numbers from 0 to "
                f"{classes - 1}."
            )
        targets[number, :count, :4], targets[number, :count, 4] = some, numbers
    return targets
