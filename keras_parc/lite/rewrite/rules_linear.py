"""Rules that remove affine maps: normalization, position embeddings, rescaling."""

import numpy as np

from keras_parc.lite.rewrite.graph import Graph, Node, affine, per_channel
from keras_parc.lite.rewrite.linear import apply_linear, scale_input, scale_output
from keras_parc.lite.rewrite.operations import (
    AFFINE,
    CIRCULAR,
    CONV,
    DENSE,
    MEAN,
    MULTIPLY,
    PERMUTE,
    RESHAPE,
    SLICE,
    Shift,
)


def drop_identity(graph: Graph, node: Node, consumers) -> bool:
    """`x * 1 + 0` becomes x."""
    if node.op is not AFFINE or np.any(node["scale"] != 1) or np.any(node["shift"] != 0):
        return False
    graph.replace(node, node.inputs[0])
    return True


def fold_backward(graph: Graph, node: Node, consumers) -> bool:
    """An affine map goes into the linear operation before it, if nothing else reads that one."""
    if node.op is not AFFINE:
        return False
    producer = node.inputs[0]
    if not producer.op.linear or not graph.only_reader(producer, node, consumers):
        return False
    whole = node["shift"].ndim == 1 or producer.op is CIRCULAR
    if not whole and np.all(node["scale"] == 1):
        return False
    scale_output(producer, node["scale"])
    if whole:
        producer["bias"] = per_channel(producer["bias"] + node["shift"])
        graph.replace(node, producer)
    else:
        node["scale"] = np.ones_like(node["scale"])
    return True


def push_forward(graph: Graph, node: Node, consumers) -> bool:
    """An affine map goes into, or past, all that read it, if every one of them can take it."""
    if node.op is not AFFINE or node in graph.outputs:
        return False
    readers = list(dict.fromkeys(consumers[node]))
    if not readers or not all(_takes(node, reader) for reader in readers):
        return False
    _pass_on(graph, node, readers)
    return True


def _pass_on(graph: Graph, node: Node, readers: list[Node]) -> None:
    for reader in readers:
        if reader.op.linear:
            _into_linear(graph, node, reader)
        else:
            _past(graph, node, reader)


def push_scale_forward(graph: Graph, node: Node, consumers) -> bool:
    """`x * s + t` becomes `(x + t / s) * s`, and the scale moves on where the shift cannot.

    That is so before a zero padding, where the shift must stay.
    """
    if node.op is not AFFINE or node in graph.outputs or np.all(node["scale"] == 1):
        return False
    if np.any(node["scale"] == 0):
        return False
    scale = affine(node, node["scale"], 0.0, node.name)
    readers = list(dict.fromkeys(consumers[node]))
    if not readers or not all(_takes(scale, reader) for reader in readers):
        return False
    node["shift"] = node["shift"] / node["scale"]
    node["scale"] = np.ones_like(node["scale"])
    graph.replace(node, scale, readers)
    # At once: two affine maps in a row would be merged again.
    _pass_on(graph, scale, readers)
    return True


def _takes(node: Node, reader: Node) -> bool:
    """Whether a reader of an affine map can take it in, or let it past."""
    no_shift, op = not np.any(node["shift"]), reader.op
    if op.convolution:
        # Behind a zero padding the shift becomes a constant map: not one larger than before.
        return no_shift or not _pads(reader) or np.prod(reader.shape) <= np.prod(node.shape)
    if op.linear:
        return op is CIRCULAR or node["shift"].ndim == 1
    keeps_channels = op in (SLICE, PERMUTE) or op.channelwise(reader)
    if not keeps_channels or reader.inputs.count(node) > 1:
        return False
    if not op.passes_scale and np.any(node["scale"] != 1):
        return False
    if op.passes_shift is Shift.NONE:
        return op.passes_scale and no_shift
    return op.passes_shift is Shift.ANY or node["shift"].ndim == 1


