"""A Keras functional model as a `Graph` at a fixed input size."""

import logging
from collections.abc import Callable

import keras
import numpy as np
from keras import tree

from keras_parc.lite.graph import Graph, Node, affine

log = logging.getLogger(__name__)
IDENTITY = (
    "ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise Identity "
    "SpatialDropout2D StochasticDepth"
).split()


class Unknown(Exception):
    """An operation, or a setting of it, that the graph has no word for."""


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
    x = args[0] if args else None
    images = [each for each in tree.flatten((args, kwargs)) if isinstance(each, Node)]
    try:
        if kind in IDENTITY and isinstance(x, Node):
            return [x]
        reader = READERS.get(kind)
        if reader is None:
            raise Unknown("no rule")
        if getattr(op, "data_format", "channels_last") != "channels_last":
            raise Unknown("channels first")
        return tree.flatten(reader(op, *args))
    except Unknown as reason:
        if kind not in unknown and kind not in QUIET:
            log.warning("deploy leaves %s (%s) as it is: %s", op.name, kind, reason)
            unknown.add(kind)
        return _keep(op, args, kwargs, images)


# Operations without weights that plain conversion handles well.
QUIET = ("GetItem", "Reshape", "Flatten", "MaxPooling2D", "AveragePooling2D", "Concatenate")


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


def _array(weight) -> np.ndarray:
    return keras.ops.convert_to_numpy(weight).astype("float64")


def _bias(op, count) -> np.ndarray:
    return _array(op.bias) if getattr(op, "bias", None) is not None else np.zeros(count)


def activation(function: Callable | None, x: Node, name: str) -> Node:
    """A Keras activation function applied to a node; none for "linear"."""
    name_of = getattr(function, "__name__", str(function))
    if function is None or name_of == "linear":
        return x
    return Node("activation", [x], x.shape, name, {"function": function, "kind": name_of})


def _need(condition, reason):
    if not condition:
        raise Unknown(reason)


def _conv_shape(op, x: Node, filters: int) -> tuple[int, ...]:
    return (*op.compute_output_shape((None, *x.shape))[1:3], filters)


def _conv(op, x):
    _need(op.padding in ("same", "valid"), f"padding {op.padding!r}")
    attrs = {
        "kernel": _array(op.kernel),
        "bias": _bias(op, op.filters),
        "strides": op.strides,
        "padding": op.padding,
        "dilation": op.dilation_rate,
        "groups": op.groups,
    }
    y = Node("conv", [x], _conv_shape(op, x, op.filters), op.name, attrs)
    return activation(op.activation, y, f"{op.name}_activation")


def _depthwise(op, x):
    channels = x.channels * op.depth_multiplier
    attrs = {
        "kernel": _array(op.kernel),
        "bias": _bias(op, channels),
        "strides": op.strides,
        "padding": op.padding,
        "dilation": op.dilation_rate,
    }
    y = Node("depthwise", [x], _conv_shape(op, x, channels), op.name, attrs)
    return activation(op.activation, y, f"{op.name}_activation")


def _separable(op, x):
    middle = x.channels * op.depth_multiplier
    attrs = {
        "kernel": _array(op.depthwise_kernel),
        "bias": np.zeros(middle),
        "strides": op.strides,
        "padding": op.padding,
        "dilation": op.dilation_rate,
    }
    y = Node("depthwise", [x], _conv_shape(op, x, middle), f"{op.name}_depthwise", attrs)
    attrs = {
        "kernel": _array(op.pointwise_kernel),
        "bias": _bias(op, op.filters),
        "strides": (1, 1),
        "padding": "valid",
        "dilation": (1, 1),
        "groups": 1,
    }
    y = Node("conv", [y], (*y.shape[:2], op.filters), op.name, attrs)
    return activation(op.activation, y, f"{op.name}_activation")


def _dense(op, x):
    attrs = {"kernel": _array(op.kernel), "bias": _bias(op, op.units)}
    y = Node("dense", [x], (*x.shape[:-1], op.units), op.name, attrs)
    return activation(op.activation, y, f"{op.name}_activation")


def _batch_norm(op, x):
    axis = op.axis if isinstance(op.axis, int) else op.axis[0]
    _need(axis in (-1, len(x.shape)), "not over the last axis")
    scale = 1 / np.sqrt(_array(op.moving_variance) + op.epsilon)
    scale = scale * (_array(op.gamma) if op.scale else 1.0)
    shift = (_array(op.beta) if op.center else 0.0) - _array(op.moving_mean) * scale
    return affine(x, scale, shift, op.name)


