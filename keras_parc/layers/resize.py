"""Resizing one map to the sides of another."""

import keras
from keras import ops


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
        x, like = inputs
        size = tuple(ops.shape(like)[1:3])
        if tuple(x.shape[1:3]) == size:
            return x
        # An image may be uint8; only its sides count.
        return ops.image.resize(x, size, interpolation="bilinear", data_format="channels_last")

    def compute_output_shape(self, input_shapes):
        x, like = input_shapes
        return (*like[:3], x[-1])
