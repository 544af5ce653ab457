"""Patches of a map for attention between them, and back: MobileViT's unfold and fold.

Mehta, Rastegari: MobileViT, ICLR 2022, arXiv 2110.02178, section 3.1.
"""

import keras
from keras import layers, ops

from keras_parc.layers.resize import resize, sides


@keras.saving.register_keras_serializable(package="keras_parc")
class Unfold(layers.Layer):
    """Cut a map into patches: attention runs between pixels at the same place of their patches.

    A map whose sides are no multiple of the patch is resized (bilinear, half-pixel centres) first.

    Args:
        patch: Side of the square patch, at least 1.

    Input: `(batch, height, width, channels)`. Output: `(batch, patch * patch, patches, channels)`.

    Source: section 3.1 of MobileViT, "unfold".
    """

    def __init__(self, patch: int, **kwargs):
        super().__init__(**kwargs)
        self.patch = patch
        self.input_spec = layers.InputSpec(ndim=4)

    def call(self, x):
        patch, channels = self.patch, x.shape[-1]
        height, width = sides(x)
        rows, columns = _ceil(height, patch), _ceil(width, patch)
        x = resize(x, (rows * patch, columns * patch))
        x = ops.reshape(x, (-1, rows, patch, columns, patch, channels))
        x = ops.transpose(x, (0, 2, 4, 1, 3, 5))
        return ops.reshape(x, (-1, patch * patch, rows * columns, channels))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        known = None not in (height, width)
        patches = _ceil(height, self.patch) * _ceil(width, self.patch) if known else None
        return (batch, self.patch**2, patches, channels)

    def get_config(self):
        return super().get_config() | {"patch": self.patch}


@keras.saving.register_keras_serializable(package="keras_parc")
class Fold(layers.Layer):
    """The inverse of `Unfold`: patches back to a map of the size of a second input.

    Args:
        patch: Side of the square patch, as given to `Unfold`.

    Inputs: a pair of `(batch, patch * patch, patches, channels)` and a map
    `(batch, height, width, any)`. Output: `(batch, height, width, channels)`.

    Source: section 3.1 of MobileViT, "fold".
    """

    def __init__(self, patch: int, **kwargs):
        super().__init__(**kwargs)
        self.patch = patch

    def call(self, inputs):
        x, like = inputs
        patch, channels = self.patch, x.shape[-1]
        height, width = sides(like)
        rows, columns = _ceil(height, patch), _ceil(width, patch)
        x = ops.reshape(x, (-1, patch, patch, rows, columns, channels))
        x = ops.transpose(x, (0, 3, 1, 4, 2, 5))
        x = ops.reshape(x, (-1, rows * patch, columns * patch, channels))
        return resize(x, (height, width))

    def compute_output_shape(self, input_shapes):
        patches, like = input_shapes
        return (*like[:3], patches[-1])

    def get_config(self):
        return super().get_config() | {"patch": self.patch}


def _ceil(side, patch):
    return (side + patch - 1) // patch
