"""Rules for an NPU alone, which has int8 convolutions, products and tables, and little else."""

import numpy as np

from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.operations import DENSE, MULTIPLY, NORMALIZE, RSQRT, SUBTRACT


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
