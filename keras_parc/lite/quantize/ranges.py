"""The range of every tensor of a float file, from images: what int8 quantization starts from.

The converter's own calibration is wrong where the runtime computes in place: ADD, MUL and others
overwrite their input before the converter reads it, and ranges came out up to 57 times too wide. So
the images are run here, with every tensor kept.

Each range is then narrowed to that of least squared error. The error is measured after the next
activation: cutting off values below -3 costs a hard SiLU nothing, and cutting off those below -6
costs a SiLU little, while the finer steps help all other values.

An image whose values are ten times as large has a hundred times the squared error, and would decide
the range alone. So no image counts for more than the median one.
"""

import math
from collections.abc import Sequence

import numpy as np

from keras_parc.lite.quantize.traced_file import Function, TracedFile, identity

METHODS = ("minmax", "mse", "mse_seen", "mse_median")
DEFAULT = "mse_median"
BINS = 2048
STEPS = 24  # How many ends of a range are tried on either side of zero.
MAX_VALUES = 1 << 13  # How many values of a tensor go into its histogram, about, from each image.
# Operations that move values without changing them.
MOVES = ("CONCATENATION", "PAD", "PADV2", "RESHAPE", "SLICE", "STRIDED_SLICE", "TRANSPOSE")
# XNNPACK takes an ADD only where no input's scale is more than 2 ** 10 below the output's.
NARROWEST_INPUT = 1 / 256
# Operations with constant weights. XNNPACK takes them, and sums, only where the scale of the input
# (times that of the weights) is below 256 times the scale of the output.
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")
MAX_STEPS = 250

HUGE = 1000.0  # Values so large, beside others so many times smaller, are no results but masks.

Ranges = dict[int, tuple[float, float]]


def choose_ranges(file: TracedFile, images: Sequence[np.ndarray], method: str = DEFAULT) -> Ranges:
    """Choose the range of every tensor of a float file.

    Args:
        file: A float32 file.
        images: `(height, width, channels)` each, as the model takes them; at least one.
        method: "minmax": from the least to the largest value; "mse": the range of least squared
            error in int8; "mse_seen": of least squared error after the next activation, if there
            is one; "mse_median": the same, but no image counts for more than the median one: the
            error of an image with more power is divided by the ratio of the two powers.

    Returns:
        Tensor number to `(low, high)`, with low <= 0 <= high and low < high. Not of tensors that
        have no good one: see `_beside_masks`.

    Raises:
        ValueError: An unknown method, no images, or a tensor that holds NaN.

    Example:
        >>> import keras_parc, numpy, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> ranges = choose_ranges(TracedFile(path), numpy.random.rand(2, 32, 32, 3))
        >>> all(low <= 0 <= high and low < high for low, high in ranges.values())
        True
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}, got {method!r}.")
    if not len(images):
        raise ValueError("`images` is empty.")
    moved = {t for each in file.operations if each.name in MOVES for t in each.outputs}
    seen = {
        tensor: identity if method == "mse" else file.activation_after(tensor)
        for tensor in file.made
        if tensor not in moved and method != "minmax"
    }
    ranges, powers = _extremes(file, images, seen if method == "mse_median" else {})
    seen = {tensor: function for tensor, function in seen.items() if tensor in ranges}
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
        seen: The function after which the error is measured, such as the next activation.

    Returns:
        `(low, high)`, within the limits given.

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

    # Both ends together, then one after the other: nearly as good as trying all pairs, which takes
    # five times as long.
    chosen = best([(low * share, high * share) for share in shares])
    for _ in range(2):
        chosen = best([(end, chosen[1]) for end in lows])
        chosen = best([(chosen[0], end) for end in highs])
    return float(chosen[0]), float(chosen[1])


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values after rounding to int8 with the range `low..high`."""
    step = (high - low) / 255
    zero = np.clip(np.rint(-128 - low / step), -128, 127)
    return (np.clip(np.rint(values / step) + zero, -128, 127) - zero) * step


def _extremes(file: TracedFile, images, seen) -> tuple[Ranges, dict[int, list[float]]]:
    """The least and largest values of all tensors, and the power of those in `seen` by image."""
    tensors = [*filter(file.is_real, file.inputs), *file.made]
    powers = {tensor: [] for tensor in seen}
    low, high = dict.fromkeys(tensors, 0.0), dict.fromkeys(tensors, 0.0)
    whole, masked = True, {}  # what is masked, and the largest of its other values
    for image in images:
        whole = whole and not isinstance(image, tuple) and bool(np.all(image == np.rint(image)))
        file.run(image)
        for tensor in tensors:
            if tensor in masked:
                continue
            least, largest = _least_and_largest(file.view(tensor))
            if max(-least, largest) >= HUGE and (rest := _beside_masks(file.view(tensor))):
                masked[tensor] = rest
            elif not math.isfinite(least + largest):
                raise ValueError(
                    f"The tensor {file.name(tensor)!r} is not finite on a calibration image: int8 "
                    "needs numbers."
                )
            low[tensor], high[tensor] = min(low[tensor], least), max(high[tensor], largest)
        for tensor, function in seen.items():
            if tensor in masked:
                continue
            values = function(_sample(file.view(tensor)))
            powers[tensor].append(float(np.mean(np.square(values, dtype="float64"))))
    # A tensor that is always zero gets a range that is not absurdly small.
    ranges = {t: (low[t], high[t]) if high[t] > low[t] else (0.0, 1.0) for t in tensors}
    for operation in file.operations:
        source, result = (*operation.inputs[:1], -1)[0], operation.outputs[0]
        if result in masked and source not in masked and _only_pooled(file, result):
            # The least number of int8 pads as minus infinity does.
            del masked[result]
            ranges[result] = ranges.get(source, (0.0, 1.0))
        for tensor in operation.outputs:
            if tensor in masked:  # and so is what masked it
                least = HUGE * masked[tensor]
                huge = [t for t in operation.inputs if max(map(abs, ranges.get(t, (0,)))) > least]
                masked |= dict.fromkeys(huge, masked[tensor])
    ranges = {tensor: each for tensor, each in ranges.items() if tensor not in masked}
    first = file.inputs[0]
    if first in ranges and whole and low.get(first) == 0 and 1 < high[first] <= 255:
        ranges[first] = (0.0, 255.0)  # Pixels: exact in int8.
    return ranges, powers


