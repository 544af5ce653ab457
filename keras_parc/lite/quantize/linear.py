"""Convolutions and dense layers of a file as matrix products, at sampled places.

For each of its groups, such an operation is the product of a row, the values below the kernel at
one place, with a matrix of weights. A depthwise convolution has a group for each channel.
"""

from dataclasses import dataclass

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.quantize.traced_file import ACTIVATIONS, Function, Operation, TracedFile

NAMES = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# By the schema's numbers.
SAME = 0
FUSED = {1: ACTIVATIONS["RELU"], 3: ACTIVATIONS["RELU6"]}


@dataclass(frozen=True)
class Linear:
    """A convolution or a dense layer of a file."""

    source: int  # number of the tensor it reads
    weights: int  # number of its weights
    bias: int  # number of its bias, -1 if it has none
    groups: int
    depthwise: bool
    shape: tuple[int, int, int, int]  # (n, height, width, channels) of what it reads
    places: tuple[int, int, int]  # (n, height, width) of its result
    fused: Function | None  # its activation
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)  # rows of zeros above the input, columns on its left

    def rows(self, value: np.ndarray, count: int, seed: int) -> np.ndarray:
        """The rows of `count` places, or of all places if there are no more.

        Args:
            value: The tensor `source`, as real numbers.
            count: How many places.
            seed: The same seed draws the same places.

        Returns:
            `(places, groups, values of a row)`.
        """
        total = int(np.prod(self.places))
        chosen = np.arange(total)
        if total > count:
            chosen = np.random.default_rng(seed).choice(total, count, replace=False)
        number, down, across = np.unravel_index(chosen, self.places)
        down, in_height = self._below_kernel(down, axis=0)
        across, in_width = self._below_kernel(across, axis=1)
        found = value.reshape(self.shape)[
            number[:, None, None], down[:, :, None], across[:, None, :]
        ]
        found = found * (in_height[:, :, None] & in_width[:, None, :])[..., None]
        taps = self.kernel[0] * self.kernel[1]
        found = found.reshape(len(chosen), taps, self.groups, -1)
        return found.swapaxes(1, 2).reshape(len(chosen), self.groups, -1)

    def _below_kernel(self, places: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices along the height or the width of the input, and whether they are inside it."""
        taps = np.arange(self.kernel[axis]) * self.dilation[axis]
        found = places[:, None] * self.stride[axis] - self.before[axis] + taps
        length = self.shape[1 + axis]
        return np.clip(found, 0, length - 1), (found >= 0) & (found < length)

    def matrices(self, weights: np.ndarray) -> np.ndarray:
        """The weights, which a file holds in other orders, as `(groups, row, outputs)`."""
        if self.depthwise:
            return weights.reshape(-1, self.groups, weights.shape[-1] // self.groups).swapaxes(0, 1)
        return weights.reshape(self.groups, len(weights) // self.groups, -1).swapaxes(1, 2)


def linear_operations(file: TracedFile, content: bytes) -> dict[int, Linear]:
    """The convolutions and dense layers of constant weights, by the number of their result.

    Args:
        file: A file, float32 or int8.
        content: Its bytes.
    """
    operators = flatbuffer.read(content).subgraphs[0].operators
    made = {*file.inputs, *(t for each in file.operations for t in each.outputs)}
    return {
        operation.outputs[0]: _linear(file, operation, operator.builtinOptions)
        for operation, operator in zip(file.operations, operators, strict=True)
        if operation.name in NAMES and operation.inputs[1] not in made
    }


def _linear(file: TracedFile, operation: Operation, options) -> Linear:
    source, weights, *bias = operation.inputs
    bias = bias[0] if bias else -1
    fused = FUSED.get(options.fusedActivationFunction)
    kernel, result = file.shape(weights), file.shape(operation.outputs[0])
    if operation.name == "FULLY_CONNECTED":
        places = int(np.prod(result)) // kernel[0]
        shape = (places, 1, 1, kernel[1])
        return Linear(source, weights, bias, 1, False, shape, (places, 1, 1), fused)
    shape = file.shape(source)
    depthwise = operation.name == "DEPTHWISE_CONV_2D"
    stride = options.strideH, options.strideW
    dilation = options.dilationHFactor, options.dilationWFactor
    before = (0, 0)
    if options.padding == SAME:
        spans = [
            (result[1 + axis] - 1) * stride[axis] + (kernel[1 + axis] - 1) * dilation[axis] + 1
            for axis in (0, 1)
        ]
        before = tuple(
            max(span - length, 0) // 2 for span, length in zip(spans, shape[1:3], strict=True)
        )
    groups = shape[-1] if depthwise else shape[-1] // kernel[-1]
    where = shape, result[:3], fused, kernel[1:3]
    return Linear(source, weights, bias, groups, depthwise, *where, stride, dilation, before)
