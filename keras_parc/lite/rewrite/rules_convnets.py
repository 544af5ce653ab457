"""Readers and rules for ParC in other ConvNets, and for the models of `keras.applications`."""

import numpy as np

from keras_parc.lite.rewrite.graph import ELEMENTWISE, LINEAR, Graph, Node, affine, per_channel
from keras_parc.lite.rewrite.linear import scale_output
from keras_parc.lite.rewrite.readers import array, need


def _layer_scale(op, x):
    return affine(x, array(op.gamma), 0.0, op.name)


def _normalization(op, x):
    need(not op.invert, "inverted")
    mean, deviation = array(op.mean).ravel(), np.sqrt(array(op.variance).ravel())
    need(mean.size in (1, x.channels), "not per channel")
    scale = 1 / np.maximum(deviation, 1e-7)  # The layer's own least deviation.
    return affine(x, scale, -mean * scale, op.name)


def _reshape(op, x):
    shape = op.compute_output_shape((None, *x.shape))[1:]
    return Node("reshape", [x], tuple(shape), op.name)


READERS = {"LayerScale": _layer_scale, "Normalization": _normalization, "Reshape": _reshape}


def drop_reshape(graph: Graph, node: Node, consumers) -> bool:
    """A reshape that undoes the one before it: squeeze-and-excitation of `keras.applications`."""
    if node.op != "reshape" or node.inputs[0].op != "reshape":
        return False
    source = node.inputs[0].inputs[0]
    if source.shape != node.shape:
        return False
    graph.replace(node, source)
    return True


def push_past_wrap(graph: Graph, node: Node, consumers) -> bool:
    """An affine map before a wrapped map, such as a position embedding, as one after it."""
    before = node.inputs[0] if node.op == "wrap" else None
    if before is None or before.op != "affine" or not graph.only_reader(before, node, consumers):
        return False
    shift, axis = before["shift"], ("height", "width").index(node["axis"])
    if shift.ndim == 3:
        shift = np.take(shift, np.arange(node.shape[axis]) % before.shape[axis], axis)
    node.inputs = list(before.inputs)
    graph.replace(node, affine(node, before["scale"], shift, before.name))
    return True


def fold_into_parts(graph: Graph, node: Node, consumers) -> bool:
    """An affine map after concatenated linear operations, such as ParC's two halves, into them.

    A shift that differs from place to place stays after the concatenation.
    """
    joint = node.inputs[0] if node.op == "affine" else None
    if joint is None or joint.op != "concat" or not graph.only_reader(joint, node, consumers):
        return False
    if len(set(joint.inputs)) < len(joint.inputs) or any(
        part.op not in LINEAR or not graph.only_reader(part, joint, consumers)
        for part in joint.inputs
    ):
        return False
    whole = node["shift"].ndim == 1
    if not whole and np.all(node["scale"] == 1):
        return False
    start = 0
    for part in joint.inputs:
        own = slice(start, start + part.channels)
        scale_output(part, node["scale"][own])
        if whole:
            part["bias"] = per_channel(part["bias"] + node["shift"][own])
        start += part.channels
    if whole:
        graph.replace(node, joint)
    else:
        node["scale"] = np.ones_like(node["scale"])
    return True


def activate_parts(graph: Graph, node: Node, consumers) -> bool:
    """An activation after concatenated convolutions into them, where the runtime fuses it.

    A RELU6 on its own is not XNNPACK's in int8.
    """
    joint = node.inputs[0] if node.op == "activation" else None
    if joint is None or joint.op != "concat" or node["kind"] not in ELEMENTWISE:
        return False
    if not graph.only_reader(joint, node, consumers) or any(
        part.op not in ("conv", "depthwise") or not graph.only_reader(part, joint, consumers)
        for part in joint.inputs
    ):
        return False
    joint.inputs = [
        Node("activation", [part], part.shape, f"{node.name}_{index}", dict(node.attrs))
        for index, part in enumerate(joint.inputs)
    ]
    graph.replace(node, joint)
    return True
