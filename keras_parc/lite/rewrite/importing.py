"""From a Keras functional model to a `Graph` at a fixed input size."""

import logging

import keras
from keras import tree

from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.operations import INPUT, ITEM, KEEP
from keras_parc.lite.rewrite.readers.common import Unknown, require
from keras_parc.lite.rewrite.readers.table import IDENTITY, QUIET, READERS
from keras_parc.models.inputs import crop_of, known_scale
from keras_parc.support import compat

log = logging.getLogger(__name__)


def import_model(model: keras.Model, shape: tuple[int, int, int]) -> Graph:
    """Read a functional model over one image.

    Args:
        model: A built functional (or Sequential) model.
        shape: `(height, width, channels)` of the input, all known.

    Returns:
        A graph with copies of the weights.

    Raises:
        ValueError: The model is subclassed, so that it has no graph.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> model = keras.Model(image, keras.layers.Conv2D(4, 1, activation="relu")(image))
        >>> [node.op for node in import_model(model, (8, 8, 3)).nodes()]
        [input, conv, activation]
    """
    model = compat.functional(model)
    if not compat.has_graph(model):
        raise ValueError(f"`deploy` reads functional models; {model.name!r} is subclassed.")
    image = Node(INPUT, [], tuple(shape), model.inputs[0].name)
    dtype = model.inputs[0].dtype
    # Pixels of uint8 would go into a convolution once the preprocessing is folded into it.
    image["dtype"] = dtype if "float" in dtype else "float32"
    image["scale"], image["crop"] = known_scale(model), crop_of(model)
    outputs = _walk(model, [image], set())
    return Graph([image], outputs, model.output, model.name)


def _walk(model, inputs: list[Node], unknown: set) -> list[Node]:
    values = {id(tensor): node for tensor, node in zip(model.inputs, inputs, strict=True)}
    for call in compat.calls(model):
        if call.is_input or any(id(x) not in values for x in call.arguments.keras_tensors):
            continue
        args, kwargs = call.arguments.fill_in(values)
        results = _import(call.operation, args, kwargs, unknown)
        for tensor, node in zip(call.outputs, results, strict=True):
            values[id(tensor)] = node
    return [values[id(tensor)] for tensor in model.outputs]


def _import(op, args, kwargs, unknown) -> list[Node]:
    nested = compat.functional(op)
    if compat.has_graph(nested):
        return _walk(nested, tree.flatten(args), unknown)
    kind = type(op)
    images = [each for each in tree.flatten((args, kwargs)) if isinstance(each, Node)]
    try:
        special = [name for name, value in kwargs.items() if value not in (None, False)]
        require(not special, f"called with {', '.join(special)}")
        if kind in IDENTITY and len(args) == 1:
            return list(args)
        require(kind in READERS, "no rule")
        reader = READERS[kind]
        require(getattr(op, "data_format", "channels_last") == "channels_last", "channels first")
        return tree.flatten(reader(op, *args))
    except Unknown as reason:
        if kind not in unknown and kind not in QUIET:
            log.warning("deploy leaves %s (%s) as it is: %s", op.name, kind.__name__, reason)
            unknown.add(kind)
        return _keep(op, args, kwargs, images)


def _symbol(node: Node):
    return keras.KerasTensor((None, *node.shape), node.attrs.get("dtype", "float32"))


def _keep(op, args, kwargs, images) -> list[Node]:
    symbolic = tree.map_structure(
        lambda each: _symbol(each) if isinstance(each, Node) else each, (args, kwargs)
    )
    specs = tree.flatten(op.compute_output_spec(*symbolic[0], **symbolic[1]))
    call = Node(KEEP, images, (), op.name, {"operation": op, "arguments": (args, kwargs)})
    call["images"] = list(images)
    nodes = []
    for index, spec in enumerate(specs):
        shape = tuple(spec.shape[1:])
        dtype = keras.backend.standardize_dtype(spec.dtype)
        nodes.append(Node(ITEM, [call], shape, op.name, {"index": index, "dtype": dtype}))
    return nodes
