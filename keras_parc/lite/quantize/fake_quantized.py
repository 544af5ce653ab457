"""A float32 `.tflite` file as a Keras model that rounds where its int8 file will round.

Every tensor gets an axis of images in front of the shape that it has in the file. So a file over
one image runs on a batch, whatever the file does with its own first axis.
"""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from keras import ops

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.quantize.ranges import Ranges, rounded
from keras_parc.lite.quantize.traced_file import TracedFile

# The axis of the output channels in the weights of each operation.
CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
# Ranges that int8 kernels prescribe, whatever the images give.
FIXED = {"LOGISTIC": (0.0, 255 / 256), "SOFTMAX": (0.0, 255 / 256), "TANH": (-1.0, 127 / 128)}
FUSED = {1: ops.relu, 2: lambda x: ops.clip(x, -1, 1), 3: ops.relu6, 4: ops.tanh}
PADDING = {0: "same", 1: "valid"}


class FakeQuantized(keras.Model):
    """The function of a float32 file, with activations and weights rounded as int8 rounds them.

    Gradients pass through the rounding unchanged, and are zero where a value is outside its range
    (straight-through estimator). Variables are the weights and biases of convolutions and dense
    layers; circulant matrices and added constants stay as they are.

    Args:
        content: The bytes of a float32 file over one image.
        ranges: Those of the file's tensors, as `choose_ranges` gives them; None: nothing is
            rounded, and the model computes what the file does.

    Call arguments:
        images: `(n, height, width, channels)`.

    Returns:
        `(n, values)`: all outputs of the file, each flattened, in order.

    Raises:
        ValueError: The file has an operation that is not in `OPERATIONS`.

    Example:
        >>> import keras_parc, pathlib, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> FakeQuantized(pathlib.Path(path).read_bytes())(np.zeros((3, 32, 32, 3))).shape
        TensorShape([3, 2])
    """

    def __init__(self, content: bytes, ranges: Ranges | None = None):
        super().__init__(name="fake_quantized")
        self._content, self._file = content, TracedFile(content)
        self._ranges = None if ranges is None else dict(ranges)
        operators = flatbuffer.read(content).subgraphs[0].operators
        self._options = [each.builtinOptions for each in operators]
        self._trained: dict[int, keras.Variable] = {}
        self._constants: dict[int, np.ndarray] = {}
        made = {self._file.input, *self._file.made}
        for operation in self._file.operations:
            weighted = operation.name in CHANNELS
            if operation.name not in OPERATIONS or (weighted and operation.inputs[1] in made):
                kind = f"{operation.name} with computed weights" if weighted else operation.name
                raise ValueError(f"A file with the operation {kind} cannot be fine-tuned.")
            for tensor in operation.inputs:
                if tensor in made or tensor in self._trained:
                    continue
                value = self._file.constant(tensor)
                if all(reader.name in CHANNELS for reader in self._file.readers[tensor]):
                    self._trained[tensor] = self._weight(tensor, value)
                else:
                    self._constants[tensor] = np.asarray(self._coarse(operation.name, value))
        self.built = True

    def _weight(self, tensor: int, value: np.ndarray) -> keras.Variable:
        return self.add_weight(
            shape=value.shape,
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            name=f"tensor_{tensor}",
        )

    def _coarse(self, operation: str, value: np.ndarray) -> np.ndarray:
        """A constant as the int8 file will hold it: symmetric for matrix products only."""
        if self._ranges is None or value.dtype != np.float32 or not value.any():
            return value
        if operation == "BATCH_MATMUL":
            step = np.abs(value).max() / 127
            return (np.rint(value / step) * step).astype("float32")
        low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
        return rounded(value, low, high).astype("float32")

    def call(self, images):
        values = {self._file.input: self._round(self._file.input, ops.expand_dims(images, 1))}
        for operation, options in zip(self._file.operations, self._options, strict=True):
            inputs = [self._operand(operation.name, values, each) for each in operation.inputs]
            shapes = [self._file.shape(each) for each in operation.outputs]
            results = OPERATIONS[operation.name](options, shapes[0], *inputs)
            results = results if isinstance(results, (list, tuple)) else [results]
            fused = FUSED.get(getattr(options, "fusedActivationFunction", 0))
            for tensor, result in zip(operation.outputs, results, strict=True):
                result = result if fused is None else fused(result)
                values[tensor] = self._round(tensor, result, FIXED.get(operation.name))
        outputs = (values[tensor] for tensor in self._file.outputs)
        return ops.concatenate([ops.reshape(x, (ops.shape(x)[0], -1)) for x in outputs], 1)

    def _operand(self, operation: str, values, tensor: int):
        if tensor in values:
            return values[tensor]
        if tensor not in self._trained:
            return self._constants[tensor]
        weights = ops.convert_to_tensor(self._trained[tensor])
        if self._ranges is None or weights.ndim == 1:  # Biases stay int32.
            return weights
        channels = CHANNELS[operation]
        others = [axis for axis in range(weights.ndim) if axis != channels]
        steps = ops.maximum(ops.max(ops.abs(weights), others, keepdims=True) / 127, 1e-30)
        return weights + ops.stop_gradient(ops.round(weights / steps) * steps - weights)

    def _round(self, tensor: int, x, fixed: tuple[float, float] | None = None):
        import tensorflow as tf

        if self._ranges is None or tensor not in self._ranges:
            return x
        return tf.quantization.fake_quant_with_min_max_args(x, *(fixed or self._ranges[tensor]))

    def as_file(self) -> bytes:
        """The bytes of the float32 file with the present weights."""
        file = flatbuffer.read(self._content)
        for tensor, weights in self._trained.items():
            flatbuffer.set_constant(file, tensor, ops.convert_to_numpy(weights))
        return flatbuffer.write(file)


