"""How each Keras operation is read into a `Graph`: one short function per layer class."""

from collections.abc import Callable

import keras
import numpy as np

from keras_parc.layers.parc import align_corners_matrix
from keras_parc.lite.rewrite.graph import Node, affine


class Unknown(Exception):  # noqa: N818 (a message between two functions, not an error)
    """An operation, or a setting of it, that the graph has no word for."""


def array(weight) -> np.ndarray:
    return keras.ops.convert_to_numpy(weight).astype("float64")


def _bias(op, count) -> np.ndarray:
    return array(op.bias) if getattr(op, "bias", None) is not None else np.zeros(count)


def activation(function: Callable | None, x: Node, name: str) -> Node:
    """A Keras activation function applied to a node; none for "linear"."""
    name_of = getattr(function, "__name__", str(function))
    if function is None or name_of == "linear":
        return x
    return Node("activation", [x], x.shape, name, {"function": function, "kind": name_of})


def need(condition, reason):
    if not condition:
        raise Unknown(reason)


def _conv_shape(op, x: Node, filters: int) -> tuple[int, ...]:
    return (*op.compute_output_shape((None, *x.shape))[1:3], filters)


def _conv(op, x):
    need(op.padding in ("same", "valid"), f"padding {op.padding!r}")
    attrs = {
        "kernel": array(op.kernel),
        "bias": _bias(op, op.filters),
        "strides": op.strides,
        "padding": op.padding,
        "dilation": op.dilation_rate,
        "groups": op.groups,
    }
    y = Node("conv", [x], _conv_shape(op, x, op.filters), op.name, attrs)
    return activation(op.activation, y, f"{op.name}_activation")


def _depthwise(op, x):
    channels = x.channels * op.depth_multiplier
    attrs = {
        "kernel": array(op.kernel),
        "bias": _bias(op, channels),
        "strides": op.strides,
        "padding": op.padding,
        "dilation": op.dilation_rate,
    }
    y = Node("depthwise", [x], _conv_shape(op, x, channels), op.name, attrs)
    return activation(op.activation, y, f"{op.name}_activation")


def _separable(op, x):
    middle = x.channels * op.depth_multiplier
    attrs = {
        "kernel": array(op.depthwise_kernel),
        "bias": np.zeros(middle),
        "strides": op.strides,
        "padding": op.padding,
        "dilation": op.dilation_rate,
    }
    y = Node("depthwise", [x], _conv_shape(op, x, middle), f"{op.name}_depthwise", attrs)
    attrs = {
        "kernel": array(op.pointwise_kernel),
        "bias": _bias(op, op.filters),
        "strides": (1, 1),
        "padding": "valid",
        "dilation": (1, 1),
        "groups": 1,
    }
    y = Node("conv", [y], (*y.shape[:2], op.filters), op.name, attrs)
    return activation(op.activation, y, f"{op.name}_activation")


def _dense(op, x):
    attrs = {"kernel": array(op.kernel), "bias": _bias(op, op.units)}
    y = Node("dense", [x], (*x.shape[:-1], op.units), op.name, attrs)
    return activation(op.activation, y, f"{op.name}_activation")


def _batch_norm(op, x):
    axis = op.axis if isinstance(op.axis, int) else op.axis[0]
    need(axis in (-1, len(x.shape)), "not over the last axis")
    scale = 1 / np.sqrt(array(op.moving_variance) + op.epsilon)
    scale = scale * (array(op.gamma) if op.scale else 1.0)
    shift = (array(op.beta) if op.center else 0.0) - array(op.moving_mean) * scale
    return affine(x, scale, shift, op.name)


def _layer_norm(op, x):
    axes = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
    need(list(axes) in ([-1], [len(x.shape)]), "not over the last axis")
    need(not getattr(op, "rms_scaling", False), "RMS scaling")
    y = Node("normalize", [x], x.shape, op.name, {"epsilon": op.epsilon})
    scale = array(op.gamma) if op.scale else 1.0
    return affine(y, scale, array(op.beta) if op.center else 0.0, f"{op.name}_affine")


def _rescaling(op, x):
    scale, offset = np.asarray(op.scale, "float64"), np.asarray(op.offset, "float64")
    need(max(scale.ndim, offset.ndim) < 2, "not per channel")
    return affine(x, scale, offset, op.name)


def _instance(op, base, side) -> np.ndarray:
    """The stored kernel or embedding of a ParC layer at this side, as the layer resamples it."""
    base = array(base)
    if len(base) == side:
        return base
    return np.tensordot(align_corners_matrix(len(base), side), base, axes=1)


def _position(op, x):
    axis = 0 if op.along == "height" else 1
    base = np.expand_dims(_instance(op, op.base_position, x.shape[axis]), 1 - axis)
    return affine(x, 1.0, np.broadcast_to(base, x.shape), op.name)


