"""The records of the rewrite's operations: their traits are true, and all can be emitted."""

import keras
import numpy as np
import pytest
from rewritten import conv, read

import keras_parc
from keras_parc.lite.rewrite import operations
from keras_parc.lite.rewrite.deploy import rewrite
from keras_parc.lite.rewrite.emission import EMITTERS, emit
from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.operations import (
    ACTIVATION,
    ADD,
    AFFINE,
    CIRCULAR,
    CONV,
    DENSE,
    DEPTHWISE,
    HARD_SILU,
    INPUT,
    MEAN,
    MULTIPLY,
    PAD,
    PERMUTE,
    REPEAT,
    RESHAPE,
    RESIZE,
    SLICE,
    SOFTMAX,
    TRANSPOSE,
    Operation,
    Shift,
)

SHAPE = (5, 6, 4)
RECORDS = [each for each in vars(operations).values() if isinstance(each, Operation)]
draw = np.random.default_rng(0).normal
SLIDING = {"strides": (1, 1), "padding": "same", "dilation": (1, 1)}

# An example of each operation with a trait that concerns what comes before it, and its shape.
EXAMPLES = {
    ACTIVATION: ({"function": HARD_SILU}, SHAPE),
    ADD: ({}, SHAPE),
    AFFINE: ({"scale": draw(size=4), "shift": draw(size=SHAPE)}, SHAPE),
    CONV: (
        {"kernel": draw(size=(3, 3, 4, 4)), "bias": draw(size=4), "groups": 1, **SLIDING},
        SHAPE,
    ),
    DENSE: ({"kernel": draw(size=(4, 4)), "bias": draw(size=4)}, SHAPE),
    DEPTHWISE: ({"kernel": draw(size=(3, 3, 4, 1)), "bias": draw(size=4), **SLIDING}, SHAPE),
    MEAN: ({}, (1, 1, 4)),
    MULTIPLY: ({}, SHAPE),
    PAD: ({"amount": ((1, 0), (2, 1))}, (6, 9, 4)),
    PERMUTE: ({"order": np.array([2, 0, 3, 1])}, SHAPE),
    REPEAT: ({"times": (2, 3)}, (10, 18, 4)),
    RESHAPE: ({}, (6, 5, 4)),
    RESIZE: ({"size": (7, 9)}, (7, 9, 4)),
    SLICE: ({"start": 1, "stop": 3}, (5, 6, 2)),
    TRANSPOSE: ({"axes": (2, 1, 3)}, (6, 5, 4)),
}


def example(op: Operation) -> Node:
    attrs, shape = EXAMPLES[op]
    sources = [Node(INPUT, [], SHAPE, "image", {"dtype": "float32"})]
    if op in (ADD, MULTIPLY):
        sources.append(Node(INPUT, [], SHAPE, "other", {"dtype": "float32"}))
    return Node(op, sources, shape, "example", dict(attrs))


def run(node: Node, *inputs) -> np.ndarray:
    model = emit(Graph(node.inputs, [node]))
    inputs = [np.asarray(x, "float32")[None] for x in inputs]
    return np.asarray(model(inputs[0] if len(inputs) == 1 else inputs))[0]


def arguments(node: Node) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [generator.normal(0, 4, source.shape) for source in node.inputs]


def after(node: Node, values: np.ndarray) -> np.ndarray:
    """One value for each channel of the input as one for each channel of the result."""
    if node.op is SLICE:
        return values[node["start"] : node["stop"]]
    return values[node["order"]] if node.op is PERMUTE else values


@pytest.mark.parametrize("op", RECORDS, ids=str)
def test_there_is_an_emitter_and_an_example(op):
    assert (op in EMITTERS) != (op is CIRCULAR)  # `forms` replaces that one
    node = example(op) if op in EXAMPLES else None
    wanted = op.passes_scale or op.passes_shift is not Shift.NONE
    assert node is not None or not wanted


@pytest.mark.parametrize("op", EXAMPLES, ids=str)
def test_what_passes(op):
    node, scale, shift = (
        example(op),
        np.array([2.0, -1.0, 0.5, 3.0]),
        np.array([1.0, 0.0, -2.0, 4.0]),
    )
    x, *others = arguments(node)
    plain = run(node, x, *others)
    own, factor = (node["shift"], node["scale"]) if op is AFFINE else (0.0, 1.0)
    scaled, shifted = run(node, x * scale, *others), run(node, x + shift, *others)
    if op.passes_scale:
        assert np.allclose(scaled - own, (plain - own) * after(node, scale), atol=1e-4)
    elif not op.linear:
        assert not np.allclose(scaled, plain * scale, atol=0.1)
    if op.passes_shift is not Shift.NONE:
        assert np.allclose(shifted, plain + factor * after(node, shift), atol=1e-4)
    elif not op.linear:
        assert not np.allclose(shifted, plain + shift, atol=0.1)


@pytest.mark.parametrize("op", EXAMPLES, ids=str)
def test_orders_of_channels(op):
    node, order = example(op), np.array([3, 1, 0, 2])
    inputs = arguments(node)
    plain, mixed = run(node, *inputs), example(op)
    if op.channelwise(node):
        for name, axis in op.channel_axes.items():
            mixed[name] = np.take(mixed[name], order, axis)
        assert np.allclose(
            run(mixed, *(x[..., order] for x in inputs)), plain[..., order], atol=1e-4
        )
    if op.mixes(node):
        mixed["kernel"] = np.take(mixed["kernel"], order, -2)
        assert np.allclose(run(mixed, *(x[..., order] for x in inputs)), plain, atol=1e-4)
        for name, axis in op.channel_axes.items():
            mixed[name] = np.take(mixed[name], order, axis)
        assert np.allclose(
            run(mixed, *(x[..., order] for x in inputs)), plain[..., order], atol=1e-4
        )


def test_traits_that_depend_on_the_node():
    grouped = Node(CONV, [], SHAPE, "grouped", {"groups": 2})
    assert not grouped.op.mixes(grouped)
    expanding = Node(DEPTHWISE, [], SHAPE, "expanding", {"kernel": np.zeros((3, 3, 4, 2))})
    assert not expanding.op.channelwise(expanding)
    softmax = Node(ACTIVATION, [], SHAPE, "softmax", {"function": SOFTMAX})
    assert not softmax.op.channelwise(softmax)
    turned = Node(TRANSPOSE, [], (4, 5, 6), "turned", {"axes": (3, 1, 2)})
    assert not turned.op.channelwise(turned)
    flat = Node(RESHAPE, [example(ADD)], (120,), "flat")
    assert not flat.op.channelwise(flat)


def test_attributes_are_those_listed():
    def function(x):
        x = keras_parc.ParCV(6)(keras_parc.ParCH(6)(conv(4)(x)))
        return keras.layers.MaxPooling2D()(keras.layers.Activation("hard_silu")(x))

    image = keras.Input((12, 12, 4))
    for target in ("litert", "portable"):
        graph = read(keras.Model(image, function(image)))
        for _ in ("read", "rewritten"):
            for node in graph.nodes():
                assert all(name in node.op.attributes for name in node.attrs), node
            rewrite(graph, target)
