"""The rule about depthwise kernels of more taps than runtimes have a fast kernel for.

XNNPACK has depthwise kernels of 9 and of 25 taps; a longer one, such as the 7x7 of ConvNeXt, takes
a general path. Measured for a whole layer with a 7x7 kernel, one thread on x86 with AVX-512 and
VNNI, ai-edge-litert 2.3, milliseconds in float32 / int8:

| form | 56x56x96 | 28x28x192 | 14x14x384 | 7x7x768 |
|---|---|---|---|---|
| 49 taps | 6.18 / 9.19 | 3.09 / 4.57 | 1.56 / 2.33 | .78 / 1.22 |
| 3 + 3 + 1 rows | 1.00 / 1.09 | .57 / .53 | .33 / .27 | .16 / .14 |
| 3 + 3 + 1 columns | 1.02 / 1.08 | .58 / .53 | .33 / .27 | .16 / .14 |
| 3 + 3 + 1 rows of a padded map | 1.08 / 1.12 | .62 / .54 | .39 / .28 | .22 / .15 |
| 2 + 3 + 2 rows | 1.24 / 1.31 | .70 / .65 | .40 / .32 | .18 / .17 |
| 5x5, and four sides | 1.13 / 1.26 | .60 / .62 | .33 / .31 | .19 / .16 |

Million instructions of the 14x14x384 layer on emulated ARM, whole and by rows, float32 / int8:

| runtime | 49 taps | 3 + 3 + 1 rows |
|---|---|---|
| ARMv7, XNNPACK of tflite-runtime 2.12 | 39.4 / 45.4 | 7.9 / 5.5 |
| arm64, ai-edge-litert 2.3 | 30.1 / 96.6 | 3.5 / 3.3 |
| ARMv7 without XNNPACK, tflite-runtime 2.14 | 6.9 / 7.4 | 10.1 / 15.0 |

In int8 each part is rounded to its own grid: 2.5 dB less for the layer, with random weights.
"""

import numpy as np

from keras_parc.lite.rewrite.forms import AXES, window
from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.operations import ADD, DEPTHWISE, PAD

TAPS = (9, 25)
PART = 10  # what cutting, padding and adding a part cost, in taps
MAX_PARTS = 64  # enough for 31x31; each is up to four operations in the file


def split_long_kernel(graph: Graph, node: Node, consumers) -> bool:
    """A depthwise convolution of more than 25 taps becomes a sum of some of 25 at most.

    Each has a part of the kernel and reads what that sees of the map. It pads for itself, which
    XNNPACK makes a part of the convolution.
    """
    if node.op is not DEPTHWISE or node["kernel"].shape[-1] > 1:
        return False
    parts = parts_of(*node["kernel"].shape[:2])
    if not 1 < len(parts) <= MAX_PARTS:
        return False
    total = None
    for number, part in enumerate(parts):
        spans = [_seen(node, axis, part[axis]) for axis in (0, 1)]
        if any(first >= stop for first, stop, _ in spans):
            continue  # it sees nothing but padding
        x, name = node.inputs[0], f"{node.name}_{number}"
        for axis, (first, stop, _) in zip(AXES, spans, strict=True):
            x = window(x, axis, first, stop - first, f"{name}_{axis}")
        amount = tuple(padding for _, _, padding in spans)
        if np.any(amount):
            sides = [side + sum(each) for side, each in zip(x.shape[:2], amount, strict=True)]
            x = Node(PAD, [x], (*sides, x.channels), f"{name}_pad", {"amount": amount})
        bias = node["bias"] if total is None else np.zeros_like(node["bias"])
        attrs = {**node.attrs, "kernel": node["kernel"][part], "bias": bias, "padding": "valid"}
        y = Node(DEPTHWISE, [x], node.shape, name, attrs)
        total = y if total is None else Node(ADD, [total, y], node.shape, f"{name}_sum")
    if total is None:
        return False
    graph.replace(node, total)
    return True


def parts_of(rows: int, columns: int) -> list[tuple[slice, slice]]:
    """The tiles of a kernel that cost least: of 9 or 25 taps at most, whole rows if that is equal.

    Example:
        >>> [(part.start, part.stop) for part, _ in parts_of(7, 7)], len(parts_of(5, 5))
        ([(0, 3), (3, 6), (6, 7)], 1)
    """

    def tiles(high, wide):
        return [
            (slice(top, min(top + high, rows)), slice(left, min(left + wide, columns)))
            for top in range(0, rows, high)
            for left in range(0, columns, wide)
        ]

    def cost(parts):
        taps = [(a.stop - a.start) * (b.stop - b.start) for a, b in parts]
        return sum(PART + next(size for size in TAPS if size >= each) for each in taps)

    widest = [(high, min(columns, TAPS[-1] // high)) for high in range(1, min(rows, TAPS[-1]) + 1)]
    return min((tiles(*each) for each in sorted(widest, key=lambda each: -each[1])), key=cost)


def _seen(node: Node, axis: int, taps: slice) -> tuple[int, int, tuple[int, int]]:
    """What some taps see along an axis: first, stop, and the zeros before and after."""
    stride, dilation = node["strides"][axis], node["dilation"][axis]
    side, steps = node.inputs[0].shape[axis], node.shape[axis] - 1
    before = 0
    if node["padding"] == "same":
        reach = (node["kernel"].shape[axis] - 1) * dilation + 1
        before = max(0, steps * stride + reach - side) // 2
    first = taps.start * dilation - before
    stop = first + steps * stride + (taps.stop - 1 - taps.start) * dilation + 1
    return max(first, 0), min(stop, side), (max(0, -first), max(0, stop - side))
