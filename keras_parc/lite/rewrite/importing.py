"""A Keras functional model as a `Graph` at a fixed input size."""

import logging

import keras
from keras import tree

from keras_parc.lite.rewrite import readers, rules_convnets, rules_segmentation
from keras_parc.lite.rewrite import rules_attention as attention
from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.readers import Unknown, need

log = logging.getLogger(__name__)
READERS = readers.READERS | attention.READERS | rules_convnets.READERS
READERS |= rules_segmentation.READERS
IDENTITY = (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "SpatialDropout2D",
    "StochasticDepth",
)


def import_model(model: keras.Model, shape: tuple[int, int, int]) -> Graph:
    """Read a functional model over one image.

    Args:
        model: A built functional (or Sequential) model.
        shape: `(height, width, channels)` of the input, all known.

    Returns:
        A graph whose weights are copies.

    Raises:
        ValueError: The model is subclassed, so that there is no graph to read.
    """
    model = getattr(model, "_functional", None) or model
    if not hasattr(model, "_nodes_by_depth"):
        raise ValueError(f"`deploy` reads functional models; {model.name!r} is subclassed.")
    image = Node("input", [], tuple(shape), model.inputs[0].name)
    image["dtype"] = model.inputs[0].dtype
    flat = _walk(model, [image], set())
    return Graph([image], flat, model._outputs_struct, model.name)


def _walk(model, inputs: list[Node], unknown: set) -> list[Node]:
    values = {id(tensor): node for tensor, node in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for step in model._nodes_by_depth[depth]:
            if step.is_input or any(id(x) not in values for x in step.arguments.keras_tensors):
                continue
            args, kwargs = step.arguments.fill_in(values)
            results = _import(step.operation, args, kwargs, unknown)
            for tensor, node in zip(step.outputs, results, strict=True):
                values[id(tensor)] = node
    return [values[id(tensor)] for tensor in model.outputs]


def _import(op, args, kwargs, unknown) -> list[Node]:
    nested = getattr(op, "_functional", None) or op
    if hasattr(nested, "_nodes_by_depth"):
        return _walk(nested, tree.flatten(args), unknown)
    kind = type(op).__name__
    images = [each for each in tree.flatten((args, kwargs)) if isinstance(each, Node)]
    try:
        special = [name for name, value in kwargs.items() if value not in (None, False)]
        need(not special, f"called with {', '.join(special)}")
        if kind in IDENTITY and len(args) == 1:
            return list(args)
        need(kind in READERS, "no rule")
        reader = READERS[kind]
        need(getattr(op, "data_format", "channels_last") == "channels_last", "channels first")
        return tree.flatten(reader(op, *args))
    except Unknown as reason:
        if kind not in unknown and kind not in QUIET:
            log.warning("deploy leaves %s (%s) as it is: %s", op.name, kind, reason)
            unknown.add(kind)
        return _keep(op, args, kwargs, images)


# Operations without weights that plain conversion handles well.
QUIET = ("AveragePooling2D", "Concatenate", "Flatten", "GetItem", "MaxPooling2D", "PerAnchor")


def _symbol(node: Node):
    return keras.KerasTensor((None, *node.shape), node.attrs.get("dtype", "float32"))


def _keep(op, args, kwargs, images) -> list[Node]:
    symbolic = tree.map_structure(
        lambda each: _symbol(each) if isinstance(each, Node) else each, (args, kwargs)
    )
    specs = tree.flatten(op.compute_output_spec(*symbolic[0], **symbolic[1]))
    call = Node("keep", images, (), op.name, {"operation": op, "arguments": (args, kwargs)})
    call["images"] = list(images)
    nodes = []
    for index, spec in enumerate(specs):
        shape = tuple(spec.shape[1:])
        dtype = keras.backend.standardize_dtype(spec.dtype)
        nodes.append(Node("item", [call], shape, op.name, {"index": index, "dtype": dtype}))
    return nodes
