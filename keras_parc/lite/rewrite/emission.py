"""From a `Graph` to a Keras functional model of plain layers."""

import dataclasses

import keras
import numpy as np
from keras import layers, ops, tree

from keras_parc.layers.image_input import ImageInput
from keras_parc.lite.rewrite import operations
from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.kept import Kept
from keras_parc.lite.rewrite.signature import safe_name


def emit(graph: Graph) -> keras.Model:
    """Build the float32 model that a graph describes.

    Operations that were kept are shared with the model they come from, which does not change.

    Args:
        graph: Without `CIRCULAR` nodes: `forms.lower_circulars` replaces them.

    Returns:
        A functional model.

    Example:
        >>> image = Node(operations.INPUT, [], (8, 8, 3), "image", {"dtype": "float32"})
        >>> mean = Node(operations.MEAN, [image], (1, 1, 3), "mean")
        >>> emit(Graph([image], [mean])).output_shape
        (None, 1, 1, 3)
    """
    values, used = {}, set()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # also for what has no argument for it
    try:
        for node in [*graph.inputs, *graph.nodes()]:
            if node not in values:
                inputs = [values[each] for each in node.inputs]
                values[node] = EMITTERS[node.op](node, _free_name(node.name, used), *inputs)
        inputs, outputs = (
            _nested([values[node] for node in nodes], structure)
            for nodes, structure in (
                (graph.inputs, graph.input_structure),
                (graph.outputs, graph.structure),
            )
        )
        return keras.Model(inputs, outputs, name=graph.name)
    finally:
        keras.config.set_dtype_policy(policy)


def _nested(tensors: list, structure):
    if structure is not None:
        return tree.pack_sequence_as(structure, tensors)
    return tensors[0] if len(tensors) == 1 else tensors


def _free_name(name: str, used: set[str]) -> str:
    name = free = safe_name(name)
    number = 1
    while free in used:
        number += 1
        free = f"{name}_{number}"
    used.add(free)
    return free


def _input(node: Node, name: str):
    scale = node.attrs.get("scale")
    if scale is None:
        return keras.Input(node.shape, dtype=node["dtype"], name=name)
    facts = {**dataclasses.asdict(scale), "crop": node["crop"], "dtype": node["dtype"]}
    return ImageInput(node.shape, **facts, name=name).output


def _with_weights(layer, x, *weights):
    y = layer(x)
    layer.set_weights([np.asarray(weight, "float32") for weight in weights])
    return y


def _conv(node: Node, name: str, x):
    kernel = node["kernel"]
    layer = layers.Conv2D(
        kernel.shape[-1],
        kernel.shape[:2],
        strides=node["strides"],
        padding=node["padding"],
        dilation_rate=node["dilation"],
        groups=node["groups"],
        dtype="float32",
        name=name,
    )
    return _with_weights(layer, x, kernel, node["bias"])


def _depthwise(node: Node, name: str, x):
    kernel = node["kernel"]
    layer = layers.DepthwiseConv2D(
        kernel.shape[:2],
        strides=node["strides"],
        padding=node["padding"],
        dilation_rate=node["dilation"],
        depth_multiplier=kernel.shape[-1],
        dtype="float32",
        name=name,
    )
    return _with_weights(layer, x, kernel, node["bias"])


def _dense(node: Node, name: str, x):
    if (
        len(node.shape) == 3
    ):  # The same as a 1x1 convolution, for which runtimes are optimized better.
        layer = layers.Conv2D(node.channels, 1, dtype="float32", name=name)
        return _with_weights(layer, x, node["kernel"][None, None], node["bias"])
    layer = layers.Dense(node.channels, dtype="float32", name=name)
    return _with_weights(layer, x, node["kernel"], node["bias"])


def _affine(node: Node, name: str, x):
    scale, shift = node["scale"].astype("float32"), node["shift"].astype("float32")
    if np.all(scale == 1):
        return ops.add(x, float(shift.flat[0]) if np.all(shift == shift.flat[0]) else shift)
    if len(node.shape) != 3:
        return ops.add(ops.multiply(x, scale), shift)
    layer = layers.DepthwiseConv2D(1, dtype="float32", name=name)
    bias = shift if shift.ndim == 1 else np.zeros_like(scale)
    x = _with_weights(layer, x, scale[None, None, :, None], bias)
    return x if shift.ndim == 1 else ops.add(x, shift)


