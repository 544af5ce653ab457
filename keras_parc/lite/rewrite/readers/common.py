"""What the readers share."""

from collections.abc import Callable

import keras
import numpy as np

from keras_parc.lite.rewrite.graph import Node
from keras_parc.lite.rewrite.operations import ACTIVATION, CONV, activation_of


class Unknown(Exception):  # noqa: N818 (a message between two functions, not an error)
    """An operation, or a setting of it, that the graph has no word for."""


def require(condition: bool, reason: str) -> None:
    """Raise `Unknown` for this reason unless the condition holds."""
    if not condition:
        raise Unknown(reason)


def require_last_axis(axis: int | list[int] | tuple[int, ...], x: Node) -> None:
    """Raise `Unknown` unless a Keras axis is that of the channels."""
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    require(axes in ([-1], [len(x.shape)]), "not over the last axis")


def array(weight) -> np.ndarray:
    """A Keras variable as a float64 array."""
    return keras.ops.convert_to_numpy(weight).astype("float64")


def bias_of(op, count: int) -> np.ndarray:
    """The bias of a layer, zeros if it has none."""
    return array(op.bias) if getattr(op, "bias", None) is not None else np.zeros(count)


def activate(function: Callable | None, x: Node, name: str) -> Node:
    """A Keras activation function applied to a node; the node itself if it is linear."""
    if function in (None, keras.activations.linear):
        return x
    return Node(ACTIVATION, [x], x.shape, name, {"function": activation_of(function)})


def plain_conv(x: Node, kernel: np.ndarray, bias: np.ndarray, shape, name: str) -> Node:
    """A convolution of stride 1 without padding, dilation and groups; `shape` is its result's."""
    attrs = {
        "kernel": kernel,
        "bias": bias,
        "strides": (1, 1),
        "padding": "valid",
        "dilation": (1, 1),
        "groups": 1,
    }
    return Node(CONV, [x], tuple(shape), name, attrs)
