"""Readers of operations without weights."""

from collections.abc import Callable

import keras
import numpy as np

from keras_parc.lite.rewrite.graph import Node, affine
from keras_parc.lite.rewrite.operations import (
    ADD,
    CONCAT,
    MEAN,
    MULTIPLY,
    PAD,
    PERMUTE,
    REPEAT,
    RESHAPE,
    RESIZE,
    SLICE,
    Operation,
)
from keras_parc.lite.rewrite.readers.common import activate, require, require_last_axis


def add(op, *inputs):
    return _combined(ADD, op, inputs)


def multiply(op, *inputs):
    return _combined(MULTIPLY, op, inputs)


def subtract(op, a, b):
    require(isinstance(a, Node) and not isinstance(b, Node), "of two tensors")
    return _with_constant(ADD, op, a, -np.asarray(b, "float64"))


def divide(op, a, b):
    require(isinstance(a, Node) and not isinstance(b, Node), "by a tensor")
    require(bool(np.all(np.asarray(b) != 0)), "by zero")
    return _with_constant(MULTIPLY, op, a, 1 / np.asarray(b, "float64"))


def _combined(kind: Operation, op, inputs) -> Node:
    inputs = inputs[0] if len(inputs) == 1 else inputs
    if len(inputs) == 2 and not all(isinstance(each, Node) for each in inputs):
        return _with_constant(kind, op, *inputs)
    rank = max(len(each.shape) for each in inputs)
    require(all(len(each.shape) == rank for each in inputs), "operands of different rank")
    shape = np.broadcast_shapes(*(each.shape for each in inputs))
    plain = kind is MULTIPLY or all(each.shape == shape for each in inputs)
    require(plain and all(each.channels == shape[-1] for each in inputs), "it broadcasts")
    result = inputs[0]
    for each in inputs[1:]:
        result = Node(kind, [result, each], shape, op.name)
    return result


def _with_constant(kind: Operation, op, a, b) -> Node:
    x, constant = (a, b) if isinstance(a, Node) else (b, a)
    constant = np.asarray(constant, "float64")
    if 1 < constant.ndim <= len(x.shape) + 1 and constant.size == constant.shape[-1]:
        constant = constant.ravel()
    require(constant.ndim == 0 or constant.shape == (x.channels,), "a constant per position")
    scale, shift = (1.0, constant) if kind is ADD else (constant, 0.0)
    return affine(x, scale, shift, op.name)


def concat(op, inputs):
    require(all(isinstance(each, Node) for each in inputs), "of a constant")
    require_last_axis(op.axis, inputs[0])
    shape = (*inputs[0].shape[:-1], sum(each.channels for each in inputs))
    return Node(CONCAT, list(inputs), shape, op.name)


def split(op, x):
    require_last_axis(op.axis, x)
    if isinstance(op.indices_or_sections, int):
        step = x.channels // op.indices_or_sections
        ends = list(range(step, x.channels + 1, step))
    else:
        ends = [*op.indices_or_sections, x.channels]
    starts = [0, *ends[:-1]]
    return [
        Node(SLICE, [x], (*x.shape[:-1], b - a), op.name, {"start": a, "stop": b})
        for a, b in zip(starts, ends, strict=True)
    ]


def item(op, x, key):
    """The channels that `x[..., 2]` and `x[..., ::-1]` take."""
    key = key if isinstance(key, tuple) else (key,)
    part = key[-1]
    require(key[0] is Ellipsis and len(key) == 2, "along other axes")
    if isinstance(part, slice):
        require(part == slice(None, None, -1), "a part")
        return Node(PERMUTE, [x], x.shape, op.name, {"order": np.arange(x.channels)[::-1]})
    require(isinstance(part, int) and -x.channels <= part < x.channels, "computed")
    start = part % x.channels
    attrs = {"start": start, "stop": start + 1}
    channel = Node(SLICE, [x], (*x.shape[:-1], 1), f"{op.name}_channel", attrs)
    return Node(RESHAPE, [channel], x.shape[:-1], op.name)


def stack(op, inputs):
    """Channels of one map in another order, as `preprocess_input` makes BGR of RGB."""
    channels = [each.inputs[0] for each in inputs if each.op is RESHAPE]
    require(len(channels) == len(inputs) and all(each.op is SLICE for each in channels), "no rule")
    sources = {each.inputs[0] for each in channels}
    order = [each["start"] for each in channels]
    (x, *others) = sources
    whole = not others and sorted(order) == list(range(x.channels))
    require(whole and all(each.shape == x.shape[:-1] for each in inputs), "of several maps")
    require(op.axis in (-1, len(x.shape)), "along another axis")
    return Node(PERMUTE, [x], x.shape, op.name, {"order": np.array(order)})


def flip(op, x):
    require_last_axis(op.axis, x)
    return Node(PERMUTE, [x], x.shape, op.name, {"order": np.arange(x.channels)[::-1]})


def pad(op, x):
    (top, bottom), (left, right) = op.padding
    shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.channels)
    return Node(PAD, [x], shape, op.name, {"amount": op.padding})


def mean(op, x):
    y = Node(MEAN, [x], (1, 1, x.channels), op.name)
    return y if op.keepdims else Node(RESHAPE, [y], (x.channels,), f"{op.name}_flat")


def reshape(op, x):
    shape = op.compute_output_spec(keras.KerasTensor((None, *x.shape))).shape[1:]
    require(None not in shape, "of an unknown shape")
    return Node(RESHAPE, [x], tuple(shape), op.name)


def resize_like(op, inputs):
    x, like = inputs
    return resized(x, like.shape[:2], op.name)


def upsampling(op, x):
    require(op.interpolation in ("nearest", "bilinear"), f"interpolation {op.interpolation!r}")
    shape = (*(side * times for side, times in zip(x.shape[:2], op.size, strict=True)), x.channels)
    if op.interpolation == "bilinear":
        return resized(x, shape[:2], op.name)
    return Node(REPEAT, [x], shape, op.name, {"times": op.size})


def resized(x: Node, size: tuple[int, int], name: str) -> Node:
    """A map at another size, `(height, width)`; the map itself if it has that size."""
    if x.shape[:2] == size:
        return x
    return Node(RESIZE, [x], (*size, x.channels), name, {"size": size})


# What a function of `keras.ops` computes, by the name of its operation.
FUNCTIONS = {
    "HardSigmoid": keras.activations.hard_sigmoid,
    "HardSilu": keras.activations.hard_silu,
    "LogSigmoid": keras.activations.log_sigmoid,
    "Relu": keras.activations.relu,
    "Relu6": keras.activations.relu6,
    "Selu": keras.activations.selu,
    "Sigmoid": keras.activations.sigmoid,
    "Silu": keras.activations.silu,
    "Softplus": keras.activations.softplus,
    "Tanh": keras.activations.tanh,
}


def function(of: Callable, op, x):
    return activate(of, x, op.name)


def activation(op, x):
    return activate(op.activation, x, op.name)


def relu(op, x):
    require(not op.negative_slope and not op.threshold, "leaky or shifted")
    require(op.max_value in (None, 6, 6.0), f"maximum {op.max_value}")
    function = keras.activations.relu if op.max_value is None else keras.activations.relu6
    return activate(function, x, op.name)


def softmax(op, x):
    require_last_axis(op.axis, x)
    return activate(keras.activations.softmax, x, op.name)