def _product(node: Node, name: str, x):
    layer = layers.EinsumDense(
        "bcij,cjk->bcik", output_shape=node.shape, dtype="float32", name=name
    )
    return _with_weights(layer, x, node["matrix"])


def _window(node: Node, name: str, x):
    part = slice(node["start"], node["start"] + node["length"])
    return x[:, part] if node["axis"] == "height" else x[:, :, part]


def _normalize(node: Node, name: str, x):
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    variance = ops.mean(ops.multiply(centred, centred), axis=-1, keepdims=True)
    return centred * ops.rsqrt(variance + node["epsilon"])


def _matmul(node: Node, name: str, x, y):
    return ops.matmul(x, ops.transpose(y, (0, 1, 3, 2)) if node["transposed"] else y)


def _resize(node: Node, name: str, x):
    size = node["size"]
    return ops.image.resize(x, size, interpolation="bilinear", data_format="channels_last")


def _repeat(node: Node, name: str, x):
    """Without TILE, which XNNPACK does not have: a copy beside each pixel, one below each row."""
    height, width, channels = x.shape[1:]
    rows, columns = node["times"]
    if columns > 1:
        x = ops.reshape(ops.concatenate([x] * columns, -1), (-1, height, width * columns, channels))
    if rows > 1:
        x = ops.reshape(ops.concatenate([x] * rows, 2), (-1, *node.shape))
    return x


def _keep(node: Node, name: str, *images):
    what = (node["operation"], node["arguments"], node["shapes"], node["dtypes"])
    return Kept(*what, name=name)(list(images))


def _activation(node: Node, name: str, x):
    activation = node["function"]
    if activation.emitted is not None:
        return activation.emitted(x)
    return layers.Activation(activation.function, name=name)(x)


def _wrap(node: Node, name: str, x):
    axis = 1 if node["axis"] == "height" else 2
    last = x.shape[axis] - 1
    first = x[:, :last] if axis == 1 else x[:, :, :last]
    return layers.Concatenate(axis=axis, name=name)([x, first])


def _join(node: Node, name: str, *parts):
    axis = 1 if node["axis"] == "height" else 2
    return layers.Concatenate(axis=axis, name=name)(list(parts))


EMITTERS = {
    operations.ACTIVATION: _activation,
    operations.ADD: lambda node, name, *inputs: layers.Add(name=name)(list(inputs)),
    operations.AFFINE: _affine,
    operations.CONCAT: lambda node, name, *inputs: layers.Concatenate(name=name)(list(inputs)),
    operations.CONV: _conv,
    operations.DENSE: _dense,
    operations.DEPTHWISE: _depthwise,
    operations.INPUT: _input,
    operations.ITEM: lambda node, name, outputs: outputs[node["index"]],
    operations.JOIN: _join,
    operations.KEEP: _keep,
    operations.MATMUL: _matmul,
    operations.MEAN: lambda node, name, x: layers.GlobalAveragePooling2D(keepdims=True, name=name)(
        x
    ),
    operations.MULTIPLY: lambda node, name, *inputs: layers.Multiply(name=name)(list(inputs)),
    operations.NORMALIZE: _normalize,
    operations.PAD: lambda node, name, x: layers.ZeroPadding2D(node["amount"], name=name)(x),
    operations.PERMUTE: lambda node, name, x: ops.take(x, [int(i) for i in node["order"]], axis=-1),
    operations.PRODUCT: _product,
    operations.REPEAT: _repeat,
    operations.RESHAPE: lambda node, name, x: ops.reshape(x, (-1, *node.shape)),
    operations.RESIZE: _resize,
    operations.RSQRT: lambda node, name, x: ops.rsqrt(x),
    operations.SLICE: lambda node, name, x: x[..., node["start"] : node["stop"]],
    operations.SUBTRACT: lambda node, name, x, y: layers.Subtract(name=name)([x, y]),
    operations.TRANSPOSE: lambda node, name, x: layers.Permute(node["axes"], name=name)(x),
    operations.WINDOW: _window,
    operations.WRAP: _wrap,
}
