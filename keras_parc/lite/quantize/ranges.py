"""The range of every tensor of a float file, from images: what int8 quantization starts from.

The converter's own calibration is wrong where the runtime computes in place (ADD, MUL and others
write over their input before it is looked at): ranges came out up to 57 times too wide. So the
images are run here, with every tensor kept.

Then each range is narrowed to where the squared error is least, on the values as their readers
see them: a range that ends at -3 costs a hard SiLU nothing, and one that ends at -6 costs a SiLU
little, while the outliers it leaves out cost everybody else.

Among the images, too: one whose values are ten times as large has a hundred times the error, and
would have the range to itself. So none counts for more than the median image does.
"""

import math
from collections.abc import Sequence

import numpy as np

from keras_parc.lite.quantize.intermediate import Function, Intermediate, identity

METHODS = ("minmax", "mse", "mse_seen", "mse_median")
DEFAULT = "mse_median"
BINS = 2048
STEPS = 24  # Ends tried on either side of zero.
MOST_VALUES = 1 << 13  # Of one tensor and image that go into its histogram.
# The same values as before, moved.
MOVES = ("CONCATENATION", "PAD", "RESHAPE", "SLICE", "STRIDED_SLICE", "TRANSPOSE")
# XNNPACK takes an ADD only where no input's scale is more than 2 ** 10 below the output's.
NARROWEST_INPUT = 1 / 256
# Operations of an image and constant weights; XNNPACK takes them, and sums, only where the step of
# the input (times that of the weights) is below 256 steps of the output.
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")
MOST_STEPS = 250

Ranges = dict[int, tuple[float, float]]


def choose_ranges(
    file: Intermediate, images: Sequence[np.ndarray], method: str = DEFAULT
) -> Ranges:
    """Choose the range of every tensor of a float file.

    Args:
        file: A float32 file.
        images: `(height, width, channels)` each, as the model takes them; at least one.
        method: "minmax": all values seen; "mse": the range of least squared error in int8;
            "mse_seen": of least error after the activation that follows, if one does;
            "mse_median": the same, the error of an image whose values have more power than the
            median image's divided by how much more.

    Returns:
        Tensor number to `(low, high)`, with low <= 0 <= high and low < high.

    Raises:
        ValueError: An unknown method, no images, or a tensor that is not finite.

    Example:
        >>> import keras_parc, numpy, tempfile
        >>> model = keras_parc.ParCNetXS(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> ranges = choose_ranges(Intermediate(path), numpy.random.rand(2, 32, 32, 3))
        >>> all(low <= 0 <= high and low < high for low, high in ranges.values())
        True
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}, got {method!r}.")
    if not len(images):
        raise ValueError("`images` is empty.")
    moved = {t for each in file.operations if each.name in MOVES for t in each.outputs}
    seen = {
        tensor: identity if method == "mse" else file.seen_through(tensor)
        for tensor in file.made
        if tensor not in moved and method != "minmax"
    }
    ranges, powers = _extremes(file, images, seen if method == "mse_median" else {})
    weights = {t: _weights(powers[t]) if powers else np.ones(len(images)) for t in seen}
    counts = _histograms(file, images, ranges, weights) if seen else {}
    for tensor, count in counts.items():
        ranges[tensor] = least_error(*ranges[tensor], count, seen[tensor])
    return _consistent(file, ranges)


def least_error(low: float, high: float, counts: np.ndarray, seen: Function = identity):
    """The range within `low..high` of least squared error in int8.

    Args:
        low: The least value, at most 0.
        high: The largest value, at least 0.
        counts: A histogram of the values over `low..high`.
        seen: The error is that of `seen(values)`.

    Returns:
        `(low, high)`.

    Example:
        >>> counts = np.full(100, 100_000)
        >>> counts[50:] = 0
        >>> counts[-1] = 1  # One outlier.
        >>> least_error(0.0, 100.0, counts)[1] < 60
        True
    """
    edges = np.linspace(low, high, len(counts) + 1)
    values = ((edges[1:] + edges[:-1]) / 2)[counts > 0]
    weights, exact = counts[counts > 0], seen(values)
    shares = 1 - np.arange(STEPS) / STEPS
    lows, highs = low * shares if low < 0 else [0.0], high * shares if high > 0 else [0.0]

    def best(candidates):
        errors = [weights @ (seen(rounded(values, *each)) - exact) ** 2 for each in candidates]
        return candidates[int(np.argmin(errors))]

    # Both ends together, then in turn: nearly the best of all pairs, in a fifth of the time.
    chosen = best([(low * share, high * share) for share in shares])
    for _ in range(2):
        chosen = best([(end, chosen[1]) for end in lows])
        chosen = best([(chosen[0], end) for end in highs])
    return float(chosen[0]), float(chosen[1])


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as int8 holds them if its range is `low..high`."""
    step = (high - low) / 255
    zero = np.clip(np.rint(-128 - low / step), -128, 127)
    return (np.clip(np.rint(values / step) + zero, -128, 127) - zero) * step


