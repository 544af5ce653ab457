"""Every private name of Keras, TensorFlow, LiteRT and TensorFlow Datasets that keras_parc uses.

A private name may go with any release, without notice. So each is used in one function here, which
says why there is no public way, and is listed in `PRIVATE`: `tests/support/test_compat.py` looks
for each name in the libraries that are installed. Libraries are imported where they are needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Private:
    """One private name.

    Args:
        name: Its full name, as `keras.Sequential._functional`.
        library: The distribution it belongs to.
        seen: The version of that library in which it was last seen.
        reason: What it is used for, and why nothing public does.
        accessor: The function of this module that uses it.
    """

    name: str
    library: str
    seen: str
    reason: str
    accessor: str


PRIVATE: list[Private] = []
VERSIONS = {
    "keras": "3.15.1",
    "tensorflow": "2.21.0",
    "ai-edge-litert": "2.3.0",
    "tensorflow-datasets": "4.9.10",
}


def _uses(library: str, name: str, reason: str) -> Callable[[Callable], Callable]:
    """List a private name with the function that uses it."""

    def listed(function: Callable) -> Callable:
        PRIVATE.append(Private(name, library, VERSIONS[library], reason, function.__name__))
        return function

    return listed


@_uses(
    "keras",
    "keras.Sequential._functional",
    "A Sequential model has its graph in a functional model inside, which it does not hand out.",
)
def functional(model: keras.Model) -> keras.Model:
    """The functional model that a built Sequential model runs; any other model as it is."""
    import keras

    if isinstance(model, keras.Sequential) and _called_as(model, keras.Sequential):
        return model._functional or model
    return model


@_uses(
    "keras",
    "keras.Model._nodes_by_depth",
    "A functional model's graph: which operation was called on which tensors. The public "
    "`model.layers` has the layers, but not their calls.",
)
def calls(model: keras.Model) -> Iterator[Any]:
    """The calls that a functional model consists of, each after those that it depends on.

    Yields:
        Keras nodes: `operation`, `arguments`, `outputs` and `is_input`.
    """
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from model._nodes_by_depth[depth]


@_uses(
    "keras",
    "keras.src.models.functional.Functional",
    "The class of functional models, whose `call` runs the graph: a subclass with a `call` of its "
    "own computes something else. `keras.Model(inputs, outputs)` is an instance of it.",
)
def has_graph(model: Any) -> bool:
    """Whether `calls` tells all that this does: a functional model, with no call of its own."""
    from keras.src.models.functional import Functional

    return isinstance(model, Functional) and _called_as(model, Functional)


def _called_as(model: keras.Model, cls: type) -> bool:
    """Whether a call of the model does what it does in this class."""
    own = "call" in vars(model)
    return not own and type(model).call is cls.call and type(model).__call__ is cls.__call__


@_uses(
    "keras",
    "keras.src.backend.get_keras_mask",
    "Layers hand on a mask as an attribute of the tensor, which no public function reads.",
)
def has_mask(tensor: Any) -> bool:
    """Whether a tensor of a model carries a mask, as of `Masking`, to the layers that take it."""
    from keras.src.backend import get_keras_mask

    return get_keras_mask(tensor) is not None


@_uses(
    "keras",
    "keras.layers.Layer._flatten_layers",
    "All layers inside a layer. The public `layers` is that of models alone, and one level deep.",
)
def layers_in(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all layers inside it."""
    return list(layer._flatten_layers())


@_uses(
    "keras",
    "keras.Model._run_through_graph",
    "Runs a functional model with a function in place of each operation. The public "
    "`clone_model(call_function=...)` builds a new model, which knows no gradients of the old one.",
)
def run_through_graph(model: keras.Model, inputs: list, operation: Callable[[Any], Callable]):
    """Run a functional model, each operation replaced.

    Args:
        model: A functional model.
        inputs: Its input tensors.
        operation: Takes an operation of the model and returns the function to call instead.

    Returns:
        The outputs of the model.
    """
    return model._run_through_graph(inputs, operation)


@_uses(
    "keras",
    "keras.layers.Layer._inbound_nodes",
    "How often a layer is called. The public `layer.output` raises an error for a layer called "
    "twice, of the same class as its other errors.",
)
def call_count(layer: keras.layers.Layer) -> int:
    """How many times a layer was called on symbolic tensors."""
    return len(layer._inbound_nodes)


