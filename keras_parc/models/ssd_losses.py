"""What an `SSDLite` learns from: its two losses, and the objects of images as they take them."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_parc.models.losses import BoxLoss, ScoreLoss
from keras_parc.models.ssd_lite import anchor_layout


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
        >>> backbone = keras_parc.ParCNetTiny(include_top=False, input_shape=(32, 32, 3))
        >>> model = keras_parc.SSDLite(backbone, classes=2)
        >>> model.compile("adam", loss=keras_parc.ssd_losses(model), run_eagerly=True)
        >>> objects = keras_parc.ssd_targets([[[0.1, 0.1, 0.6, 0.5]], []], [[1], []], classes=2)
        >>> targets = {"boxes": objects, "scores": objects}
        >>> history = model.fit(np.zeros((2, 32, 32, 3)), targets, verbose=0)
    """
    anchors, sizes = anchor_layout(model, image_size)
    return {"boxes": BoxLoss(anchors, sizes), "scores": ScoreLoss(anchors, sizes)}


def ssd_targets(
    boxes: Sequence, labels: Sequence, *, classes: int, max_boxes: int | None = None
) -> np.ndarray:
    """Objects of some images, checked and padded to one array: what `ssd_losses` take.

    Args:
        boxes: For each image `(objects, 4)`: `[ymin, xmin, ymax, xmax]` in shares of the image.
        labels: For each image `(objects,)`: classes from 0, the background not counted.
        classes: Number of classes.
        max_boxes: Objects to pad to; None: as many as an image has, at least one.

    Returns:
        `(images, max_boxes, 5)` float32: boxes and labels; the padding has the label -1.

    Raises:
        ValueError: A box is not finite, outside the image or without an area, a label is out of
            range, or an image has more than `max_boxes` objects.

    Example:
        >>> ssd_targets([[[0.1, 0.1, 0.6, 0.5]], []], [[1], []], classes=2)[:, 0, 4].tolist()
        [1.0, -1.0]
    """
    if len(boxes) != len(labels):
        raise ValueError(f"There are boxes of {len(boxes)} images and labels of {len(labels)}.")
    counts = [len(each) for each in boxes]
    max_boxes = max((1, *counts)) if max_boxes is None else max_boxes
    targets = np.tile(np.float32([0, 0, 0, 0, -1]), (len(boxes), max_boxes, 1))
    for number, (some, classes_of, count) in enumerate(zip(boxes, labels, counts, strict=True)):
        if count == 0 and len(classes_of) == 0:
            continue
        some, numbers = np.asarray(some, "float32"), np.asarray(classes_of)
        if some.shape != (count, 4) or numbers.shape != (count,):
            raise ValueError(
                f"Image {number} has boxes of shape {some.shape} and labels of {numbers.shape}; "
                "expected (objects, 4) and (objects,)."
            )
        if count > max_boxes:
            raise ValueError(f"Image {number} has {count} objects, more than {max_boxes}.")
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
