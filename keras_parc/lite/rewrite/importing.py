"""From a Keras model to a `Graph` at fixed input shapes."""

import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.kept import float32_for
from keras_parc.lite.rewrite.operations import INPUT, ITEM, KEEP
from keras_parc.lite.rewrite.readers.common import Unknown, require
from keras_parc.lite.rewrite.readers.table import IDENTITY, QUIET, READERS
from keras_parc.lite.rewrite.signature import ModelInput, ModelInputs
from keras_parc.models.inputs import crop_of, known_scale
from keras_parc.support import compat


def import_model(
    model: keras.Model,
    inputs: ModelInputs,
    keep: Callable[[Any], bool] = lambda operation: False,
) -> Graph:
    """Read a model.

    Args:
        model: A built model. Of one that is not functional, its call is one operation.
        inputs: What it takes, see `keras_parc.lite.rewrite.signature.model_inputs`.
        keep: Of an operation of the model, whether it is left as it is; so may be the model itself.

    Returns:
        A graph with copies of the weights that its rules may change.

    Example:
        >>> from keras_parc.lite.rewrite.signature import model_inputs
        >>> image = keras.Input((8, 8, 3))
        >>> model = keras.Model(image, keras.layers.Conv2D(4, 1, activation="relu")(image))
        >>> [node.op for node in import_model(model, model_inputs(model)).nodes()]
        [input, conv, activation]
    """
    nodes, unknown = [_input(each) for each in inputs.entries], {}
    if inputs.image:
        nodes[0]["scale"], nodes[0]["crop"] = known_scale(model), crop_of(model)
    whole = compat.functional(model)
    if compat.has_graph(whole) and not keep(model):
        outputs, made = _walk(whole, nodes, keep, unknown), whole.output
    else:
        args = (tree.pack_sequence_as(inputs.structure, nodes),)
        outputs, made = _keep(model, args, {}, nodes), _result(model, args, {})
    return Graph(nodes, outputs, made, model.name, inputs.structure, unknown)


def _input(each: ModelInput) -> Node:
    node = Node(INPUT, [], each.shape, each.name, {"scale": None, "crop": None})
    node["dtype"] = each.dtype
    return node


def _walk(model, inputs: list[Node], keep: Callable, unknown: dict[str, str]) -> list[Node]:
    values = {id(tensor): node for tensor, node in zip(model.inputs, inputs, strict=True)}
    for call in compat.calls(model):
        if call.is_input or any(id(x) not in values for x in call.arguments.keras_tensors):
            continue
        args, kwargs = call.arguments.fill_in(values)
        masked = any(compat.has_mask(x) for x in call.arguments.keras_tensors)
        results = _import(call.operation, args, kwargs, masked, keep, unknown)
        for tensor, node in zip(call.outputs, results, strict=True):
            values[id(tensor)] = node
    return [values[id(tensor)] for tensor in model.outputs]


def _import(op, args, kwargs, masked: bool, keep, unknown: dict[str, str]) -> list[Node]:
    kind = type(op)
    if isinstance(op, keras.layers.Layer):  # the model's own argument goes before that of a call
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
    images = [each for each in tree.flatten((args, kwargs)) if isinstance(each, Node)]
    if keep(op):
        return _keep(op, args, kwargs, images)
    try:
        require(not masked, "of masked tensors")
        special = {name: value for name, value in kwargs.items() if not _is_default(value)}
        nested = compat.functional(op)
        if not special and compat.has_graph(nested) and _fit(nested, args):
            return _walk(nested, tree.flatten(args), keep, unknown)
        require("call" not in vars(op), "it has a call of its own")
        if kind in IDENTITY and len(args) == 1 and not special:
            return list(args)
        require(kind in READERS, "no rule")
        require(getattr(op, "data_format", "channels_last") == "channels_last", "channels first")
        require(getattr(op, "quantization_mode", None) is None, "quantized")
        require(all(each.shape for each in images), "of single numbers")
        reals = all(_dtype(each) == "float32" for each in images)
        require(reals, "of other than real numbers")
        return tree.flatten(_call(READERS[kind], op, args, special))
    except Unknown as reason:
        if kind not in QUIET:
            unknown.setdefault(kind.__name__, str(reason))
        return _keep(op, args, kwargs, images)


def _is_default(value) -> bool:
    return value is None or value is False


def _call(reader: Callable, op, args, kwargs: dict[str, Any]):
    """Call a reader, whose arguments are those that it knows of an operation."""
    try:
        inspect.signature(reader).bind(op, *args, **kwargs)
    except TypeError:
        more = f" {', '.join(kwargs)}" if kwargs else f"{len(args)} arguments"
        raise Unknown(f"called with{more}") from None
    return reader(op, *args, **kwargs)


def _dtype(node: Node) -> str:
    return node.attrs.get("dtype", "float32")


def _fit(model: keras.Model, args) -> bool:
    """Whether a model gets its inputs as it has them: it would convert others."""
    if len(args) != 1:
        return False
    try:
        tree.assert_same_structure(tree.lists_to_tuples(args[0]), tree.lists_to_tuples(model.input))
    except ValueError:
        return False
    nodes = tree.flatten(args[0])
    return all(
        isinstance(node, Node)
        and len(node.shape) + 1 == len(own.shape)
        and _dtype(node) == float32_for(own.dtype)
        for node, own in zip(nodes, model.inputs, strict=True)
    )


def _symbols(arguments):
    """The arguments of a call with symbolic tensors in place of nodes."""

    def symbol(each):
        if not isinstance(each, Node):
            return each
        return keras.KerasTensor((None, *each.shape), _dtype(each))

    return tree.map_structure(symbol, arguments)


def _result(op, args, kwargs):
    """What a call returns, as symbolic tensors."""
    args, kwargs = _symbols((args, kwargs))
    return op.compute_output_spec(*args, **kwargs)


def _in_float32(each):
    """A constant in float32, if it is one of real numbers."""
    if isinstance(each, (np.ndarray, np.generic)) and each.dtype.kind == "f":
        return np.asarray(each, "float32")
    return each


def _keep(op, args, kwargs, images: Collection[Node]) -> list[Node]:
    images = list(dict.fromkeys(images))
    args, kwargs = tree.map_structure(_in_float32, (args, kwargs))
    is_layer = isinstance(op, keras.layers.Layer)
    if is_layer and "training" in inspect.signature(op.call).parameters:
        kwargs = kwargs | {"training": False}
    call = Node(KEEP, images, (), op.name, {"operation": op})
    call["arguments"] = functools.partial(_filled, (args, kwargs), images)
    nodes = []
    for index, spec in enumerate(tree.flatten(_result(op, args, kwargs))):
        if not isinstance(spec, keras.KerasTensor):
            raise TypeError(f"{op.name!r} returns {type(spec).__name__}, expected tensors alone.")
        shape = tuple(spec.shape[1:])
        dtype = float32_for(keras.backend.standardize_dtype(spec.dtype))
        nodes.append(Node(ITEM, [call], shape, op.name, {"index": index, "dtype": dtype}))
    call["shapes"] = [(None, *node.shape) for node in nodes]
    call["dtypes"] = [node["dtype"] for node in nodes]
    return nodes


def _filled(arguments, images: list[Node], tensors: Sequence[Any]):
    """The arguments of a call with tensors in place of nodes."""
    given = dict(zip(images, tensors, strict=True))
    return tree.map_structure(
        lambda each: given[each] if isinstance(each, Node) else each, arguments
    )
