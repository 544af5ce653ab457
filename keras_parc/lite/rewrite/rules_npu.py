"""Rules for an NPU alone, which has int8 convolutions, products and tables, and little else."""

import math

import numpy as np

from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.operations import (
    DENSE,
    MULTIPLY,
    NORMALIZE,
    RESHAPE,
    RSQRT,
    SUBTRACT,
    TRANSPOSE,
)

MAX_SIDES = 5  # of what TFLite Micro transposes, with the batch


def normalize_by_convolutions(graph: Graph, node: Node, consumers) -> bool:
    """The two means of a layer normalization become 1x1 convolutions to one channel.

    An Ethos-U has no MEAN over the channels of a map. All weights are equal: int8 has them exactly.
    """
    if node.op is not NORMALIZE:
        return False
    x, pixel = node.inputs[0], (*node.shape[:-1], 1)
    equal = {"kernel": np.full((node.channels, 1), 1 / node.channels), "bias": np.zeros(1)}
    mean = Node(DENSE, [x], pixel, f"{node.name}_mean", dict(equal))
    centred = Node(SUBTRACT, [x, mean], node.shape, f"{node.name}_centred")
    squares = Node(MULTIPLY, [centred, centred], node.shape, f"{node.name}_squares")
    equal["bias"] = np.full(1, node["epsilon"])
    variance = Node(DENSE, [squares], pixel, f"{node.name}_variance", equal)
    factor = Node(RSQRT, [variance], pixel, f"{node.name}_factor")
    graph.replace(node, Node(MULTIPLY, [centred, factor], node.shape, node.name))
    return True


def part_transpose(graph: Graph, node: Node, consumers) -> bool:
    """A transpose of many axes, such as MobileViT's unfolding, moves one axis at a time.

    What is in its place already goes into the batch; what it moves past is one axis, the rest too.
    An Ethos-U55 leaves large transposes of many axes to the CPU, and TFLite Micro refuses all.
    """
    if node.op is not TRANSPOSE or len(node.shape) < MAX_SIDES:
        return False
    x, order = node.inputs[0], list(range(1, len(node.shape) + 1))
    sides = dict(zip(order, x.shape, strict=True))
    moves = []
    for place, axis in enumerate(node["axes"]):
        before = order.index(axis)
        if before != place:
            groups = (order[place:before], [axis], order[before + 1 :])
            moves.append([math.prod(sides[each] for each in group) for group in groups])
            order.insert(place, order.pop(before))
    for number, (skipped, side, rest) in enumerate(moves):
        name = f"{node.name}_{number}"
        x = Node(RESHAPE, [x], (skipped, side, rest), f"{name}_cut")
        x = Node(TRANSPOSE, [x], (side, skipped, rest), name, {"axes": (2, 1, 3)})
    graph.replace(node, Node(RESHAPE, [x], node.shape, node.name))
    return True
