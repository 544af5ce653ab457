"""The losses of detectors and segmenters, which `keras.models.load_model` finds by their names."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_parc.models.boxes import Anchors, match
from keras_parc.support.class_maps import IGNORED

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


@keras.saving.register_keras_serializable(package="keras_parc")
class _PixelCrossEntropy(keras.losses.SparseCategoricalCrossentropy):
    """Cross-entropy that says when a mask is not of the size of the logits."""

    def call(self, y_true, y_pred):
        mask, logits = y_true.shape[1:3], y_pred.shape[1:3]
        if any(None not in pair and pair[0] != pair[1] for pair in zip(mask, logits, strict=True)):
            raise ValueError(
                f"Masks of {tuple(mask)} pixels do not fit logits of {tuple(logits)}: resize image "
                "and mask to one size."
            )
        return super().call(y_true, y_pred)


def pixel_cross_entropy() -> keras.losses.Loss:
    """The loss of segmentation: cross-entropy at every pixel that has a class.

    Returns:
        A loss of masks `(batch, height, width)`, class numbers or `IGNORED` (255), and logits
        `(batch, height, width, classes)`: the mean over all pixels of the batch that count, 0 if
        none does. It raises a ValueError where masks and logits differ in size.

    Source: the authors' recipe; no class weights, no auxiliary head.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[0, 1], [255, 255]]])
        >>> round(float(pixel_cross_entropy()(mask, np.zeros((1, 2, 2, 21)))), 4)
        3.0445
    """
    return _PixelCrossEntropy(from_logits=True, ignore_class=IGNORED)
