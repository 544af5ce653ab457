"""Hard activations as what XNNPACK runs in int8 too.

TensorFlow Lite has HARD_SWISH, but XNNPACK takes it in float32 only: each one splits an int8 graph.
"""

import numpy as np
from keras import activations

from keras_parc.lite.rewrite.graph import Graph, Node, affine


def expand_hard(graph: Graph, node: Node, consumers) -> bool:
    """hard-sigmoid as relu6(x + 3) * 1/6, hard-swish as that times x.

    The rules of `rules_linear` carry 1/6 into the next convolution and, where x is read once, 3
    into the bias before.
    """
    if node.op != "activation" or node["kind"] not in ("hard_sigmoid", "hard_silu"):
        return False
    x = node.inputs[0]
    shifted = affine(x, 1.0, 3.0, f"{node.name}_plus_3")
    attrs = {"function": activations.relu6, "kind": "relu6"}
    gate = Node("activation", [shifted], x.shape, f"{node.name}_relu6", attrs)
    if node["kind"] == "hard_silu":
        gate = Node("multiply", [x, gate], x.shape, node.name)
    graph.replace(node, affine(gate, np.full(x.channels, 1 / 6), 0.0, f"{node.name}_sixth"))
    return True
