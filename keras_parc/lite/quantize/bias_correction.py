"""Biases of an int8 file, corrected so that the mean of every channel is the float file's.

Rounding shifts the mean of a layer's results: what its weights are multiplied by is positive after
a ReLU, so that their errors do not cancel, and the next layers add to the shift. The layers are
corrected in their order in the file, each on what it gets once those before it are corrected. The
means are those before a fused activation, where a saturated value does not hide the error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.quantize.explain import pairs
from keras_parc.lite.quantize.linear import Linear, linear_operations
from keras_parc.lite.quantize.single_operation import SingleOperation
from keras_parc.lite.quantize.traced_file import TracedFile

MAX_IMAGES = 200
MAX_BYTES = 1 << 28  # Of the largest tensor, for all images: fewer images where they are large.
PLACES = 64  # Of each image; the float file is compared at the same ones.


@dataclass(frozen=True)
class _Layer:
    """A layer that both files have, with its weights in both as `(groups, row, outputs)`."""

    exact: Linear
    coarse: Linear
    exact_weights: np.ndarray
    exact_bias: np.ndarray | int  # (groups, outputs)
    coarse_weights: np.ndarray


def correct_biases(content: bytes, quantized: bytes, images: Sequence[np.ndarray]) -> bytes:
    """Give the layers of an int8 file biases that make up for the rounding.

    Args:
        content: The bytes of the float32 file.
        quantized: The bytes of the int8 file made from it.
        images: Calibration images `(height, width, channels)`; 200 at most, evenly spaced, are
            used.

    Returns:
        The bytes of the int8 file with other int32 biases.

    Example:
        >>> import keras_parc, tempfile
        >>> from keras_parc.lite.quantize.int8 import quantize
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> images = np.random.rand(2, 32, 32, 3)
        >>> plain = quantize(path.read_bytes(), images, correct=False)
        >>> len(correct_biases(path.read_bytes(), plain, images)) - len(plain) < 10_000
        True
    """
    reference, coarse = TracedFile(content), TracedFile(quantized)
    largest = max(coarse.constant(tensor).nbytes for tensor in coarse.made)
    images = images[:: -(-len(images) // max(min(MAX_IMAGES, MAX_BYTES // largest), 1))]
    model = flatbuffer.read(quantized)
    layers = _layers(reference, content, coarse, quantized)
    wanted = _exact_means(reference, layers, images)
    values = {coarse.input: [coarse.as_input(image) for image in images]}
    operators = model.subgraphs[0].operators
    last_use = {int(t): place for place, each in enumerate(operators) for t in each.inputs}
    for place, operator in enumerate(operators):
        result = int(operator.outputs[0])
        if result in layers:
            layer = layers.pop(result)
            rows = [
                _mean_row(layer.coarse, coarse.as_real(layer.coarse.source, value), seed)
                for seed, value in enumerate(values[layer.coarse.source])
            ]
            mean = _product(np.mean(rows, 0), layer.coarse_weights)
            _set_bias(model, layer.coarse.bias, wanted[result] - mean)
        if not layers:
            break
        values |= _results(SingleOperation(model, place), values)
        values = {t: each for t, each in values.items() if last_use.get(t, -1) > place}
    return flatbuffer.write(model)


def _layers(reference, content, coarse, quantized) -> dict[int, _Layer]:
    """The layers with an int32 bias, by the number of their result in the int8 file."""
    exact, rounded = linear_operations(reference, content), linear_operations(coarse, quantized)
    found = {}
    for _, ours, theirs in pairs(reference, coarse):
        if ours not in exact or theirs not in rounded:
            continue
        a, b = exact[ours], rounded[theirs]
        if b.bias < 0 or coarse.constant(b.bias).dtype != np.int32:
            continue
        if len(coarse.readers[b.bias]) > 1:
            continue
        weights = a.matrices(reference.constant(a.weights))
        coarse_weights = b.matrices(coarse.real_constant(b.weights))
        # Layers of one shape could be taken for each other where the files differ.
        if weights.shape == coarse_weights.shape and _close(weights, coarse_weights):
            bias = reference.constant(a.bias).reshape(a.groups, -1) if a.bias >= 0 else 0
            found[theirs] = _Layer(a, b, weights, bias, coarse_weights)
    return found


def _close(exact: np.ndarray, coarse: np.ndarray) -> bool:
    """Whether weights are others only by the rounding to int8."""
    return bool(np.abs(coarse - exact).max() <= np.abs(exact).max() / 127)


def _exact_means(reference: TracedFile, layers: dict[int, _Layer], images) -> dict[int, np.ndarray]:
    """The mean of each channel of each layer in the float file, before a fused activation."""
    sums = dict.fromkeys(layers, 0.0)
    for seed, image in enumerate(images):
        reference.run(image)
        for result, layer in layers.items():
            value = reference.value(layer.exact.source)
            sums[result] = sums[result] + _mean_row(layer.exact, value, seed)
    return {
        result: _product(sums[result] / len(images), layer.exact_weights) + layer.exact_bias
        for result, layer in layers.items()
    }


def _mean_row(linear: Linear, value: np.ndarray, seed: int) -> np.ndarray:
    return linear.rows(value, PLACES, seed).mean(0, dtype="float64")


def _product(row: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.einsum("gk,gko->go", row, weights)


def _set_bias(model, tensor: int, bias: np.ndarray) -> None:
    steps = np.asarray(model.subgraphs[0].tensors[tensor].quantization.scale, "float64")
    limits = np.iinfo("int32")
    bias = np.clip(np.rint(bias.ravel() / steps), limits.min, limits.max)
    flatbuffer.set_constant(model, tensor, bias.astype("int32"))


def _results(operation: SingleOperation, values) -> dict[int, list[np.ndarray]]:
    """What an operation makes of the values of its inputs, image by image."""
    given = zip(*(values[tensor] for tensor in operation.inputs), strict=True)
    results = zip(*(operation.run(each) for each in given), strict=True)
    return dict(zip(operation.outputs, results, strict=True))
