"""The forms of a circular convolution, and the table that says which one is used.

Measured for the whole spatial part of a ParC block, one thread on x86 with AVX-512 and VNNI,
ai-edge-litert 2.3; time relative to the paper's form (tile, one depthwise convolution per half
and axis), float32 / int8:

| form | 40x40 | 32x32 | 20x20 | 16x16 | 10x10 | 8x8 |
|---|---|---|---|---|---|---|
| depthwise, 25 taps | .12 / .07 | .13 / .06 | 1.3 / .93 | 1.14 / 1.02 | 2.0 / .92 | .83 / .88 |
| circulant product | .05 / .02 | .07 / .02 | .59 / .58 | .71 / .53 | 1.02 / .89 | 2.6 / 2.2 |

The same part, and its residual, on ARMv7 with tflite-runtime 2.12: million instructions, those of
input and output included, float32 / int8:

| form | 40x40x64 | 32x32x192 | 20x20x64 | 16x16x256 | 10x10x64 | 8x8x64 |
|---|---|---|---|---|---|---|
| depthwise, 25 taps | 21.5 / 13.6 | 26.6 / 18.3 | 2.7 / 1.8 | 6.3 / 4.2 | .67 / .46 | |
| depthwise, 9 taps | | 28.6 / 23.7 | | | .42 / .38 | .17 / .17 |
| halving, 9 taps | 10.9 / 10.0 | 16.1 / 15.0 | 2.0 / 1.9 | 3.5 / 3.5 | .38 / .38 | .25 / .25 |
| circulant product | | 15.2 / 17.8 | | | | |

There the product cuts the graph into several partitions. 10 taps cost as much as 25: in float32, 6
instructions a tap for 4 values. An addition costs 10 instructions, in int8 12. The whole of
ParC-Net-S at 256x256, by 25 taps and by halves: 999 / 794 and 967 / 785; on arm64 724 / 505 and
711 / 500; on ARMv7 without XNNPACK (tflite-runtime 2.14) 1650 / 1226 and 1612 / 1544: its int8 SUB
is slow.

What Vela 5.2 estimates for Ethos-U NPUs is in `experiments/results/npu_forms.csv`. Where the
2n - 1 taps of a kernel that goes round twice fit in the 64 that the hardware has, it takes .4 (7x7)
to .94 (32x32) of one of n taps over the map and the map again; circulant products take 5 to 30
times as long. Only a U85 would rather have halves, of 64 taps at most: .9 at 28 and 32, .6 at 40,
where a U55 and a U65 take 1.7 as long for it. At 64 it is best on two of the three.
"""

import functools

import numpy as np

from keras_parc.lite.rewrite.graph import Graph, Node, affine
from keras_parc.lite.rewrite.linear import circulant
from keras_parc.lite.rewrite.operations import (
    ADD,
    CIRCULAR,
    DEPTHWISE,
    JOIN,
    PRODUCT,
    SUBTRACT,
    TRANSPOSE,
    WINDOW,
)

# For each target, the shortest length of each form, longest first. "portable" is for runtimes whose
# XNNPACK has no int8 BATCH_MATMUL (tflite-runtime up to 2.14, ARMv7), "npu" for Arm's Ethos-U.
TABLE = {
    "litert": ((10, "circulant"), (1, "depthwise")),
    "portable": ((10, "halving"), (1, "depthwise")),
    "npu": ((64, "halving_64"), (33, "whole"), (1, "periodic")),
}
AXES = ("height", "width")
# XNNPACK has depthwise kernels of 9 and of 25 taps; longer ones run ten times slower.
MAX_TAPS = 9
NPU_TAPS = 64  # a side of a kernel that an Ethos-U has in hardware
MIN_HALVED = 10


def form_of(length: int, target: str) -> str:
    """The form of a circular convolution of `length` taps.

    Example:
        >>> form_of(32, "litert"), form_of(8, "litert"), form_of(32, "portable")
        ('circulant', 'depthwise', 'halving')
    """
    return next(form for shortest, form in TABLE[target] if length >= shortest)


