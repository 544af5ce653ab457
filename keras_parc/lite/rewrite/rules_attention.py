"""How MobileViT's layers are read into a `Graph`: plain products of rank 4, static shapes.

Keras' attention is five einsums over tensors of rank 5. Here the places within a patch join the
batch, so that XNNPACK gets what it knows: 1x1 convolutions, transposes, two batch products.
"""

import numpy as np
from keras import activations

from keras_parc.lite.rewrite.graph import Node, affine
from keras_parc.lite.rewrite.readers import array, need


def _reshape(x: Node, shape: tuple[int, ...], name: str) -> Node:
    return Node("reshape", [x], shape, name)


def _transpose(x: Node, axes: tuple[int, ...], name: str) -> Node:
    return Node("transpose", [x], tuple(x.shape[i - 1] for i in axes), name, {"axes": axes})


def _resize(x: Node, size: tuple[int, int], name: str) -> Node:
    if x.shape[:2] == size:
        return x
    return Node("resize", [x], (*size, x.channels), name, {"size": size})


def _unfold(op, x):
    patch, (height, width, channels) = op.patch, x.shape
    rows, columns = -(-height // patch), -(-width // patch)
    x = _resize(x, (rows * patch, columns * patch), f"{op.name}_resize")
    x = _reshape(x, (rows, patch, columns, patch, channels), f"{op.name}_cut")
    x = _transpose(x, (2, 4, 1, 3, 5), op.name)
    return _reshape(x, (patch * patch, rows * columns, channels), f"{op.name}_tokens")


def _fold(op, inputs):
    x, like = inputs
    patch, (height, width) = op.patch, like.shape[:2]
    rows, columns = -(-height // patch), -(-width // patch)
    x = _reshape(x, (patch, patch, rows, columns, x.channels), f"{op.name}_places")
    x = _transpose(x, (3, 1, 4, 2, 5), op.name)
    x = _reshape(x, (rows * patch, columns * patch, x.channels), f"{op.name}_map")
    return _resize(x, (height, width), f"{op.name}_resize")


def _attention(op, query, value=None, key=None):
    need(value is query and key in (None, query), "attention between two tensors")
    need(len(query.shape) == 3 and tuple(op._attention_axes) == (2,), "attention over other axes")
    places, tokens, width = query.shape
    heads, size = op._num_heads, op._key_dim
    need(op._value_dim == size, "values of another size")

    def project(layer, name):
        kernel = array(layer.kernel).reshape(width, heads * size)
        bias = np.zeros(heads * size) if layer.bias is None else array(layer.bias).ravel()
        attrs = {"kernel": kernel, "bias": bias}
        return Node("dense", [query], (places, tokens, heads * size), f"{op.name}_{name}", attrs)

    def split(x, name):
        x = _reshape(x, (tokens, heads, size), f"{op.name}_{name}_heads")
        return _transpose(x, (2, 1, 3), f"{op.name}_{name}_first")

    scaled = affine(project(op._query_dense, "query"), size**-0.5, 0.0, f"{op.name}_scale")
    q = split(scaled, "query")
    k = split(project(op._key_dense, "key"), "key")
    v = split(project(op._value_dense, "value"), "value")
    shape = (heads, tokens, tokens)
    scores = Node("matmul", [q, k], shape, f"{op.name}_scores", {"transposed": True})
    attrs = {"function": activations.softmax, "kind": "softmax"}
    scores = Node("activation", [scores], shape, f"{op.name}_softmax", attrs)
    x = Node("matmul", [scores, v], v.shape, f"{op.name}_mix", {"transposed": False})
    x = _reshape(
        _transpose(x, (2, 1, 3), f"{op.name}_joined"),
        (places, tokens, heads * size),
        f"{op.name}_width",
    )
    dense = op._output_dense
    out = dense.kernel.shape[-1]
    bias = array(dense.bias) if dense.bias is not None else np.zeros(out)
    attrs = {"kernel": array(dense.kernel).reshape(heads * size, out), "bias": bias}
    return Node("dense", [x], (places, tokens, out), f"{op.name}_output", attrs)


READERS = {"Fold": _fold, "MultiHeadAttention": _attention, "Unfold": _unfold}
