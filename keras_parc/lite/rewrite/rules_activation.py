"""Hard activations as operations that XNNPACK runs in int8 too.

TensorFlow Lite has HARD_SWISH, but XNNPACK runs it in float32 only: each one cuts an int8 graph. In
float32 it is one pass over the map instead of three: MobileNetV3-Large takes 0.92 of the time.
"""

import numpy as np

from keras_parc.lite.rewrite.graph import Graph, Node, affine
from keras_parc.lite.rewrite.operations import (
    ACTIVATION,
    HARD_SIGMOID,
    HARD_SILU,
    MULTIPLY,
    RELU6,
)


def expand_hard_sigmoid(graph: Graph, node: Node, consumers) -> bool:
    """hard-sigmoid becomes relu6(x + 3) * 1/6.

    The rules of `rules_linear` carry 1/6 into the next convolution and, where x is read once, 3
    into the bias before.
    """
    if node.op is not ACTIVATION or node["function"] is not HARD_SIGMOID:
        return False
    graph.replace(node, _sixth(_gate(node), node))
    return True


def expand_hard_silu(graph: Graph, node: Node, consumers) -> bool:
    """hard-swish becomes x * relu6(x + 3) * 1/6, in int8. An NPU has it as a table."""
    if node.op is not ACTIVATION or node["function"] is not HARD_SILU:
        return False
    product = Node(MULTIPLY, [node.inputs[0], _gate(node)], node.shape, node.name)
    graph.replace(node, _sixth(product, node))
    return True


def _gate(node: Node) -> Node:
    x = node.inputs[0]
    shifted = affine(x, 1.0, 3.0, f"{node.name}_plus_3")
    return Node(ACTIVATION, [shifted], x.shape, f"{node.name}_relu6", {"function": RELU6})


def _sixth(x: Node, node: Node) -> Node:
    return affine(x, np.full(x.channels, 1 / 6), 0.0, f"{node.name}_sixth")
