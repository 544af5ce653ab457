"""Biases of an int8 file, corrected so that each layer gives what it gives in the float file.

Rounding shifts a layer's results: what its weights are multiplied by is positive after a ReLU, so
that their errors do not cancel, and the next layers add to the shift. The layers are corrected in
their order in the file, each on what it gets once those before it are corrected.

Two things must not decide: errors that the next activation removes, such as those of values far
below zero, and the few large errors of values that were clipped. The mean of all errors lost 2 dB
on a trained ParC-Net-XS. So an error counts as much as it changes what the activation makes of it,
and none for more than a few times the usual one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.quantize.explain import pairs
from keras_parc.lite.quantize.linear import Linear, linear_operations
from keras_parc.lite.quantize.single_operation import SingleOperation
from keras_parc.lite.quantize.traced_file import Function, TracedFile

MAX_IMAGES = 128
HELD_OUT = 32  # More images at most, on which the corrected file must follow the float file better.
MAX_BYTES = 1 << 28  # Of the largest tensor, for all images: fewer images where they are large.
MIN_IMAGES = 64  # Of fewer than twice as many, none is held out.
NOISE_KEPT = 0.8  # A gain of less than 1 dB on so few images may be chance.
PLACES = 32  # Of each image; the float file is compared at the same ones.
STEP = 0.05  # Over which the slope of an activation is measured.
WIDTH = 3  # How far an error counts, in median deviations from the median one.
LEAST_SLOPE = 0.1  # Root of the mean weight below which the median decides.


@dataclass(frozen=True)
class Layer:
    """A layer that both files have, with its weights in both as `(groups, row, outputs)`."""

    exact: Linear
    coarse: Linear
    exact_weights: np.ndarray
    exact_bias: np.ndarray | float  # (groups, outputs)
    coarse_weights: np.ndarray
    activation: Function  # fused or behind


def correct_biases(content: bytes, quantized: bytes, images: Sequence[np.ndarray]) -> bytes:
    """Give the layers of an int8 file biases that make up for the rounding.

    Args:
        content: The bytes of the float32 file.
        quantized: The bytes of the int8 file made from it.
        images: Calibration images `(height, width, channels)`; 128 at most, evenly spaced, are
            used, and 32 others to decide.

    Returns:
        The bytes of the int8 file with other int32 biases, if that is closer to the float file.

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
    reference = TracedFile(content)
    largest = max((int(np.prod(reference.shape(each))) for each in reference.made), default=1)
    used, held_out = _divided(images, max(min(MAX_IMAGES, MAX_BYTES // largest), 1))
    corrected = layer_by_layer(content, quantized, used)
    return closer(reference, quantized, corrected, held_out)


def _divided(images: Sequence[np.ndarray], count: int):
    """At most `count` images to correct on, evenly spaced, and others to decide by, if any."""
    step = max(-(-len(images) // count), 2 if len(images) >= 2 * MIN_IMAGES else 1)
    used = images[::step]
    others = images[1::step] if step > 1 else used
    return used, others[:: -(-len(others) // HELD_OUT)]


def closer(reference: TracedFile, usual: bytes, other: bytes, images) -> bytes:
    """The other of two int8 files if it follows the float file better by more than chance.

    Args:
        reference: The float32 file.
        usual: The bytes of the int8 file to be taken in doubt.
        other: Those of the other.
        images: Calibration images to judge by.
    """
    first, second = _noises(reference, (TracedFile(usual), TracedFile(other)), images)
    return other if second < NOISE_KEPT * first else usual


def _noises(reference: TracedFile, files: Sequence[TracedFile], images) -> np.ndarray:
    """Of each file the mean power of the outputs' errors, of each output relative to its own."""
    errors, powers = (
        np.zeros((len(files), len(reference.outputs))),
        np.zeros(len(reference.outputs)),
    )
    for image in images:
        for file in (reference, *files):
            file.run(image)
        for place, tensor in enumerate(reference.outputs):
            exact = reference.value(tensor)
            powers[place] += np.square(exact).mean()
            for number, file in enumerate(files):
                errors[number, place] += np.square(exact - file.value(file.outputs[place])).mean()
    return np.mean(errors / np.maximum(powers, 1e-30), axis=1)


def fit_bias(model, layer: Layer, rows: np.ndarray, exact: np.ndarray) -> None:
    """Give one layer the bias that fits.

    Args:
        model: The objects of the int8 file.
        layer: The layer.
        rows: What it gets in the int8 file, as `Linear.rows` gives it.
        exact: What it gives in the float file at the same places, before a fused activation.
    """
    found = _product(rows, layer.coarse_weights)
    bias = typical_difference(exact, found, layer.activation)
    _set_bias(model, layer.coarse.bias, bias)


Fit = Callable[["flatbuffer.schema.ModelT", Layer, np.ndarray, np.ndarray], None]


def layer_by_layer(
    content: bytes, quantized: bytes, images: Sequence[np.ndarray], fit: Fit = fit_bias
) -> bytes:
    """Fit the layers of an int8 file in their order, each on what those before it then give.

    Args:
        content: The bytes of the float32 file.
        quantized: The bytes of the int8 file made from it.
        images: Calibration images.
        fit: Changes one layer.

    Returns:
        The bytes of the int8 file with other layers.
    """
    reference, coarse = TracedFile(content), TracedFile(quantized)
    model = flatbuffer.read(quantized)
    layers = _layers(reference, content, coarse, quantized)
    wanted = _exact_results(reference, layers, images)
    given = [coarse.as_inputs(image) for image in images]
    values = {tensor: [each[tensor] for each in given] for tensor in coarse.inputs}
    operators = model.subgraphs[0].operators
    last_use = {int(t): place for place, each in enumerate(operators) for t in each.inputs}
    for place, operator in enumerate(operators):
        result = int(operator.outputs[0])
        if result in layers:
            layer = layers.pop(result)
            rows = [
                layer.coarse.rows(coarse.as_real(layer.coarse.source, value), PLACES, seed)
                for seed, value in enumerate(values[layer.coarse.source])
            ]
            fit(model, layer, np.concatenate(rows), np.concatenate(wanted.pop(result)))
        if not layers:
            break
        values |= _run(SingleOperation(model, place), values)
        values = {t: each for t, each in values.items() if last_use.get(t, -1) > place}
    return flatbuffer.write(model)


def typical_difference(exact: np.ndarray, found: np.ndarray, activation: Function) -> np.ndarray:
    """What to add to values so that an activation makes of them what it makes of the exact ones.

    Args:
        exact: `(samples, ...)`, before the activation.
        found: The values, of the same shape.
        activation: The function behind.

    Returns:
        One number for each but the first axis.

    Example:
        >>> exact = np.float32([[-9], [-8], [1], [2]])
        >>> found = np.float32([[-5], [-5], [0.9], [1.9]])
        >>> typical_difference(exact, found, lambda x: np.maximum(x, 0)).round(1)
        array([0.1], dtype=float32)
    """
    differences = exact - found
    slope = (activation(exact + STEP) - activation(exact - STEP)) / (2 * STEP)
    median = np.median(differences, 0)
    limit = WIDTH * np.median(np.abs(differences - median), 0)
    others = np.clip(differences - median, -limit, limit)
    weights = np.square(slope)
    return median + (weights * others).mean(0) / (weights.mean(0) + LEAST_SLOPE**2)


def _layers(reference, content, coarse, quantized) -> dict[int, Layer]:
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
            bias = reference.constant(a.bias).reshape(a.groups, -1) if a.bias >= 0 else 0.0
            activation = a.fused or reference.activation_after(ours)
            found[theirs] = Layer(a, b, weights, bias, coarse_weights, activation)
    return found


def _close(exact: np.ndarray, coarse: np.ndarray) -> bool:
    """Whether weights are others only by the rounding to int8."""
    return bool(np.abs(coarse - exact).max() <= np.abs(exact).max() / 127)


def _exact_results(reference: TracedFile, layers: dict[int, Layer], images) -> dict[int, list]:
    """The results of each layer in the float file, image by image, before a fused activation."""
    found = {result: [] for result in layers}
    for seed, image in enumerate(images):
        reference.run(image)
        for result, layer in layers.items():
            rows = layer.exact.rows(reference.view(layer.exact.source), PLACES, seed)
            found[result].append(_product(rows, layer.exact_weights) + layer.exact_bias)
    return found


def _product(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`(places, groups, outputs)`: what a layer makes of its rows, without its bias."""
    if len(weights) == 1:  # Much faster than as one of many groups.
        return (rows[:, 0] @ weights[0])[:, None]
    return np.einsum("pgk,gko->pgo", rows, weights)


def _set_bias(model, tensor: int, bias: np.ndarray) -> None:
    steps = np.asarray(model.subgraphs[0].tensors[tensor].quantization.scale, "float64")
    limits = np.iinfo("int32")
    bias = np.clip(np.rint(bias.ravel() / steps), limits.min, limits.max)
    flatbuffer.set_constant(model, tensor, bias.astype("int32"))


def _run(operation: SingleOperation, values) -> dict[int, list[np.ndarray]]:
    """What an operation makes of the values of its inputs, image by image."""
    given = zip(*(values[tensor] for tensor in operation.inputs), strict=True)
    results = zip(*(operation.run(each) for each in given), strict=True)
    return dict(zip(operation.outputs, results, strict=True))