def _parc(op, x):
    axis = 0 if op.along == "height" else 1
    if op.position_embedding:
        base = np.expand_dims(_instance(op, op.base_position, x.shape[axis]), 1 - axis)
        x = affine(x, 1.0, np.broadcast_to(base, x.shape), f"{op.name}_position")
    if not op.depthwise:
        return _dense_parc(op, x, axis)
    kernels = {"height": None, "width": None}
    kernels[op.along] = _instance(op, op.base_kernel, x.shape[axis])
    bias = _bias(op, x.channels) if op.use_bias else np.zeros(x.channels)
    return Node("circular", [x], x.shape, op.name, {**kernels, "bias": bias})


def _dense_parc(op, x, axis):
    """A dense circular convolution: a plain one over the wrapped map."""
    n = x.shape[axis]
    kernel = np.expand_dims(_instance(op, op.base_kernel, n), 1 - axis)
    if n > 1:
        shape = [2 * n - 1 if i == axis else side for i, side in enumerate(x.shape)]
        x = Node("wrap", [x], tuple(shape), f"{op.name}_wrap", {"axis": op.along})
    attrs = {
        "kernel": kernel,
        "bias": _bias(op, x.channels) if op.use_bias else np.zeros(x.channels),
        "strides": (1, 1),
        "padding": "valid",
        "dilation": (1, 1),
        "groups": 1,
    }
    shape = [n if i == axis else side for i, side in enumerate(x.shape)]
    return Node("conv", [x], tuple(shape), op.name, attrs)


def _elementwise(op, *inputs):
    kind = {"Add": "add", "Multiply": "multiply"}[type(op).__name__]
    inputs = inputs[0] if len(inputs) == 1 else inputs
    if len(inputs) == 2 and not all(isinstance(each, Node) for each in inputs):
        return _with_constant(op, kind, *inputs)
    rank = max(len(each.shape) for each in inputs)
    need(all(len(each.shape) == rank for each in inputs), "operands of different rank")
    shape = np.broadcast_shapes(*(each.shape for each in inputs))
    plain = kind == "multiply" or all(each.shape == shape for each in inputs)
    need(plain and all(each.channels == shape[-1] for each in inputs), "it broadcasts")
    result = inputs[0]
    for each in inputs[1:]:
        result = Node(kind, [result, each], shape, op.name)
    return result


def _with_constant(op, kind, a, b):
    x, constant = (a, b) if isinstance(a, Node) else (b, a)
    constant = np.asarray(constant, "float64")
    need(constant.ndim == 0 or constant.shape == (x.channels,), "a constant per position")
    return affine(x, *((1.0, constant) if kind == "add" else (constant, 0.0)), op.name)


def _concat(op, inputs):
    rank = len(inputs[0].shape)
    need(op.axis in (-1, rank), "not over the last axis")
    shape = (*inputs[0].shape[:-1], sum(each.channels for each in inputs))
    return Node("concat", list(inputs), shape, op.name)


def _split(op, x):
    need(op.axis in (-1, len(x.shape)), "not over the last axis")
    if isinstance(op.indices_or_sections, int):
        step = x.channels // op.indices_or_sections
        ends = list(range(step, x.channels + 1, step))
    else:
        ends = [*op.indices_or_sections, x.channels]
    starts = [0, *ends[:-1]]
    return [
        Node("slice", [x], (*x.shape[:-1], b - a), op.name, {"start": a, "stop": b})
        for a, b in zip(starts, ends, strict=True)
    ]


def _flip(op, x):
    axes = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
    need(list(axes) in ([-1], [len(x.shape)]), "not over the last axis")
    return Node("permute", [x], x.shape, op.name, {"order": np.arange(x.channels)[::-1]})


def _pad(op, x):
    (top, bottom), (left, right) = op.padding
    shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.channels)
    return Node("pad", [x], shape, op.name, {"amount": op.padding})


def _mean(op, x):
    y = Node("mean", [x], (1, 1, x.channels), op.name)
    return y if op.keepdims else Node("reshape", [y], (x.channels,), f"{op.name}_flat")


def _relu(op, x):
    need(not op.negative_slope and not op.threshold, "leaky or shifted")
    need(op.max_value in (None, 6, 6.0), f"maximum {op.max_value}")
    function = keras.activations.relu if op.max_value is None else keras.activations.relu6
    return activation(function, x, op.name)


READERS = {
    "Activation": lambda op, x: activation(op.activation, x, op.name),
    "Add": _elementwise,
    "BatchNormalization": _batch_norm,
    "Concatenate": _concat,
    "Conv2D": _conv,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "ExpandingDepthwiseConv2D": _depthwise,
    "Flip": _flip,
    "GlobalAveragePooling2D": _mean,
    "GroupedConv2D": _conv,
    "LayerNormalization": _layer_norm,
    "Multiply": _elementwise,
    "ParCH": _parc,
    "ParCV": _parc,
    "PositionEmbedding": _position,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "SeparableConv2D": _separable,
    "Softmax": lambda op, x: activation(keras.activations.softmax, x, op.name),
    "Split": _split,
    "ZeroPadding2D": _pad,
}