def _extremes(file: Intermediate, images, seen) -> tuple[Ranges, dict[int, list[float]]]:
    """The least and largest values of all tensors, and the power of each image in those seen."""
    tensors = [file.input, *file.made]
    powers = {tensor: [] for tensor in seen}
    low, high = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)
    whole = True
    for image in images:
        whole = whole and bool(np.all(image == np.rint(image)))
        file.run(image)
        for tensor in tensors:
            value = file.value(tensor)
            low[tensor] = min(low[tensor], float(value.min()))
            high[tensor] = max(high[tensor], float(value.max()))
            if not math.isfinite(low[tensor] + high[tensor] + float(value.sum())):
                raise ValueError(f"The tensor {file.name(tensor)!r} is not finite.")
        for tensor, function in seen.items():
            values = function(_some(file.value(tensor)))
            powers[tensor].append(float(np.mean(np.square(values, dtype="float64"))))
    # A tensor that is always zero: any grid does, but not one of absurdly small steps.
    ranges = {t: (low[t], high[t]) if high[t] > low[t] else (0.0, 1.0) for t in tensors}
    if whole and low[file.input] == 0 and 1 < high[file.input] <= 255:
        ranges[file.input] = (0.0, 255.0)  # Pixels: exact in int8.
    return ranges, powers


def _weights(powers: Sequence[float]) -> np.ndarray:
    """What each image counts for: 1 up to the median power, less above it."""
    median = np.median(powers)
    return median / np.maximum(powers, median) if median else np.ones(len(powers))


def _histograms(file: Intermediate, images, ranges: Ranges, weights) -> dict[int, np.ndarray]:
    counts = {tensor: np.zeros(BINS) for tensor in weights}
    for number, image in enumerate(images):
        file.run(image)
        for tensor, weight in weights.items():
            low, high = ranges[tensor]
            place = ((_some(file.value(tensor)) - low) * (BINS / (high - low))).astype("int64")
            count = np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)
            counts[tensor] += weight[number] * count
    return counts


def _some(value: np.ndarray) -> np.ndarray:
    """At most about `MOST_VALUES` of a tensor, at a step that visits all channels."""
    step = max(value.size // MOST_VALUES, 1)
    while math.gcd(step, value.shape[-1] if value.ndim else 1) > 1:
        step += 1
    return value.ravel()[::step]


def _consistent(file: Intermediate, ranges: Ranges) -> Ranges:
    """Ranges that int8 operations and XNNPACK can take together.

    Where values vanish beside those they meet, as in a model that is not trained, XNNPACK leaves a
    sum out, and crashes on a convolution. No precision is lost by widening the narrow range: it
    lies within a step of the other.
    """
    before = None
    while ranges != before:  # Ranges only grow, each at most to those it meets.
        before = dict(ranges)
        for operation in file.operations:
            _meet(file, operation, ranges)
    return ranges


def _meet(file: Intermediate, operation, ranges: Ranges) -> None:
    """Widen the ranges of one operation's tensors until they go together."""
    result = operation.outputs[0]
    sources = [each for each in operation.inputs if each in ranges]
    if result not in ranges or not sources:
        return
    if operation.name in MOVES:  # The quantizer gives all of them one scale.
        lows, highs = zip(*(ranges[each] for each in (result, *sources)), strict=True)
        ranges.update(dict.fromkeys((result, *sources), (min(lows), max(highs))))
    elif operation.name == "ADD":
        _widen(ranges, result, max(_width(ranges, each) for each in sources) / MOST_STEPS)
        for each in sources:
            _widen(ranges, each, _width(ranges, result) * NARROWEST_INPUT)
    elif operation.name in PRODUCTS and operation.inputs[1] not in ranges:
        step = np.abs(file.constant(operation.inputs[1])).max() / 127
        _widen(ranges, result, _width(ranges, sources[0]) * float(step) / MOST_STEPS)


def _width(ranges: Ranges, tensor: int) -> float:
    low, high = ranges[tensor]
    return high - low


def _widen(ranges: Ranges, tensor: int, least: float) -> None:
    """Scale a range to at least this width."""
    share = least / _width(ranges, tensor)
    if share > 1 + 1e-9:
        low, high = ranges[tensor]
        ranges[tensor] = (low * share, high * share)
