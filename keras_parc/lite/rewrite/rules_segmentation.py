"""Rules for DeepLabV3's head."""

import numpy as np

from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.operations import ADD, CONCAT, CONV, RESIZE


def crop_unseen_taps(graph: Graph, node: Node, consumers) -> bool:
    """A dilated convolution loses the taps that lie outside the map for every position.

    On a map of 16x16 all taps but the middle one of a 3x3 kernel of rate 18 see padding only: it
    is a 1x1 convolution.
    """
    if not node.op.convolution or node["padding"] != "same":
        return False
    if max(node["strides"]) > 1 or not any(size % 2 for size in node["kernel"].shape[:2]):
        return False
    kernel, dilation = node["kernel"], list(node["dilation"])
    for axis in (0, 1):
        size, side = kernel.shape[axis], node.inputs[0].shape[axis]
        reach = min(size // 2, (side - 1) // dilation[axis])
        if size % 2 and reach < size // 2:
            kernel = np.take(kernel, range(size // 2 - reach, size // 2 + reach + 1), axis)
        if kernel.shape[axis] == 1:
            dilation[axis] = 1
    if kernel.shape == node["kernel"].shape:
        return False
    node["kernel"], node["dilation"] = kernel, tuple(dilation)
    return True


def part_spread(graph: Graph, node: Node, consumers) -> bool:
    """A 1x1 convolution of maps and of a pixel resized to a map, concatenated, becomes a sum.

    The pixel (the pooled branch of atrous spatial pyramid pooling) goes through its part of the
    convolution as a pixel; an addition that broadcasts spreads it over the map.
    """
    if node.op is not CONV or node["kernel"].shape[:2] != (1, 1) or node["groups"] > 1:
        return False
    joint = node.inputs[0]
    if joint.op is not CONCAT or max(node["strides"]) > 1:
        return False
    ends = np.cumsum([part.channels for part in joint.inputs])
    rows = [
        np.arange(end - part.channels, end) for part, end in zip(joint.inputs, ends, strict=True)
    ]
    parts = list(zip(joint.inputs, rows, strict=True))
    spread = [(part, own) for part, own in parts if _is_spread(part)]
    kept = [(part, own) for part, own in parts if not _is_spread(part)]
    if not spread or not kept:
        return False
    maps, rows = zip(*kept, strict=True)
    x = maps[0]
    if len(maps) > 1:
        shape = (*joint.shape[:2], sum(part.channels for part in maps))
        x = Node(CONCAT, list(maps), shape, joint.name)
    attrs = {**node.attrs, "kernel": node["kernel"][:, :, np.concatenate(rows)]}
    total = Node(CONV, [x], node.shape, node.name, attrs)
    for part, own in spread:
        attrs = {**node.attrs, "kernel": node["kernel"][:, :, own]}
        attrs["bias"] = np.zeros_like(node["bias"])
        name = f"{node.name}_{part.name}"
        pixel = Node(CONV, part.inputs, (1, 1, node.channels), name, attrs)
        total = Node(ADD, [total, pixel], node.shape, f"{name}_add")
    graph.replace(node, total)
    return True


def _is_spread(node: Node) -> bool:
    return node.op is RESIZE and node.inputs[0].shape[:2] == (1, 1)
