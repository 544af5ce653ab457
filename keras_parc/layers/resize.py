"""Resizing one map to the sides of another."""

from typing import Any

import keras
from keras import ops


def sides(x: Any) -> tuple[int | Any, int | Any]:
    """Height and width of a map `(batch, height, width, channels)`: numbers where they are known.

    In a compiled graph for images of any size they are tensors.
    """
    dynamic = ops.shape(x)
    return tuple(x.shape[i] if x.shape[i] is not None else dynamic[i] for i in (1, 2))


def resize(x: Any, size: tuple[int | Any, int | Any]) -> Any:
    """Resize a map, bilinear, half-pixel centres; to its own size it stays as it is.

    Args:
        x: `(batch, height, width, channels)`.
        size: Height and width, as `sides` gives them.
    """
    if all(isinstance(side, int) for side in (*sides(x), *size)):
        if tuple(x.shape[1:3]) == tuple(size):
            return x
        return ops.image.resize(x, size, interpolation="bilinear", data_format="channels_last")
    # Keras refuses sizes that are tensors.
    down, right = (
        ops.cast(_interpolation(source, target), x.dtype)
        for source, target in zip(sides(x), size, strict=True)
    )
    return ops.einsum("ph,qw,bhwc->bpqc", down, right, x)


def _interpolation(source: Any, target: Any) -> Any:
    """The matrix `(target, source)` that interpolates a line of pixels linearly."""
    length = ops.cast(source, "float32")
    places = (ops.arange(target, dtype="float32") + 0.5) * length / ops.cast(target, "float32")
    places = ops.clip(places - 0.5, 0.0, length - 1)[:, None]
    return ops.relu(1 - ops.abs(places - ops.arange(source, dtype="float32")))


@keras.saving.register_keras_serializable(package="keras_parc")
class ResizeLike(keras.layers.Layer):
    """Resize a map to the height and width of a second input, bilinear.

    Half-pixel centres, no antialiasing (PyTorch's `align_corners=False`). A map of one pixel is
    spread over all places.

    Args:
        **kwargs: `name`, `dtype` and the like, see `keras.layers.Layer`.

    Inputs: a pair of `(batch, h, w, channels)` and a map `(batch, height, width, any)`, any sides,
    known or not. Output: `(batch, height, width, channels)`.

    Example:
        >>> import numpy as np

        >>> ResizeLike()([np.ones((2, 3, 4, 5)), np.ones((2, 48, 64, 3))]).shape == (2, 48, 64, 5)
        True
    """

    def call(self, inputs):
        x, like = inputs  # An image may be uint8; only its sides count.
        return resize(x, sides(like))

    def compute_output_shape(self, input_shapes):
        x, like = input_shapes
        return (*like[:3], x[-1])
