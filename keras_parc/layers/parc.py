"""Position-aware circular convolution (ParC) as Keras layers.

Zhang, Hu, Wang: ParC-Net, ECCV 2022 (arXiv 2203.03952), section 3.1, equations 1 and 2.

`ParCV` runs along the height (down a column), `ParCH` along the width (along a row). Both add a
position embedding, then convolve depthwise with a kernel as long as the side they run along:

    out[i] = sum_j kernel[j] * (x + position)[(i + j) mod n],    n = the side

With `depthwise=False` every output channel sees every input channel, as in ParC-ResNet50.

The kernel and the embedding are stored at a fixed length and resampled linearly, end to end, to
the side of the input. Everything here is `keras.ops`: TensorFlow, JAX and PyTorch run it.
"""

import keras
import numpy as np
from keras import ops

_AXES = {"height": 1, "width": 2}


def align_corners_matrix(stored: int, length):
    """Matrix that resamples `stored` values linearly to `length` values, end points kept.

    Target i lies at `i * (stored - 1) / (length - 1)` (PyTorch's `align_corners=True`); a single
    target takes the first value.

    Args:
        stored: Number of stored values, at least 1.
        length: Number of values wanted: an int, or an integer scalar tensor when the side is only
            known at run time.

    Returns:
        `(length, stored)` float32: a numpy array for an int `length`, else a tensor.

    Example:
        >>> from keras_parc.layers.parc import align_corners_matrix
        >>> align_corners_matrix(3, 5)[1].tolist()
        [0.5, 0.5, 0.0]
    """
    source = np.arange(stored, dtype="float32")
    if isinstance(length, int):
        xp, target, last = np, np.arange(length, dtype="float32"), np.float32(max(length - 1, 1))
    else:
        xp, target = ops, ops.cast(ops.arange(length), "float32")
        last = ops.cast(ops.maximum(length - 1, 1), "float32")
    # Both positions times `last`, so that they stay whole numbers.
    distance = xp.abs(target[:, None] * (stored - 1) - source[None, :] * last)
    return xp.maximum(last - distance, 0.0) / last


def circular_conv(x, kernel, axis: int, side):
    """Convolve every channel circularly by its own kernel, as a product with a circulant matrix.

    `out[i] = sum_j kernel[j] * x[(i + j) mod side]`. Backends run a depthwise convolution with a
    kernel this long tap by tap, and its gradient slower still: `experiments/convolution_forms.py`
    compares the two and others, `experiments/results/forms.csv` has the times.

    Args:
        x: `(batch, height, width, channels)`.
        kernel: `(side, channels)`.
        axis: 1, along the height, or 2, along the width.
        side: The length of that axis: an int, or an integer scalar tensor.

    Returns:
        A tensor of the shape of `x`.

    Example:
        >>> import numpy as np
        >>> y = circular_conv(np.ones((1, 3, 5, 2), "float32"), np.ones((3, 2), "float32"), 1, 3)
        >>> y.shape == (1, 3, 5, 2)
        True
    """
    place = np.arange(side) if isinstance(side, int) else ops.arange(side)
    first, second = place[:, None], place[None, :]
    taps = (second - first if axis == 1 else first - second) % side
    matrix = ops.take(ops.transpose(kernel), taps, axis=1)  # (channels, side, side)
    x = ops.transpose(x, (0, 3, 1, 2))  # (batch, channels, height, width)
    x = ops.matmul(matrix, x) if axis == 1 else ops.matmul(x, matrix)
    return ops.transpose(x, (0, 2, 3, 1))


def _positive(name: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}.")
    return int(value)