def _layer_norm(op, x):
    axes = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
    _need(list(axes) in ([-1], [len(x.shape)]), "not over the last axis")
    _need(not getattr(op, "rms_scaling", False), "RMS scaling")
    y = Node("normalize", [x], x.shape, op.name, {"epsilon": op.epsilon})
    scale = _array(op.gamma) if op.scale else 1.0
    return affine(y, scale, _array(op.beta) if op.center else 0.0, f"{op.name}_affine")


def _rescaling(op, x):
    scale, offset = np.asarray(op.scale, "float64"), np.asarray(op.offset, "float64")
    _need(max(scale.ndim, offset.ndim) < 2, "not per channel")
    return affine(x, scale, offset, op.name)


def _instance(op, base, side) -> np.ndarray:
    """The stored kernel or embedding of a ParC layer at this side, as the layer resamples it."""
    from keras_parc.layers import align_corners_matrix

    base = _array(base)
    return base if len(base) == side else align_corners_matrix(len(base), side) @ base


def _position(op, x):
    axis = 0 if op.along == "height" else 1
    base = np.expand_dims(_instance(op, op.base_position, x.shape[axis]), 1 - axis)
    return affine(x, 1.0, np.broadcast_to(base, x.shape), op.name)


def _parc(op, x):
    axis = 0 if op.along == "height" else 1
    if op.position_embedding:
        base = np.expand_dims(_instance(op, op.base_position, x.shape[axis]), 1 - axis)
        x = affine(x, 1.0, np.broadcast_to(base, x.shape), f"{op.name}_position")
    kernels = {"height": None, "width": None}
    kernels[op.along] = _instance(op, op.base_kernel, x.shape[axis])
    bias = _bias(op, x.channels) if op.use_bias else np.zeros(x.channels)
    return Node("circular", [x], x.shape, op.name, {**kernels, "bias": bias})


def _elementwise(op, *inputs):
    inputs = inputs[0] if len(inputs) == 1 else inputs
    _need(all(isinstance(each, Node) for each in inputs), "a constant operand")
    rank = max(len(each.shape) for each in inputs)
    _need(all(len(each.shape) == rank for each in inputs), "operands of different rank")
    kind = {"Add": "add", "Multiply": "multiply"}[type(op).__name__]
    shape = np.broadcast_shapes(*(each.shape for each in inputs))
    plain = kind == "multiply" or all(each.shape == shape for each in inputs)
    _need(plain and all(each.channels == shape[-1] for each in inputs), "it broadcasts")
    result = inputs[0]
    for each in inputs[1:]:
        result = Node(kind, [result, each], shape, op.name)
    return result


def _concat(op, inputs):
    rank = len(inputs[0].shape)
    _need(op.axis in (-1, rank), "not over the last axis")
    shape = (*inputs[0].shape[:-1], sum(each.channels for each in inputs))
    return Node("concat", list(inputs), shape, op.name)


def _split(op, x):
    _need(op.axis in (-1, len(x.shape)), "not over the last axis")
    if isinstance(op.indices_or_sections, int):
        step = x.channels // op.indices_or_sections
        ends = list(range(step, x.channels + 1, step))
    else:
        ends = [*op.indices_or_sections, x.channels]
    starts = [0, *ends[:-1]]
    return [
        Node("slice", [x], (*x.shape[:-1], b - a), op.name, {"start": a, "stop": b})
        for a, b in zip(starts, ends, strict=True)
    ]


def _flip(op, x):
    axes = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
    _need(list(axes) in ([-1], [len(x.shape)]), "not over the last axis")
    return Node("permute", [x], x.shape, op.name, {"order": np.arange(x.channels)[::-1]})


def _pad(op, x):
    (top, bottom), (left, right) = op.padding
    shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.channels)
    return Node("pad", [x], shape, op.name, {"amount": op.padding})


def _mean(op, x):
    y = Node("mean", [x], (1, 1, x.channels), op.name)
    return y if op.keepdims else Node("reshape", [y], (x.channels,), f"{op.name}_flat")


def _relu(op, x):
    _need(not op.negative_slope and not op.threshold, "leaky or shifted")
    _need(op.max_value in (None, 6, 6.0), f"maximum {op.max_value}")
    function = keras.activations.relu if op.max_value is None else keras.activations.relu6
    return activation(function, x, op.name)


READERS = {
    "Activation": lambda op, x: activation(op.activation, x, op.name),
    "Add": _elementwise,
    "BatchNormalization": _batch_norm,
    "Concatenate": _concat,
    "Conv2D": _conv,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Flip": _flip,
    "GlobalAveragePooling2D": _mean,
    "LayerNormalization": _layer_norm,
    "Multiply": _elementwise,
    "ParCH": _parc,
    "ParCV": _parc,
    "PositionEmbedding": _position,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "SeparableConv2D": _separable,
    "Softmax": lambda op, x: activation(keras.activations.softmax, x, op.name),
    "Split": _split,
    "ZeroPadding2D": _pad,
}