def check_target(target: str) -> None:
    """Raise a ValueError for a target that has no row in the table."""
    if target not in TABLE:
        raise ValueError(f"`target` must be one of {list(TABLE)}, got {target!r}.")


def lower_circulars(graph: Graph, target: str) -> None:
    """Replace every circular convolution by the operations of its form."""
    for node in graph.nodes():
        if node.op is CIRCULAR:
            graph.replace(node, _lower(node, target))


def _lower(node: Node, target: str) -> Node:
    kernels = {axis: node[axis] for axis in AXES if node[axis] is not None}
    if len(kernels) == 2:
        _balance(kernels)
    product = {
        axis: kernel
        for axis, kernel in kernels.items()
        if form_of(len(kernel), target) == "circulant"
    }
    bias = node["bias"]
    x = node.inputs[0]
    if product:
        x = _products(x, product, node.name)
    rest = [axis for axis in kernels if axis not in product]
    for axis in rest:
        kernel = kernels[axis]
        own = np.zeros(node.channels)
        if axis == rest[-1] and bias.ndim == 1:
            own, bias = bias, own
        x = CONVOLUTIONS[form_of(len(kernel), target)](x, kernel, axis, own, node.name)
    return affine(x, 1.0, bias, f"{node.name}_shift") if np.any(bias) else x


def _balance(kernels: dict[str, np.ndarray]) -> None:
    """Scale the two kernels of each channel so that their largest values are equal.

    The constant of an int8 BATCH_MATMUL has one scale for all its channels.
    """
    height, width = (np.abs(kernels[axis]).max(0) for axis in ("height", "width"))
    ratio = np.sqrt(np.divide(width, height, where=height > 0, out=np.ones_like(height)))
    ratio[ratio == 0] = 1.0
    kernels["height"] = kernels["height"] * ratio
    kernels["width"] = kernels["width"] / ratio


def _transpose(x: Node, axes: tuple[int, ...], name: str) -> Node:
    """Reorder axes; they count from 1, axis 0 being the batch."""
    return Node(TRANSPOSE, [x], tuple(x.shape[i - 1] for i in axes), name, {"axes": axes})


def _products(x: Node, kernels: dict[str, np.ndarray], name: str) -> Node:
    """Products with circulant matrices, channels first: along the width, then along the height.

    XNNPACK wants the constant as the right operand, and symmetric in int8.
    """
    order = "hwc"
    for axis in ("width", "height"):
        if axis not in kernels:
            continue
        wanted = "chw" if axis == "width" else "cwh"
        if order != wanted:
            axes = tuple(order.index(each) + 1 for each in wanted)
            x, order = _transpose(x, axes, f"{name}_{wanted}"), wanted
        attrs = {"matrix": circulant(kernels[axis])}
        x = Node(PRODUCT, [x], x.shape, f"{name}_{axis}", attrs)
    return _transpose(x, tuple(order.index(each) + 1 for each in "hwc"), f"{name}_hwc")


def halved(x: Node, kernel, axis: str, bias, name: str, max_taps: int = MAX_TAPS) -> Node:
    """By halves, as t^n - 1 = (t^(n/2) - 1)(t^(n/2) + 1): half of the multiplications.

    For x = (a, b): a circular convolution of a + b, halved again, and one of a - b in which the
    values change their sign where they wrap around. Their sum and their difference are the two
    halves of the result.
    """
    n = len(kernel)
    if n < MIN_HALVED or n % 2:
        return doubled(x, kernel, axis, bias, name, max_taps)
    m = n // 2
    a, b = (window(x, axis, start, m, f"{name}_{axis}_{n}_from_{start}") for start in (0, m))

    def combine(op, one, two, what):
        return Node(op, [one, two], a.shape, f"{name}_{axis}_{n}_{what}")

    total, difference = combine(ADD, a, b, "total"), combine(SUBTRACT, a, b, "difference")
    negative = combine(SUBTRACT, b, a, "negative")
    plus, minus = (kernel[:m] + kernel[m:]) / 2, (kernel[:m] - kernel[m:]) / 2
    even = halved(total, plus, axis, bias, name, max_taps)
    zeros = np.zeros_like(bias)
    odd = _depthwise(difference, negative, minus, axis, zeros, f"{name}_odd", max_taps)
    halves = [combine(ADD, even, odd, "first"), combine(SUBTRACT, even, odd, "second")]
    return _join(halves, axis, f"{name}_{axis}_{n}")