def _over_images(function: Callable, x, *arguments, **settings):
    """Call a function of `(n, height, width, channels)` on a tensor of one more axis."""
    y = function(ops.reshape(x, (-1, *x.shape[2:])), *arguments, **settings)
    return ops.reshape(y, (-1, x.shape[1], *y.shape[1:]))


def _convolution(options, shape, x, kernel, bias=None):
    y = _over_images(
        ops.conv,
        x,
        ops.transpose(kernel, (1, 2, 3, 0)),
        strides=(options.strideH, options.strideW),
        padding=PADDING[options.padding],
        dilation_rate=(options.dilationHFactor, options.dilationWFactor),
    )
    return y if bias is None else y + bias


def _depthwise(options, shape, x, kernel, bias=None):
    y = _over_images(
        ops.depthwise_conv,
        x,
        ops.reshape(kernel, (*kernel.shape[1:3], x.shape[-1], -1)),
        strides=(options.strideH, options.strideW),
        padding=PADDING[options.padding],
        dilation_rate=(options.dilationHFactor, options.dilationWFactor),
    )
    return y if bias is None else y + bias


def _dense(options, shape, x, kernel, bias=None):
    y = ops.matmul(ops.reshape(x, (-1, kernel.shape[1])), ops.transpose(kernel))
    return ops.reshape(y if bias is None else y + bias, (-1, *shape))


def _product(options, shape, x, y):
    x = ops.swapaxes(x, -1, -2) if options.adjX else x
    return ops.matmul(x, ops.swapaxes(y, -1, -2) if options.adjY else y)


def _elementwise(function: Callable, options, shape, *inputs):
    def aligned(x):  # Axes that broadcast are inserted after that of the images.
        if isinstance(x, np.ndarray) or x.ndim > len(shape):
            return x
        return ops.reshape(x, (-1, *[1] * (len(shape) + 1 - x.ndim), *x.shape[1:]))

    return function(*map(aligned, inputs))