def _pads(node: Node) -> bool:
    return node["padding"] == "same" and max(node["kernel"].shape[:2]) > 1


def _into_linear(graph: Graph, node: Node, reader: Node) -> None:
    constant = 0.0
    if np.any(node["shift"]):
        constant = per_channel(apply_linear(reader, _map(node, reader)))
    scale_input(reader, node["scale"])
    reader.inputs = [node.inputs[0]]
    if np.ndim(constant) < 3 or reader.op is CIRCULAR:
        reader["bias"] = per_channel(reader["bias"] + constant)
    else:
        graph.replace(reader, affine(reader, 1.0, constant, node.name))


def _map(node: Node, reader: Node) -> np.ndarray:
    """The shift as a map, as small as the result allows."""
    shape = node.shape
    if node["shift"].ndim == 1:
        if reader.op is DENSE:
            return node["shift"]
        if reader.op is CIRCULAR:
            shape = (1, 1)
        elif not _pads(reader):
            sizes = zip(reader["kernel"].shape[:2], reader["dilation"], strict=True)
            shape = tuple((size - 1) * dilation + 1 for size, dilation in sizes)
        shape = (*shape[:2], node.channels)
    return np.broadcast_to(node["shift"], shape)


def _past(graph: Graph, node: Node, reader: Node) -> None:
    scale, shift = node["scale"], node["shift"]
    reader.inputs = [node.inputs[0] if each is node else each for each in reader.inputs]
    if reader.op is AFFINE:
        reader["shift"] = per_channel(shift * reader["scale"] + reader["shift"])
        reader["scale"] = scale * reader["scale"]
        return
    if reader.op is SLICE:
        part = slice(reader["start"], reader["stop"])
        scale, shift = scale[part], shift[..., part]
    elif reader.op is PERMUTE:
        scale, shift = scale[reader["order"]], shift[..., reader["order"]]
    elif reader.op is MEAN and shift.ndim == 3:
        shift = shift.mean((0, 1))
    graph.replace(reader, affine(reader, scale, shift, node.name))


def scale_back_through_product(graph: Graph, node: Node, consumers) -> bool:
    """`(y * gate) * s`: s goes into the linear operation that computes y.

    Other readers of y, such as the pooling of channel attention, must be able to undo the scale.
    """
    if node.op is not AFFINE or np.any(node["shift"]) or np.any(node["scale"] == 0):
        return False
    product = node.inputs[0]
    if product.op is not MULTIPLY or not graph.only_reader(product, node, consumers):
        return False
    for y in product.inputs:
        if not y.op.linear or y in graph.outputs or product.inputs.count(y) > 1:
            continue
        others = [reader for reader in dict.fromkeys(consumers[y]) if reader is not product]
        undo = affine(y, 1 / node["scale"], 0.0, f"{node.name}_undo")
        if not all(_takes(undo, reader) for reader in others):
            continue
        scale_output(y, node["scale"])
        if others:
            graph.replace(y, undo, others)
        graph.replace(node, product)
        return True
    return False


def dense_as_convolution(graph: Graph, node: Node, consumers) -> bool:
    """A dense layer on pooled features becomes a 1x1 convolution, which always has a bias.

    A per-channel int8 FULLY_CONNECTED without a bias crashes TensorFlow Lite on ARMv7.
    """
    if node.op is not DENSE or node.inputs[0].op is not RESHAPE:
        return False
    flat, x = node.inputs[0], node.inputs[0].inputs[0]
    if x.shape != (1, 1, flat.channels) or len(flat.shape) != 1:
        return False
    attrs = {
        "kernel": node["kernel"][None, None],
        "bias": node["bias"],
        "strides": (1, 1),
        "padding": "valid",
        "dilation": (1, 1),
        "groups": 1,
    }
    conv = Node(CONV, [x], (1, 1, node.channels), node.name, attrs)
    graph.replace(node, Node(RESHAPE, [conv], node.shape, f"{node.name}_flat"))
    return True
