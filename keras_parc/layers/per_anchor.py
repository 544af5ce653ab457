"""Predictions of several feature maps as one list over all anchors."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers, ops

MAX_JOINED = 4  # Maps at once: XNNPACK concatenates no more than five.


@keras.saving.register_keras_serializable(package="keras_parc")
class PerAnchor(layers.Layer):
    """Predictions of several feature maps as one list over all anchors.

    Args:
        values: Numbers for each anchor.
        anchors: The fields of the `Anchors` that the model was built with, kept with it.

    Inputs: maps `(batch, height, width, anchors_per_cell * values)`. Output:
    `(batch, anchors, values)`, map after map, row after row, cell after cell.
    """

    def __init__(self, values: int, anchors: Mapping[str, Any] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.values = values
        self.anchors = anchors

    def call(self, maps):
        lists = []
        for x in maps:  # The values of a cell lie together, anchor after anchor.
            count = self._count(x.shape)
            batch = ops.shape(x)[0] if count is None else -1
            lists.append(ops.reshape(x, (batch, -1 if count is None else count, self.values)))
        if len(lists) > MAX_JOINED:  # The coarse maps, which are small, first.
            coarse = ops.concatenate(lists[MAX_JOINED - 1 :], axis=1)
            lists = [*lists[: MAX_JOINED - 1], coarse]
        return ops.concatenate(lists, axis=1)

    def _count(self, shape) -> int | None:
        _, height, width, channels = shape
        return None if None in (height, width) else height * width * channels // self.values

    def compute_output_shape(self, input_shapes):
        counts = [self._count(shape) for shape in input_shapes]
        return (input_shapes[0][0], None if None in counts else sum(counts), self.values)

    def get_config(self):
        anchors = None if self.anchors is None else dict(self.anchors)
        return super().get_config() | {"values": self.values, "anchors": anchors}
