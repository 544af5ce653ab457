"""Rules that join the halves of a ParC block.

Circular convolutions along different axes commute. One half of the channels goes down the columns,
then along the rows, the other half the other way round: together they are one convolution down the
columns and one along the rows over all channels, without a split and a concatenation.
"""

import numpy as np

from keras_parc.lite.rewrite.graph import Graph, Node, affine, concat_shifts, per_channel
from keras_parc.lite.rewrite.linear import apply_linear, circular
from keras_parc.lite.rewrite.operations import ADD, AFFINE, CIRCULAR, CONCAT, SLICE

AXES = ("height", "width")


def merge_circulars(graph: Graph, node: Node, consumers) -> bool:
    """Two circular convolutions in a row become one node over both axes."""
    first = node.inputs[0] if node.op is CIRCULAR else None
    if first is None or first.op is not CIRCULAR or not graph.only_reader(first, node, consumers):
        return False
    if np.any(first["bias"]):
        constant = apply_linear(node, np.broadcast_to(first["bias"], first.shape))
        node["bias"] = per_channel(node["bias"] + constant)
    for axis in AXES:
        one, two = first[axis], node[axis]
        if one is not None and two is not None:
            # out[i] = sum_ab two[a] one[b] x[i + a + b]: the kernels' own circular convolution.
            node[axis] = circular(one[::-1], two, 0)[::-1]
        else:
            node[axis] = one if two is None else two
    node.inputs = list(first.inputs)
    return True


def join_slices(graph: Graph, node: Node, consumers) -> bool:
    """All slices of a tensor, concatenated in order, become the tensor."""
    if node.op is not CONCAT:
        return False
    whole = _whole(node.inputs)
    if whole is None:
        return False
    graph.replace(node, whole)
    return True


def _whole(parts: list[Node]) -> Node | None:
    if any(part.op is not SLICE for part in parts):
        return None
    source, end = parts[0].inputs[0], 0
    for part in parts:
        if part.inputs[0] is not source or part["start"] != end:
            return None
        end = part["stop"]
    return source if end == source.channels else None


def join_circulars(graph: Graph, node: Node, consumers) -> bool:
    """Concatenated circular convolutions along the same axes become one over all channels."""
    parts = _unshared(graph, node, consumers)
    if not parts or any(part.op is not CIRCULAR for part in parts):
        return False
    if len({tuple(part[axis] is None for axis in AXES) for part in parts}) > 1:
        return False
    attrs = {"bias": concat_shifts([part["bias"] for part in parts], node.shape)}
    for axis in AXES:
        kernels = [part[axis] for part in parts]
        attrs[axis] = None if kernels[0] is None else np.concatenate(kernels, -1)
    inside = Node(CONCAT, [part.inputs[0] for part in parts], node.shape, node.name)
    graph.replace(node, Node(CIRCULAR, [inside], node.shape, parts[0].name, attrs))
    return True


def join_affines(graph: Graph, node: Node, consumers) -> bool:
    """Concatenated affine maps become one after the concatenation."""
    parts = _unshared(graph, node, consumers)
    if not parts or not all(part.op in (AFFINE, CIRCULAR) or part.op.convolution for part in parts):
        return False
    if all(part.op is not AFFINE for part in parts):
        return False
    scales, shifts, inputs = [], [], []
    for part in parts:
        is_affine = part.op is AFFINE
        scales.append(part["scale"] if is_affine else np.ones(part.channels))
        shifts.append(part["shift"] if is_affine else np.zeros(part.channels))
        inputs.append(part.inputs[0] if is_affine else part)
    inside = Node(CONCAT, inputs, node.shape, node.name)
    shift = concat_shifts(shifts, node.shape)
    graph.replace(node, affine(inside, np.concatenate(scales), shift, f"{node.name}_affine"))
    return True


def join_residuals(graph: Graph, node: Node, consumers) -> bool:
    """Residuals around the slices of a tensor become one residual around the tensor."""
    parts = _unshared(graph, node, consumers)
    if not parts or any(part.op is not ADD or len(part.inputs) != 2 for part in parts):
        return False
    ways = [[part.inputs[way] for part in parts] for way in (0, 1)]
    for kept, others in (ways, ways[::-1]):
        whole = _whole(kept)
        if whole is not None:
            inside = Node(CONCAT, others, node.shape, node.name)
            graph.replace(node, Node(ADD, [whole, inside], node.shape, parts[0].name))
            return True
    return False


def _unshared(graph: Graph, node: Node, consumers) -> list[Node] | None:
    """The inputs of a concatenation of maps, or None if something else reads one of them too."""
    if node.op is not CONCAT or len(node.shape) != 3 or len(set(node.inputs)) < len(node.inputs):
        return None
    if not all(graph.only_reader(part, node, consumers) for part in node.inputs):
        return None
    return node.inputs
