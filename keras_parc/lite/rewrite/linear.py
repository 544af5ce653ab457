"""The linear operations of a graph in numpy: scaling their weights, and applying them to a map."""

import numpy as np

from keras_parc.lite.rewrite.graph import Node
from keras_parc.lite.rewrite.operations import CIRCULAR, CONV, DENSE, DEPTHWISE


def scale_input(node: Node, scale: np.ndarray) -> None:
    """Let a node take `x` where it took `x * scale`, by changing its weights.

    Args:
        node: A node of a linear operation.
        scale: `(channels in,)`.
    """
    if node.op is CIRCULAR:
        axis = "height" if node["height"] is not None else "width"
        node[axis] = node[axis] * scale
    elif node.op is CONV:
        groups, each = node["groups"], node["kernel"].shape[2]
        of_group = scale.reshape(groups, each).T  # (in / groups, groups)
        node["kernel"] = node["kernel"] * np.repeat(of_group, node.channels // groups, axis=1)
    else:
        node["kernel"] = node["kernel"] * scale[:, None]


def scale_output(node: Node, scale: np.ndarray) -> None:
    """Multiply what a node returns by `scale`, `(channels out,)`, by changing its weights."""
    if node.op is CIRCULAR:
        scale_input(node, scale)
    elif node.op is DEPTHWISE:
        node["kernel"] = node["kernel"] * scale.reshape(node["kernel"].shape[2:])
    else:
        node["kernel"] = node["kernel"] * scale
    node["bias"] = node["bias"] * scale


def apply_linear(node: Node, x: np.ndarray) -> np.ndarray:
    """The result of a node without its bias, for a map `(height, width, channels)`."""
    if node.op is DENSE:
        return x @ node["kernel"]
    if node.op is CIRCULAR:
        for axis, kernel in enumerate((node["height"], node["width"])):
            if kernel is not None:
                x = circular(x, kernel, axis)
        return x
    kernel, strides, dilation = node["kernel"], node["strides"], node["dilation"]
    sides = [(size - 1) * d + 1 for size, d in zip(kernel.shape[:2], dilation, strict=True)]
    if node["padding"] == "same":
        amount = []
        for side, extent, stride in zip(x.shape[:2], sides, strides, strict=True):
            total = max((-(-side // stride) - 1) * stride + extent - side, 0)
            amount.append((total // 2, total - total // 2))
        x = np.pad(x, (*amount, (0, 0)))
    height, width = ((x.shape[i] - sides[i]) // strides[i] + 1 for i in (0, 1))
    out = 0.0
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            top, left = i * dilation[0], j * dilation[1]
            seen = x[top : top + height * strides[0] : strides[0]]
            seen = seen[:height, left : left + width * strides[1] : strides[1]][:, :width]
            out = out + _tap(node, seen, kernel[i, j])
    return out


def _tap(node: Node, x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    if node.op is DEPTHWISE:
        return (x[..., None] * kernel).reshape(*x.shape[:2], -1)
    parts = zip(np.split(x, node["groups"], -1), np.split(kernel, node["groups"], -1), strict=True)
    return np.concatenate([a @ b for a, b in parts], -1)


def circular(x: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    """`out[i] = sum_j kernel[j] * x[(i + j) mod n]` along an axis; kernel is `(n, channels)`."""
    return sum(np.roll(x, -j, axis) * kernel[j] for j in range(len(kernel)))


def circulant(kernel: np.ndarray) -> np.ndarray:
    """The matrices `(channels, n, n)` with which a circular convolution is `x @ matrix`."""
    n = len(kernel)
    index = (np.arange(n)[:, None] - np.arange(n)[None, :]) % n  # [from, to]
    return kernel[index].transpose(2, 0, 1)
