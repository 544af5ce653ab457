"""Rules for ParC in other ConvNets, and for the models of `keras.applications`."""

import numpy as np

from keras_parc.lite.rewrite.graph import Graph, Node, affine, per_channel
from keras_parc.lite.rewrite.linear import scale_output
from keras_parc.lite.rewrite.operations import ACTIVATION, AFFINE, CONCAT, RESHAPE, WRAP


def drop_reshape(graph: Graph, node: Node, consumers) -> bool:
    """Two reshapes go where the second undoes the first, as in `keras.applications`' attention."""
    if node.op is not RESHAPE or node.inputs[0].op is not RESHAPE:
        return False
    source = node.inputs[0].inputs[0]
    if source.shape != node.shape:
        return False
    graph.replace(node, source)
    return True


def push_past_wrap(graph: Graph, node: Node, consumers) -> bool:
    """An affine map before a wrapped map, such as a position embedding, moves behind it."""
    before = node.inputs[0] if node.op is WRAP else None
    if before is None or before.op is not AFFINE or not graph.only_reader(before, node, consumers):
        return False
    shift, axis = before["shift"], ("height", "width").index(node["axis"])
    if shift.ndim == 3:
        shift = np.take(shift, np.arange(node.shape[axis]) % before.shape[axis], axis)
    node.inputs = list(before.inputs)
    graph.replace(node, affine(node, before["scale"], shift, before.name))
    return True


def fold_into_parts(graph: Graph, node: Node, consumers) -> bool:
    """An affine map after concatenated linear operations, such as ParC's halves, goes into them.

    A shift that depends on the position stays after the concatenation.
    """
    joint = node.inputs[0] if node.op is AFFINE else None
    if joint is None or joint.op is not CONCAT or not graph.only_reader(joint, node, consumers):
        return False
    if len(set(joint.inputs)) < len(joint.inputs) or any(
        not part.op.linear or not graph.only_reader(part, joint, consumers) for part in joint.inputs
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
    """An activation after concatenated convolutions goes behind each, where the runtime fuses it.

    XNNPACK does not run a RELU6 of its own in int8.
    """
    joint = node.inputs[0] if node.op is ACTIVATION else None
    if joint is None or joint.op is not CONCAT or not node["function"].elementwise:
        return False
    if not graph.only_reader(joint, node, consumers) or any(
        not part.op.convolution or not graph.only_reader(part, joint, consumers)
        for part in joint.inputs
    ):
        return False
    joint.inputs = [
        Node(ACTIVATION, [part], part.shape, f"{node.name}_{index}", dict(node.attrs))
        for index, part in enumerate(joint.inputs)
    ]
    graph.replace(node, joint)
    return True