def _axes(axes, rank: int) -> tuple[int, ...]:
    """Axes of the file, counted with the axis of the images, which `rank` includes."""
    return tuple(int(axis) % (rank - 1) + 1 for axis in np.ravel(axes))


def _window(options, shape, x, begin, end, strides):
    parts = [slice(None)]
    for axis, (start, stop, step) in enumerate(zip(begin, end, strides, strict=True)):
        start = None if options.beginMask >> axis & 1 else int(start)
        stop = None if options.endMask >> axis & 1 else int(stop)
        parts.append(slice(start, stop, int(step)))
    return ops.reshape(x[tuple(parts)], (-1, *shape))


def _slice(options, shape, x, begin, size):
    parts = (slice(int(b), int(b) + n) for b, n in zip(begin, shape, strict=True))
    return x[(slice(None), *parts)]


def _pool(function: Callable, options, shape, x):
    return _over_images(
        function,
        x,
        pool_size=(options.filterHeight, options.filterWidth),
        strides=(options.strideH, options.strideW),
        padding=PADDING[options.padding],
    )


def _softmax(options, shape, x):
    # TensorFlow's softmax does not take 6 axes.
    flat = ops.reshape(x * options.beta, (-1, shape[-1]))
    return ops.reshape(ops.softmax(flat), (-1, *shape))


def _resize(options, shape, x, size):
    import tensorflow as tf

    return _over_images(
        tf.compat.v1.image.resize_bilinear,
        x,
        size,
        align_corners=options.alignCorners,
        half_pixel_centers=options.halfPixelCenters,
    )


# Each takes the operation's options, the shape of its first result in the file, and its inputs:
# tensors with the axis of the images, constants without it.
OPERATIONS: dict[str, Callable] = {
    "ADD": partial(_elementwise, ops.add),
    "AVERAGE_POOL_2D": partial(_pool, ops.average_pool),
    "BATCH_MATMUL": _product,
    "CONCATENATION": lambda options, shape, *inputs: ops.concatenate(
        inputs, *_axes(options.axis, inputs[0].ndim)
    ),
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DIV": partial(_elementwise, ops.divide),
    "FULLY_CONNECTED": _dense,
    "GELU": lambda options, shape, x: ops.gelu(x, approximate=options.approximate),
    "HARD_SWISH": lambda options, shape, x: ops.hard_silu(x),
    "LOGISTIC": lambda options, shape, x: ops.sigmoid(x),
    "MAX_POOL_2D": partial(_pool, ops.max_pool),
    "MEAN": lambda options, shape, x, axes: ops.mean(
        x, _axes(axes, x.ndim), keepdims=bool(options.keepDims)
    ),
    "MUL": partial(_elementwise, ops.multiply),
    "NEG": lambda options, shape, x: ops.negative(x),
    "PAD": lambda options, shape, x, amount: ops.pad(x, [(0, 0), *amount.tolist()]),
    "RELU": lambda options, shape, x: ops.relu(x),
    "RELU6": lambda options, shape, x: ops.relu6(x),
    "RESHAPE": lambda options, shape, x, *_: ops.reshape(x, (-1, *shape)),
    "RESIZE_BILINEAR": _resize,
    "REVERSE_V2": lambda options, shape, x, axes: ops.flip(x, _axes(axes, x.ndim)),
    "RSQRT": lambda options, shape, x: ops.rsqrt(x),
    "SLICE": _slice,
    "SOFTMAX": _softmax,
    "SPLIT": lambda options, shape, axis, x: ops.split(x, options.numSplits, *_axes(axis, x.ndim)),
    "SQUARED_DIFFERENCE": partial(_elementwise, lambda x, y: ops.square(x - y)),
    "STRIDED_SLICE": _window,
    "SUB": partial(_elementwise, ops.subtract),
    "TANH": lambda options, shape, x: ops.tanh(x),
    "TRANSPOSE": lambda options, shape, x, order: ops.transpose(x, (0, *_axes(order, x.ndim))),
}
