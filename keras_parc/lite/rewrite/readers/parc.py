"""Readers of ParC's layers."""

import numpy as np

from keras_parc.layers.parc import align_corners_matrix
from keras_parc.lite.rewrite.graph import Node, affine
from keras_parc.lite.rewrite.operations import CIRCULAR, WRAP
from keras_parc.lite.rewrite.readers.common import array, bias_of, plain_conv


def position(op, x):
    return _add_position(op, x, op.name)


def parc(op, x):
    if op.position_embedding:
        x = _add_position(op, x, f"{op.name}_position")
    axis = _axis(op)
    kernel, bias = _instance(op.base_kernel, x.shape[axis]), bias_of(op, x.channels)
    if op.depthwise:
        kernels = {"height": None, "width": None, op.along: kernel}
        return Node(CIRCULAR, [x], x.shape, op.name, {**kernels, "bias": bias})
    # A dense circular convolution: a plain one over the wrapped map.
    n, shape = x.shape[axis], x.shape
    if n > 1:
        wrapped = [2 * n - 1 if i == axis else side for i, side in enumerate(shape)]
        x = Node(WRAP, [x], tuple(wrapped), f"{op.name}_wrap", {"axis": op.along})
    return plain_conv(x, np.expand_dims(kernel, 1 - axis), bias, shape, op.name)


def _axis(op) -> int:
    return ("height", "width").index(op.along)


def _add_position(op, x: Node, name: str) -> Node:
    axis = _axis(op)
    base = np.expand_dims(_instance(op.base_position, x.shape[axis]), 1 - axis)
    return affine(x, 1.0, np.broadcast_to(base, x.shape), name)


def _instance(base, side: int) -> np.ndarray:
    """The stored kernel or embedding of a ParC layer at this side, as the layer resamples it."""
    base = array(base)
    if len(base) == side:
        return base
    return np.tensordot(align_corners_matrix(len(base), side), base, axes=1)
