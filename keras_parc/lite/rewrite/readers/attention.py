"""Readers of transformers' layers: plain products of rank 4, static shapes.

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


def attention(op, query, value, key=None):
    key = value if key is None else key
    tensors = (query, key, value)
    rank, axes = len(query.shape), tuple(op.attention_axes)
    require(all(isinstance(each, Node) for each in tensors), "of a constant")
    require(all(len(each.shape) == rank for each in tensors), "tensors of different rank")
    # Axes count the batch: over all places, or over the last of them, the others joining the batch.
    places = rank == 3 and axes == (2,) and query.shape[0] == key.shape[0] == value.shape[0]
    require(places or axes == tuple(range(1, rank)), "attention over other axes")
    outer = query.shape[:1] if places else ()
    heads, size = op.num_heads, op.key_dim

    def project(x, layer, width, name):
        kernel = array(layer.kernel).reshape(x.channels, heads * width)
        bias = np.zeros(heads * width) if layer.bias is None else array(layer.bias).ravel()
        x = _tokens(x, outer, f"{op.name}_{name}_tokens")
        shape, attrs = (*x.shape[:-1], heads * width), {"kernel": kernel, "bias": bias}
        return Node(DENSE, [x], shape, f"{op.name}_{name}", attrs)

    def split(x, width, name):
        x = _reshape(x, (x.shape[-2], heads, width), f"{op.name}_{name}_heads")
        return _transpose(x, (2, 1, 3), f"{op.name}_{name}_first")

    q = project(query, op.query_dense, size, "query")
    q = split(affine(q, size**-0.5, 0.0, f"{op.name}_scale"), size, "query")
    k = split(project(key, op.key_dense, size, "key"), size, "key")
    v = split(project(value, op.value_dense, op.value_dim, "value"), op.value_dim, "value")
    shape = (heads, q.shape[1], k.shape[1])
    scores = Node(MATMUL, [q, k], shape, f"{op.name}_scores", {"transposed": True})
    scores = activate(keras.activations.softmax, scores, f"{op.name}_softmax")
    shape = (heads, q.shape[1], op.value_dim)
    x = Node(MATMUL, [scores, v], shape, f"{op.name}_mix", {"transposed": False})
    width = heads * op.value_dim
    x = _transpose(x, (2, 1, 3), f"{op.name}_joined")
    x = _reshape(x, (*outer, q.shape[1], width), f"{op.name}_width")
    dense = op.output_dense
    channels = int(np.prod(dense.kernel.shape[2:]))
    require(len(dense.kernel.shape) == 3, "an output of more axes")
    bias = array(dense.bias) if dense.bias is not None else np.zeros(channels)
    attrs = {"kernel": array(dense.kernel).reshape(width, channels), "bias": bias}
    x = Node(DENSE, [x], (*x.shape[:-1], channels), f"{op.name}_output", attrs)
    whole = (*query.shape[:-1], channels)
    return x if x.shape == whole else _reshape(x, whole, f"{op.name}_map")


def _tokens(x: Node, outer: tuple[int, ...], name: str) -> Node:
    """A map as a sequence of its places, `(*outer, tokens, channels)`."""
    shape = (*outer, int(np.prod(x.shape[len(outer) : -1])), x.channels)
    return x if x.shape == shape else _reshape(x, shape, name)
