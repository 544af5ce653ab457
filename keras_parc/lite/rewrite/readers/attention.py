"""Readers of MobileViT's layers: plain products of rank 4, static shapes.

Keras' attention is five einsums over tensors of rank 5. Here the places within a patch join the
batch, so that XNNPACK gets operations that it has: 1x1 convolutions, transposes, two batch
products.
"""

import keras
import numpy as np

from keras_parc.lite.rewrite.graph import Node, affine
from keras_parc.lite.rewrite.operations import DENSE, MATMUL, RESHAPE, TRANSPOSE
from keras_parc.lite.rewrite.readers.common import activate, array, require
from keras_parc.lite.rewrite.readers.maps import resized


def _reshape(x: Node, shape: tuple[int, ...], name: str) -> Node:
    return Node(RESHAPE, [x], shape, name)


def _transpose(x: Node, axes: tuple[int, ...], name: str) -> Node:
    return Node(TRANSPOSE, [x], tuple(x.shape[i - 1] for i in axes), name, {"axes": axes})


def unfold(op, x):
    patch, (height, width, channels) = op.patch, x.shape
    rows, columns = -(-height // patch), -(-width // patch)
    x = resized(x, (rows * patch, columns * patch), f"{op.name}_resize")
    x = _reshape(x, (rows, patch, columns, patch, channels), f"{op.name}_cut")
    x = _transpose(x, (2, 4, 1, 3, 5), op.name)
    return _reshape(x, (patch * patch, rows * columns, channels), f"{op.name}_tokens")


def fold(op, inputs):
    x, like = inputs
    patch, (height, width) = op.patch, like.shape[:2]
    rows, columns = -(-height // patch), -(-width // patch)
    x = _reshape(x, (patch, patch, rows, columns, x.channels), f"{op.name}_places")
    x = _transpose(x, (3, 1, 4, 2, 5), op.name)
    x = _reshape(x, (rows * patch, columns * patch, x.channels), f"{op.name}_map")
    return resized(x, (height, width), f"{op.name}_resize")


def attention(op, query, value=None, key=None):
    require(value is query and key in (None, query), "attention between two tensors")
    require(len(query.shape) == 3 and tuple(op.attention_axes) == (2,), "attention over other axes")
    places, tokens, width = query.shape
    heads, size = op.num_heads, op.key_dim
    require(op.value_dim == size, "values of another size")

    def project(layer, name):
        kernel = array(layer.kernel).reshape(width, heads * size)
        bias = np.zeros(heads * size) if layer.bias is None else array(layer.bias).ravel()
        attrs = {"kernel": kernel, "bias": bias}
        return Node(DENSE, [query], (places, tokens, heads * size), f"{op.name}_{name}", attrs)

    def split(x, name):
        x = _reshape(x, (tokens, heads, size), f"{op.name}_{name}_heads")
        return _transpose(x, (2, 1, 3), f"{op.name}_{name}_first")

    scaled = affine(project(op.query_dense, "query"), size**-0.5, 0.0, f"{op.name}_scale")
    q = split(scaled, "query")
    k = split(project(op.key_dense, "key"), "key")
    v = split(project(op.value_dense, "value"), "value")
    shape = (heads, tokens, tokens)
    scores = Node(MATMUL, [q, k], shape, f"{op.name}_scores", {"transposed": True})
    scores = activate(keras.activations.softmax, scores, f"{op.name}_softmax")
    x = Node(MATMUL, [scores, v], v.shape, f"{op.name}_mix", {"transposed": False})
    x = _reshape(
        _transpose(x, (2, 1, 3), f"{op.name}_joined"),
        (places, tokens, heads * size),
        f"{op.name}_width",
    )
    dense = op.output_dense
    out = dense.kernel.shape[-1]
    bias = array(dense.bias) if dense.bias is not None else np.zeros(out)
    attrs = {"kernel": array(dense.kernel).reshape(heads * size, out), "bias": bias}
    return Node(DENSE, [x], (places, tokens, out), f"{op.name}_output", attrs)