def _least_and_largest(value: np.ndarray) -> tuple[float, float]:
    """NaN if any value is: NumPy's extremes hand it on."""
    return float(value.min()), float(value.max())


def _beside_masks(value: np.ndarray) -> float:
    """The largest of the values that int8 would lose beside a few huge ones; 0 if there are none.

    So attention leaves out what it is not to see: 1e9 is taken from its scores. Others pad with
    minus infinity.
    """
    size = np.abs(value)
    rest = size[size < size.max() / 2]
    return float(rest.max()) if rest.size and rest.max() < size.max() / HUGE else 0.0


def _only_pooled(file: TracedFile, tensor: int) -> bool:
    """Whether only the largest values of a padded tensor are read."""
    readers = file.readers.get(tensor, [])
    return bool(readers) and all(
        each.name == "MAX_POOL_2D" or (each.name in MOVES and _only_pooled(file, each.outputs[0]))
        for each in readers
    )


def _weights(powers: Sequence[float]) -> np.ndarray:
    """The weight of each image: 1 up to the median power, less above it."""
    median = np.median(powers)
    return median / np.maximum(powers, median) if median else np.ones(len(powers))


def _histograms(file: TracedFile, images, ranges: Ranges, weights) -> dict[int, np.ndarray]:
    counts = {tensor: np.zeros(BINS) for tensor in weights}
    for number, image in enumerate(images):
        file.run(image)
        for tensor, weight in weights.items():
            low, high = ranges[tensor]
            place = ((_sample(file.view(tensor)) - low) * (BINS / (high - low))).astype("int64")
            count = np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)
            counts[tensor] += weight[number] * count
    return counts


def _sample(value: np.ndarray) -> np.ndarray:
    """About `MAX_VALUES` values of a tensor at most, evenly spaced over all channels."""
    step = max(value.size // MAX_VALUES, 1)
    while math.gcd(step, value.shape[-1] if value.ndim else 1) > 1:
        step += 1
    return value.ravel()[::step].copy()  # A view would forbid the next run.


def _consistent(file: TracedFile, ranges: Ranges) -> Ranges:
    """Widen ranges until XNNPACK takes the operations between them.

    In an untrained model a tensor may be tiny beside another one it is added to, or beside what it
    is computed from: XNNPACK then leaves out the sum, and crashes on a convolution. Widening the
    narrow range loses no precision: all of it lies within one step of the other.
    """
    before = None
    while ranges != before:  # This ends: ranges only grow, and never beyond the widest.
        before = dict(ranges)
        for operation in file.operations:
            _reconcile(file, operation, ranges)
    return ranges


def _reconcile(file: TracedFile, operation, ranges: Ranges) -> None:
    """Widen the ranges of one operation's tensors where they are too far apart for it."""
    result = operation.outputs[0]
    sources = [each for each in operation.inputs if each in ranges]
    if result not in ranges or not sources:
        return
    if operation.name in MOVES:  # The quantizer gives all of them one scale.
        lows, highs = zip(*(ranges[each] for each in (result, *sources)), strict=True)
        ranges.update(dict.fromkeys((result, *sources), (min(lows), max(highs))))
    elif operation.name == "ADD":
        _widen(ranges, result, max(_width(ranges, each) for each in sources) / MAX_STEPS)
        for each in sources:
            _widen(ranges, each, _width(ranges, result) * NARROWEST_INPUT)
    elif operation.name in PRODUCTS and operation.inputs[1] not in ranges:
        step = np.abs(file.constant(operation.inputs[1])).max() / 127
        _widen(ranges, result, _width(ranges, sources[0]) * float(step) / MAX_STEPS)


def _width(ranges: Ranges, tensor: int) -> float:
    low, high = ranges[tensor]
    return high - low


def _widen(ranges: Ranges, tensor: int, min_width: float) -> None:
    """Scale a range to at least this width."""
    share = min_width / _width(ranges, tensor)
    if share > 1 + 1e-9:
        low, high = ranges[tensor]
        ranges[tensor] = (low * share, high * share)
