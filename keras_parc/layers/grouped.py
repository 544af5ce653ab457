"""Grouped convolutions in forms that every backend trains fast.

Same weights and results as Keras' layers. TensorFlow cannot differentiate a grouped convolution on
the CPU, so Keras has XLA compile it, and XLA (thus JAX too) runs the gradient of one, and of a
depthwise convolution with more outputs than inputs, hundreds of times slower than what stands here:
see `experiments/results/forms.csv`. PyTorch's own are as fast.
"""

import keras
from keras import layers, ops


def grouped_conv(x, kernel, strides=(1, 1), padding="valid", dilation_rate=(1, 1)):
    """Convolution in groups, by one product if 1x1, else by depthwise convolutions.

    Args:
        x: `(batch, height, width, channels)`.
        kernel: `(rows, columns, channels of a group, output channels)`, the groups one after the
            other along the last axis; there are as many as its third axis divides the channels.
        strides: Along height and width.
        padding: "valid" or "same".
        dilation_rate: Along height and width.

    Returns:
        `(batch, new height, new width, output channels)`.

    Example:
        >>> import numpy as np
        >>> y = grouped_conv(np.ones((1, 5, 5, 4), "float32"), np.ones((1, 1, 2, 6), "float32"))
        >>> y.shape == (1, 5, 5, 6)
        True
    """
    rows, columns, inside, filters = kernel.shape
    groups = x.shape[-1] // inside
    each = filters // groups  # outputs of a group
    if (rows, columns) == (1, 1):
        # One dense kernel that is zero between groups.
        own = ops.reshape(ops.eye(groups, dtype=kernel.dtype), (groups, 1, groups, 1))
        dense = ops.reshape(kernel, (1, inside, groups, each)) * own
        x = x[:, :: strides[0], :: strides[1]]
        return ops.matmul(x, ops.reshape(dense, (groups * inside, filters)))
    parts = [
        ops.depthwise_conv(
            ops.repeat(x[..., index::inside], each, axis=-1),
            ops.expand_dims(kernel[:, :, index], -1),
            strides=strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=dilation_rate,
        )
        for index in range(inside)
    ]
    return sum(parts[1:], parts[0])


def _has_own() -> bool:
    return keras.config.backend() == "torch"


@keras.saving.register_keras_serializable(package="keras_parc")
class GroupedConv2D(layers.Conv2D):
    """`keras.layers.Conv2D` with `groups`, in the form of `grouped_conv`.

    Args, input, output and errors: as `keras.layers.Conv2D`; channels last.

    Example:
        >>> import numpy as np
        >>> layer = GroupedConv2D(6, 3, groups=2)
        >>> layer(np.ones((1, 5, 5, 4), "float32")).shape == (1, 3, 3, 6)
        True
    """

    def convolution_op(self, inputs, kernel):
        if _has_own():
            return super().convolution_op(inputs, kernel)
        return grouped_conv(inputs, kernel, self.strides, self.padding, self.dilation_rate)


@keras.saving.register_keras_serializable(package="keras_parc")
class ExpandingDepthwiseConv2D(layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a `depth_multiplier`, in the form of `grouped_conv`.

    Args, input, output and errors: as `keras.layers.DepthwiseConv2D`; channels last.

    Example:
        >>> import numpy as np
        >>> layer = ExpandingDepthwiseConv2D(3, depth_multiplier=2)
        >>> layer(np.ones((1, 5, 5, 4), "float32")).shape == (1, 3, 3, 8)
        True
    """

    def call(self, inputs):
        if _has_own():
            return super().call(inputs)
        kernel = ops.reshape(self.kernel, (*self.kernel_size, 1, -1))
        x = grouped_conv(inputs, kernel, self.strides, self.padding, self.dilation_rate)
        x = x + self.bias if self.use_bias else x
        return self.activation(x)