def _periodic(x: Node, kernel, axis: str, bias, name: str) -> Node:
    """One depthwise convolution of 2n - 1 taps over the map with n - 1 zeros on either side.

    The kernel goes round twice, so that every value of the map meets every tap once, and nothing
    is copied.
    """
    taps = np.concatenate([kernel[1:], kernel])
    return _convolution(x, taps, axis, bias, x.shape, f"{name}_{axis}_{len(kernel)}", "same")


def doubled(x: Node, kernel, axis: str, bias, name: str, max_taps: int = MAX_TAPS) -> Node:
    """Depthwise convolutions of at most `max_taps` taps over the map and the map again, summed."""
    return _depthwise(x, x, kernel, axis, bias, name, max_taps)


def _depthwise(x: Node, after: Node, kernel, axis: str, bias, name: str, max_taps: int) -> Node:
    """Depthwise convolutions of at most `max_taps` taps over the input and `after` it, summed.

    A convolution of n taps over 2n values returns n + 1 values. With a zero as last tap it returns
    n, so that nothing must be cut off; and 8 taps become 9, for which XNNPACK has a kernel.
    """
    n, channels = kernel.shape
    name = f"{name}_{axis}_{n}"
    tiled = _join([x, after], axis, f"{name}_tiled")
    if n % max_taps:
        kernel = np.concatenate([kernel, np.zeros((1, channels))])
    total = None
    for start in range(0, len(kernel), max_taps):
        taps = kernel[start : start + max_taps]
        source = tiled
        if len(taps) <= n:
            source = window(tiled, axis, start, n + len(taps) - 1, f"{name}_from_{start}")
        own = np.zeros(channels) if start else bias
        part = _convolution(source, taps, axis, own, x.shape, f"{name}_{start}", "valid")
        total = part if total is None else Node(ADD, [total, part], x.shape, part.name + "_sum")
    return total


def _convolution(x: Node, taps, axis: str, bias, shape, name: str, padding: str) -> Node:
    taps = taps[:, None] if axis == "height" else taps[None]
    attrs = {"kernel": taps[..., None], "bias": bias, "padding": padding}
    attrs |= {"strides": (1, 1), "dilation": (1, 1)}
    return Node(DEPTHWISE, [x], shape, name, attrs)


# The forms that are convolutions, one axis after the other.
CONVOLUTIONS = {
    "depthwise": doubled,
    "whole": functools.partial(doubled, max_taps=NPU_TAPS),
    "halving": halved,
    "halving_64": functools.partial(halved, max_taps=NPU_TAPS),
    "periodic": _periodic,
}


def window(x: Node, axis: str, start: int, length: int, name: str) -> Node:
    """A part of a map along "height" or "width"; the map itself if that is all of it."""
    if length == x.shape[AXES.index(axis)]:
        return x
    attrs = {"axis": axis, "start": start, "length": length}
    return Node(WINDOW, [x], _resized(x, axis, length), name, attrs)


def _join(parts: list[Node], axis: str, name: str) -> Node:
    length = sum(part.shape[AXES.index(axis)] for part in parts)
    return Node(JOIN, parts, _resized(parts[0], axis, length), name, {"axis": axis})


def _resized(x: Node, axis: str, length: int) -> tuple[int, ...]:
    shape = list(x.shape)
    shape[AXES.index(axis)] = length
    return tuple(shape)