class _AlongOneAxis(keras.layers.Layer):
    """A layer over `(batch, height, width, channels)` that owns weights along one axis."""

    def __init__(self, length: int, along: str, **kwargs):
        super().__init__(**kwargs)
        if along not in _AXES:
            raise ValueError(f"`along` must be 'height' or 'width', got {along!r}.")
        self._length = _positive("length", length)
        self._axis = _AXES[along]
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(
                f"{type(self).__name__} needs a known number of channels as the last axis of "
                f"(batch, height, width, channels), got the shape {tuple(input_shape)}."
            )
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
        self._add_weights(channels)

    def _side(self, x):
        """The length of the input's side: an int when it is known, else a tensor."""
        side = x.shape[self._axis]
        return ops.shape(x)[self._axis] if side is None else side

    def _instance(self, base, x):
        """Resample `base`, (stored length, channels ...), to the side of `x`."""
        side = self._side(x)
        if isinstance(side, int) and side == self._length:
            return base
        matrix = ops.cast(align_corners_matrix(self._length, side), base.dtype)
        return ops.tensordot(matrix, base, axes=1)

    def _along(self, instance):
        """Shape what varies along the side, (side, channels ...), to broadcast over a map."""
        return ops.expand_dims(instance, 1 if self._axis == 1 else 0)

    def _embedded(self, x):
        return x + self._along(self._instance(self.base_position, x))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="keras_parc")
class PositionEmbedding(_AlongOneAxis):
    """Adds a learned embedding that varies along one side and is constant along the other.

    `ParCV` and `ParCH` add their own; this layer is for the first half of the ParC block of
    ParC-Net, where a normalization stands between the embedding and the convolution.

    Args:
        length: Stored length of `base_position`, at least 1. Resampled to the side of the input.
        along: "height" or "width".
        initializer: Initializer of `base_position`, `(length, channels)`. The authors draw it from
            a normal distribution of standard deviation 1.
        **kwargs: `name`, `dtype` and the like, see `keras.layers.Layer`.

    Input and output: `(batch, height, width, channels)`.

    Raises:
        ValueError: `length` is not positive, `along` is neither side, the input is not of rank 4
            or has another number of channels than the layer was built with.

    Source: equation 1 of the paper (`PE`).

    Example:
        >>> import numpy as np, keras_parc
        >>> layer = keras_parc.PositionEmbedding(8, along="height")
        >>> layer(np.zeros((1, 12, 5, 4), "float32")).shape == (1, 12, 5, 4)
        True
    """

    def __init__(self, length: int, along: str, initializer=None, **kwargs):
        super().__init__(length, along, **kwargs)
        self.length, self.along = self._length, along
        self.initializer = keras.initializers.get(
            initializer or keras.initializers.RandomNormal(stddev=1.0)
        )

    def _add_weights(self, channels):
        self.base_position = self.add_weight(
            name="base_position", shape=(self.length, channels), initializer=self.initializer
        )

    def call(self, x):
        return self._embedded(x)

    def get_config(self):
        return super().get_config() | {
            "length": self.length,
            "along": self.along,
            "initializer": keras.initializers.serialize(self.initializer),
        }


