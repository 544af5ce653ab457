"""The vocabulary of a `Graph`: one record for each operation, and for each activation function.

A rule asks a record for what it needs to know (`node.op.linear`), or whether it is a certain one
(`node.op is CONV`). So a new operation is one record here and one emitter in `emission`, and every
rule that asks for traits works with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from keras import activations, ops

if TYPE_CHECKING:
    from keras_parc.lite.rewrite.graph import Node

Predicate = Callable[["Node"], bool]


class Shift(Enum):
    """Which shifts, added before an operation, can be added after it instead."""

    NONE = "none but zero"
    UNIFORM = "one value a channel"
    ANY = "one value a channel, or one a channel and position"


def always(node: "Node") -> bool:
    """The trait holds for every node of this operation."""
    return True


def never(node: "Node") -> bool:
    """The trait holds for no node of this operation."""
    return False


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation and its traits.

    Args:
        name: For people and logs.
        attributes: The attributes of its nodes, and what they are.
        linear: It has weights and a bias that can absorb a scale before or after it and a shift
            after it.
        convolution: It slides a kernel over a map, with strides, padding and dilation.
        channelwise: Whether channel i of the result depends on channel i of the inputs only, so
            that another order of the channels passes through it.
        mixes: Whether every channel of the result depends on all channels of the input, so that
            its weights can absorb another order of them.
        channel_axes: The attributes that have a value for each channel of the result, and the axis
            on which they have it. An attribute may be None.
        passes_scale: A factor for each channel of an input can be applied to the result instead.
        passes_shift: Which shifts of an input can be applied to the result instead.
    """

    name: str
    attributes: str = ""
    linear: bool = False
    convolution: bool = False
    channelwise: Predicate = never
    mixes: Predicate = never
    channel_axes: Mapping[str, int] = field(default_factory=dict)
    passes_scale: bool = False
    passes_shift: Shift = Shift.NONE

    def __repr__(self):
        return self.name


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation function.

    Args:
        name: For people.
        function: Of a tensor.
        elementwise: Whether every value of the result depends on that one value of the input.
        emitted: What is converted in its place, where TensorFlow Lite has no operation for it.
    """

    name: str
    function: Callable
    elementwise: bool = True
    emitted: Callable | None = None

    def __repr__(self):
        return self.name


INPUT = Operation(
    "input",
    "dtype; scale: what the model takes, if it is known, and crop: as `ImageInput` has them",
)
CONV = Operation(
    "conv",
    "kernel (rows, columns, in / groups, out), bias, strides, padding, dilation, groups",
    linear=True,
    convolution=True,
    mixes=lambda node: node["groups"] == 1,
    channel_axes={"kernel": -1, "bias": -1},
)
DEPTHWISE = Operation(
    "depthwise",
    "kernel (rows, columns, channels, multiplier), bias, strides, padding, dilation",
    linear=True,
    convolution=True,
    channelwise=lambda node: node["kernel"].shape[-1] == 1,
    channel_axes={"kernel": -2, "bias": -1},
)
DENSE = Operation(
    "dense",
    "kernel (in, out), bias; over the last axis",
    linear=True,
    mixes=always,
    channel_axes={"kernel": -1, "bias": -1},
)
CIRCULAR = Operation(
    "circular",
    "height (height, channels) or None, width (width, channels) or None, bias (channels,) or "
    "(height, width, channels)",
    linear=True,
    channelwise=always,
    channel_axes={"bias": -1, "height": -1, "width": -1},
)
AFFINE = Operation(
    "affine",
    "scale (channels,), shift (channels,) or (height, width, channels)",
    channelwise=always,
    channel_axes={"scale": -1, "shift": -1},
    passes_scale=True,
    passes_shift=Shift.ANY,
)
WRAP = Operation("wrap", 'axis, "height" or "width": a side n continued by its first n - 1')
ACTIVATION = Operation(
    "activation",
    "function: an `Activation`",
    channelwise=lambda node: node["function"].elementwise,
)
ADD = Operation("add", channelwise=always, passes_shift=Shift.UNIFORM)
SUBTRACT = Operation("subtract")
MULTIPLY = Operation("multiply", channelwise=always, passes_scale=True)
CONCAT = Operation("concat", "along the channels")
SLICE = Operation("slice", "start and stop: channels", passes_scale=True, passes_shift=Shift.ANY)
PERMUTE = Operation("permute", "order: of the channels", passes_scale=True, passes_shift=Shift.ANY)
PAD = Operation(
    "pad", "amount ((top, bottom), (left, right)): zeros", channelwise=always, passes_scale=True
)
MEAN = Operation(
    "mean",
    "over the map, whose sides become 1",
    channelwise=always,
    passes_scale=True,
    passes_shift=Shift.ANY,
)
RESHAPE = Operation(
    "reshape",
    "what the shape leaves over goes into the batch",
    channelwise=lambda node: node.inputs[0].channels == node.channels,
    passes_scale=True,
    passes_shift=Shift.UNIFORM,
)
TRANSPOSE = Operation(
    "transpose",
    "axes, the batch being 0",
    channelwise=lambda node: node["axes"][-1] == len(node.shape),
    passes_scale=True,
    passes_shift=Shift.UNIFORM,
)
RESIZE = Operation(
    "resize",
    "size (height, width): bilinear, half-pixel centres",
    channelwise=always,
    passes_scale=True,
    passes_shift=Shift.UNIFORM,
)
REPEAT = Operation(
    "repeat",
    "times (vertical, horizontal): every pixel as so many, the nearest-neighbour upsampling",
    channelwise=always,
    passes_scale=True,
    passes_shift=Shift.UNIFORM,
)
MATMUL = Operation("matmul", "transposed: whether the second operand is")
NORMALIZE = Operation("normalize", "epsilon: to mean 0 and variance 1 over the channels")
RSQRT = Operation("rsqrt", channelwise=always)
PRODUCT = Operation("product", "matrix (channels, n, n): the right operand, channels first")
WINDOW = Operation("window", 'axis, "height" or "width", start and length: a part of a map')
JOIN = Operation("join", 'axis, "height" or "width": maps one after the other')
KEEP = Operation(
    "keep",
    "operation, arguments: an operation called as it is, see `Kept`; shapes and dtypes it returns",
)
ITEM = Operation("item", "index, dtype: one output of a `KEEP`")


def _softplus(x):
    """log(1 + exp(x)), which does not overflow, nor need a wide range in int8."""
    return ops.relu(x) + ops.log(1.0 + ops.exp(-ops.abs(x)))


RELU6 = Activation("relu6", activations.relu6)
HARD_SIGMOID = Activation("hard_sigmoid", activations.hard_sigmoid)
HARD_SILU = Activation("hard_silu", activations.hard_silu)
SIGMOID = Activation("sigmoid", activations.sigmoid)
SOFTMAX = Activation("softmax", activations.softmax, elementwise=False)
ACTIVATIONS = (
    RELU6,
    HARD_SIGMOID,
    HARD_SILU,
    SIGMOID,
    SOFTMAX,
    Activation("elu", activations.elu),
    Activation("gelu", activations.gelu),
    Activation("relu", activations.relu),
    Activation("selu", activations.selu),
    Activation("silu", activations.silu),
    Activation("log_sigmoid", activations.log_sigmoid, emitted=lambda x: -_softplus(-x)),
    Activation("mish", activations.mish, emitted=lambda x: x * ops.tanh(_softplus(x))),
    Activation("softplus", activations.softplus, emitted=_softplus),
    Activation("tanh", activations.tanh),
)


def activation_of(function: Callable) -> Activation:
    """The record of an activation function, found by the function itself.

    A function of the user's own may have the name of one of Keras': it gets a record of its own,
    and counts as not elementwise.

    Example:
        >>> activation_of(activations.relu6) is RELU6, activation_of(abs).elementwise
        (True, False)
    """
    for each in ACTIVATIONS:
        if each.function is function:
            return each
    name = getattr(function, "__name__", str(function))
    return Activation(name, function, elementwise=False)