@_uses(
    "keras",
    "keras.src.backend.tensorflow.numpy.signbit",
    "`ops.argmax` asks it for the sign of zero by an operation on bits, which TensorFlow Lite does "
    "not have; nothing public leaves that out.",
)
@contextlib.contextmanager
def sign_without_bits() -> Iterator[None]:
    """A block in which Keras on TensorFlow finds signs by comparison: -0.0 counts as 0.0."""
    import tensorflow as tf
    from keras.src.backend.tensorflow import numpy

    before = numpy.signbit
    numpy.signbit = lambda x: tf.less(x, tf.zeros_like(x))
    try:
        yield
    finally:
        numpy.signbit = before


OPERATIONS = {
    **dict.fromkeys(("Add", "Concatenate", "Flip", "GetItem", "Multiply", "Reshape"), "numpy"),
    **dict.fromkeys(("Split", "Stack", "Subtract", "Tanh", "TrueDivide"), "numpy"),
    **dict.fromkeys(("HardSigmoid", "HardSilu", "LogSigmoid", "Relu", "Relu6", "Selu"), "nn"),
    **dict.fromkeys(("Sigmoid", "Silu", "Softmax", "Softplus"), "nn"),
}
_WHY_OPERATIONS = (
    "The class of what a function of `keras.ops` leaves in a functional model; only the function "
    "is public, and layers have the same class names."
)


def _uses_operations(function: Callable) -> Callable:
    for name, module in OPERATIONS.items():
        _uses("keras", f"keras.src.ops.{module}.{name}", _WHY_OPERATIONS)(function)
    return function


@_uses_operations
def operation_class(name: str) -> type:
    """The class of an operation of `keras.ops` in a functional model, one of `OPERATIONS`."""
    from keras.src.ops import nn, numpy

    return getattr({"numpy": numpy, "nn": nn}[OPERATIONS[name]], name)


@_uses(
    "keras",
    "keras.src.applications.convnext.LayerScale",
    "A layer of `keras.applications.ConvNeXt*`; only the models are public.",
)
@_uses(
    "keras",
    "keras.src.applications.convnext.StochasticDepth",
    "A layer of `keras.applications.ConvNeXt*`; only the models are public.",
)
def convnext_class(name: str) -> type:
    """A layer class of `keras.applications.convnext`: "LayerScale" or "StochasticDepth"."""
    from keras.src.applications import convnext

    return getattr(convnext, name)


@_uses(
    "keras",
    "keras.optimizers.Optimizer._get_variable_index",
    "The place of a variable in the optimizer's list. An override of the public `update_step` gets "
    "only the variable.",
)
def variable_index(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """The place of a variable among those that an optimizer was built with."""
    return optimizer._get_variable_index(variable)


@_uses(
    "keras",
    "keras.optimizers.Optimizer._use_weight_decay",
    "Whether a variable decays. The public `exclude_from_weight_decay` sets it, none tells it.",
)
def decays(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether an optimizer's weight decay applies to a variable."""
    return optimizer._use_weight_decay(variable)


@_uses(
    "tensorflow",
    "tensorflow.lite.TFLiteConverter"
    "._experimental_disable_per_channel_quantization_for_dense_layers",
    "One scale for each dense layer: tflite-runtime 2.14 cannot read a scale per channel there, "
    "and the converter has no public option for it.",
)
def disable_per_channel_dense(converter: Any) -> None:
    """Let a `TFLiteConverter` quantize dense layers with one scale each."""
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True


@_uses(
    "tensorflow",
    "tensorflow.python.framework.convert_to_constants.convert_variables_to_constants_v2",
    "Makes the variables of a function constants. The public `tf.function` captures them, and a "
    "SavedModel cannot be written without their owner.",
)
def frozen(function: Any) -> Any:
    """A concrete function of TensorFlow whose variables are constants."""
    from tensorflow.python.framework import convert_to_constants

    return convert_to_constants.convert_variables_to_constants_v2(function)


@_uses(
    "tensorflow",
    "tensorflow.lite.python.convert.mlir_quantize",
    "Quantizes a file whose tensors already have ranges. The public converter always chooses "
    "ranges itself, and wrongly where the runtime computes in place.",
)
def mlir_quantize(content: bytes, **settings) -> bytes:
    """Quantize a float32 file with ranges; settings are those of TensorFlow's function."""
    from tensorflow.lite.python import convert

    return convert.mlir_quantize(content, **settings)


@_uses(
    "ai-edge-litert",
    "ai_edge_litert.interpreter.Interpreter._get_ops_details",
    "The operations of a file, and which of them a delegate took over. The public interface lists "
    "only tensors.",
)
def operation_details(interpreter: Any) -> list[dict]:
    """The operations of an interpreter: "index", "op_name", "inputs" and "outputs" of each."""
    return interpreter._get_ops_details()