class _ParC(_AlongOneAxis):
    """What `ParCV` and `ParCH` share; a subclass names the side in `along`."""

    along: str

    def __init__(
        self,
        kernel_length: int,
        position_embedding: bool = True,
        use_bias: bool = False,
        depthwise: bool = True,
        kernel_initializer=None,
        position_initializer=None,
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(_positive("kernel_length", kernel_length), self.along, **kwargs)
        self.kernel_length = self._length
        self.position_embedding = bool(position_embedding)
        self.use_bias = bool(use_bias)
        self.depthwise = bool(depthwise)
        # Uniform within +-1/sqrt(taps of one output channel).
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        )
        self.position_initializer = keras.initializers.get(
            position_initializer or keras.initializers.RandomNormal(stddev=1.0)
        )
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def _add_weights(self, channels):
        stored = (self.kernel_length, channels)
        self.base_kernel = self.add_weight(
            name="base_kernel",
            shape=stored if self.depthwise else (*stored, channels),
            initializer=self.kernel_initializer,
        )
        if self.position_embedding:
            self.base_position = self.add_weight(
                name="base_position", shape=stored, initializer=self.position_initializer
            )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(channels,), initializer=self.bias_initializer
            )

    def call(self, x):
        if self.position_embedding:
            x = self._embedded(x)
        kernel = self._instance(self.base_kernel, x)
        if self.depthwise:
            x = circular_conv(x, kernel, self._axis, self._side(x))
        else:
            x = self._convolve_densely(x, kernel)
        return x + self.bias if self.use_bias else x

    def _convolve_densely(self, x, kernel):
        """A dense kernel, (side, channels in, channels out), over the map tiled with itself."""
        wrap = self._side(x) - 1
        head = x[:, :wrap] if self._axis == 1 else x[:, :, :wrap]
        tiled = ops.concatenate([x, head], axis=self._axis)
        return ops.conv(tiled, self._along(kernel), padding="valid", data_format="channels_last")

    def get_config(self):
        return super().get_config() | {
            "kernel_length": self.kernel_length,
            "position_embedding": self.position_embedding,
            "use_bias": self.use_bias,
            "depthwise": self.depthwise,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "position_initializer": keras.initializers.serialize(self.position_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_parc")
class ParCV(_ParC):
    """Position-aware circular convolution along the height (down each column).

    Adds the position embedding and convolves depthwise and circularly with a kernel as long as the
    height: every output sees the whole column.

    Args:
        kernel_length: Stored length of `base_kernel` and `base_position`, at least 1: the side of
            the feature map the model is trained at. At another side both are resampled linearly
            with their end points kept; at a side known when the model is built the result is a
            constant of the graph.
        position_embedding: Whether `base_position` is added first. Without it the operator is
            equivariant to circular shifts and cannot tell positions apart.
        use_bias: Whether a bias per channel is added last.
        depthwise: True: each channel has a kernel of its own. False: a dense convolution, every
            output channel over all input channels, as in ParC-ResNet50.
        kernel_initializer: Of `base_kernel`, `(kernel_length, channels)`, or if not depthwise
            `(kernel_length, channels in, channels out)`. Default: uniform within
            `+-1 / sqrt(kernel_length)`, if not depthwise `+-1 / sqrt(kernel_length * channels)`.
        position_initializer: Of `base_position`, `(kernel_length, channels)`. Default: normal of
            standard deviation 1.
        bias_initializer: Of `bias`, `(channels,)`.
        **kwargs: `name`, `dtype` and the like, see `keras.layers.Layer`.

    Input and output: `(batch, height, width, channels)`, any height and width, known or not.

    Raises:
        ValueError: `kernel_length` is not positive, the input is not of rank 4 or has another
            number of channels than the layer was built with.

    Source: equations 1 and 2 of the paper.

    Example:
        >>> import numpy as np, keras_parc
        >>> layer = keras_parc.ParCV(kernel_length=8)
        >>> layer(np.ones((2, 12, 5, 4), "float32")).shape == (2, 12, 5, 4)
        True
    """

    along = "height"


@keras.saving.register_keras_serializable(package="keras_parc")
class ParCH(_ParC):
    """Position-aware circular convolution along the width (along each row).

    The same as `ParCV`, along the other side: the kernel is as long as the width.

    Args:
        kernel_length: Stored length of `base_kernel` and `base_position`, see `ParCV`.
        position_embedding: Whether `base_position` is added first.
        use_bias: Whether a bias per channel is added last.
        depthwise: False: a dense convolution over all channels, see `ParCV`.
        kernel_initializer: Of `base_kernel`, see `ParCV`.
        position_initializer: Of `base_position`, `(kernel_length, channels)`.
        bias_initializer: Of `bias`, `(channels,)`.
        **kwargs: `name`, `dtype` and the like, see `keras.layers.Layer`.

    Input and output: `(batch, height, width, channels)`, any height and width, known or not.

    Raises:
        ValueError: As `ParCV`.

    Source: equations 1 and 2 of the paper.

    Example:
        >>> import numpy as np, keras_parc
        >>> layer = keras_parc.ParCH(kernel_length=8, position_embedding=False)
        >>> layer(np.ones((2, 12, 5, 4), "float32")).shape == (2, 12, 5, 4)
        True
    """

    along = "width"
