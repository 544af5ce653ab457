"""Readers of layers with weights: convolutions, dense layers, normalizations, scales."""

import numpy as np

from keras_parc.lite.rewrite.graph import Node, affine
from keras_parc.lite.rewrite.operations import CONV, DENSE, DEPTHWISE, MEAN, NORMALIZE
from keras_parc.lite.rewrite.readers.common import (
    activate,
    array,
    bias_of,
    plain_conv,
    require,
    require_last_axis,
)

_MAX_POOL = 25  # taps: XNNPACK has no fast kernel for more


def _shape(op, x: Node, filters: int) -> tuple[int, ...]:
    return (*op.compute_output_shape((None, *x.shape))[1:3], filters)


def _settings(op) -> dict:
    return {"strides": op.strides, "padding": op.padding, "dilation": op.dilation_rate}


def conv(op, x):
    require(op.padding in ("same", "valid"), f"padding {op.padding!r}")
    attrs = {"kernel": array(op.kernel), "bias": bias_of(op, op.filters), "groups": op.groups}
    y = Node(CONV, [x], _shape(op, x, op.filters), op.name, attrs | _settings(op))
    return activate(op.activation, y, f"{op.name}_activation")


def depthwise(op, x):
    channels = x.channels * op.depth_multiplier
    attrs = {"kernel": array(op.kernel), "bias": bias_of(op, channels)}
    y = Node(DEPTHWISE, [x], _shape(op, x, channels), op.name, attrs | _settings(op))
    return activate(op.activation, y, f"{op.name}_activation")


def separable(op, x):
    channels = x.channels * op.depth_multiplier
    attrs = {"kernel": array(op.depthwise_kernel), "bias": np.zeros(channels)}
    shape, name = _shape(op, x, channels), f"{op.name}_depthwise"
    y = Node(DEPTHWISE, [x], shape, name, attrs | _settings(op))
    kernel, bias = array(op.pointwise_kernel), bias_of(op, op.filters)
    y = plain_conv(y, kernel, bias, (*y.shape[:2], op.filters), op.name)
    return activate(op.activation, y, f"{op.name}_activation")


def average_pool(op, x):
    """A mean of the map, or a depthwise convolution: XNNPACK has no average pooling in int8."""
    shape = _shape(op, x, x.channels)
    if op.pool_size == x.shape[:2] and shape[:2] == (1, 1):
        return Node(MEAN, [x], shape, op.name)
    taps = op.pool_size[0] * op.pool_size[1]
    require(taps <= _MAX_POOL, "many taps")
    covered = [(out - 1) * stride for out, stride in zip(shape[:2], op.strides, strict=True)]
    sides = zip(covered, op.pool_size, x.shape[:2], strict=True)
    require(all(first + pool <= side for first, pool, side in sides), "padding")
    attrs = {"kernel": np.full((*op.pool_size, x.channels, 1), 1 / taps)}
    attrs |= {"bias": np.zeros(x.channels), "strides": op.strides, "dilation": (1, 1)}
    return Node(DEPTHWISE, [x], shape, op.name, attrs | {"padding": "valid"})


def max_pool(op, x):
    """Of one pixel it only leaves pixels out; XNNPACK has no pooling of that size."""
    require(op.pool_size == (1, 1), "max pooling")
    return average_pool(op, x)


def dense(op, x):
    attrs = {"kernel": array(op.kernel), "bias": bias_of(op, op.units)}
    y = Node(DENSE, [x], (*x.shape[:-1], op.units), op.name, attrs)
    return activate(op.activation, y, f"{op.name}_activation")


def batch_norm(op, x):
    require_last_axis(op.axis, x)
    scale = 1 / np.sqrt(array(op.moving_variance) + op.epsilon)
    scale = scale * (array(op.gamma) if op.scale else 1.0)
    shift = (array(op.beta) if op.center else 0.0) - array(op.moving_mean) * scale
    return affine(x, scale, shift, op.name)


def layer_norm(op, x):
    require_last_axis(op.axis, x)
    require(not getattr(op, "rms_scaling", False), "RMS scaling")
    y = Node(NORMALIZE, [x], x.shape, op.name, {"epsilon": op.epsilon})
    scale = array(op.gamma) if op.scale else 1.0
    return affine(y, scale, array(op.beta) if op.center else 0.0, f"{op.name}_affine")


def normalization(op, x):
    require(not op.invert, "inverted")
    mean, deviation = array(op.mean).ravel(), np.sqrt(array(op.variance).ravel())
    require(mean.size in (1, x.channels), "not per channel")
    scale = 1 / np.maximum(deviation, 1e-7)  # The layer divides by no less either.
    return affine(x, scale, -mean * scale, op.name)


def rescaling(op, x):
    scale, offset = np.asarray(op.scale, "float64"), np.asarray(op.offset, "float64")
    require(max(scale.ndim, offset.ndim) < 2, "not per channel")
    return affine(x, scale, offset, op.name)


def layer_scale(op, x):
    return affine(x, array(op.gamma), 0.0, op.name)
