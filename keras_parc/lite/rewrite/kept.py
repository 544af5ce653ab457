"""Operations that no rule knows, called as they are: the live ones, with all that they know."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import layers, ops, tree

from keras_parc.support import compat

_FLOATS = ("bfloat16", "float16", "float64")  # what float32 stands for in a rewritten model


class Kept(layers.Layer):
    """Calls an operation of another model, which it shares with that model.

    It is not rebuilt from its configuration, which may forget: an argument, an attribute that was
    set later, a function. The operation itself gets no new call, as it sees no symbolic tensors.

    Args:
        operation: A layer, a model, or what a function of `keras.ops` leaves in a model.
        arguments: Makes of the input tensors the positional and the keyword arguments.
        shapes: Of its results, batch included, in order.
        dtypes: Of its results.
        name: Name of this layer.
    """

    def __init__(
        self,
        operation: Any,
        arguments: Callable[[Sequence[Any]], tuple[Sequence[Any], dict[str, Any]]],
        shapes: Sequence[tuple[int | None, ...]],
        dtypes: Sequence[str],
        name: str | None = None,
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.operation = operation
        self._arguments = arguments
        self._results = tuple(zip(map(tuple, shapes), dtypes, strict=True))

    def build(self, shapes):
        """The operation is built: it was called in its own model."""

    def compute_mask(self, images, previous=None):
        """None: the operation itself gives its results their masks, or does not."""

    def compute_output_spec(self, images):
        return [keras.KerasTensor(shape, dtype) for shape, dtype in self._results]

    def call(self, images):
        args, kwargs = self._arguments(images)
        with in_float32(self.operation), without_int8(self.operation), signs():
            results = tree.flatten(self.operation(*args, **kwargs))
        return [
            x if x.dtype == dtype else ops.cast(x, dtype)
            for x, (_, dtype) in zip(results, self._results, strict=True)
        ]


def float32_for(dtype: str) -> str:
    """float32 in place of another type of real numbers; any other type as it is.

    Example:
        >>> float32_for("float16"), float32_for("int64")
        ('float32', 'int64')
    """
    return "float32" if dtype in _FLOATS else dtype


class _Float32(keras.DTypePolicy):
    """float32, for a layer whose weights have the type of another policy."""

    def __init__(self, policy: keras.DTypePolicy):
        super().__init__("float32")
        self._weights = policy.variable_dtype

    @property
    def variable_dtype(self) -> str:
        return self._weights


def signs() -> contextlib.AbstractContextManager:
    """A block in which nothing asks for the sign of zero, on the backend that exports."""
    tensorflow = keras.config.backend() == "tensorflow"
    return compat.sign_without_bits() if tensorflow else contextlib.nullcontext()


@contextlib.contextmanager
def _replaced(operation: Any, name: str, new: Callable[[layers.Layer], Any]) -> Iterator[None]:
    """A block in which all layers inside an operation have another attribute, but for None."""
    inside = compat.layers_in(operation) if isinstance(operation, layers.Layer) else ()
    changed = []
    for layer in inside:
        if (value := new(layer)) is not None:
            changed.append((layer, getattr(layer, name)))
            setattr(layer, name, value)
    try:
        yield
    finally:
        for layer, value in changed:
            setattr(layer, name, value)


def without_int8(operation: Any) -> contextlib.AbstractContextManager:
    """A block in which layers quantized by Keras multiply their whole numbers as float32.

    TensorFlow Lite has no product of int8 numbers without scales. The result is the same: float32
    holds the whole numbers exactly up to 1000 products of int8, and to 1e-7 beyond.
    """

    def real(layer):
        quantizer = getattr(layer, "inputs_quantizer", None)
        if quantizer is None or layer.quantization_mode != "int8":
            return None

        def quantize(x, **settings):
            values, scale = quantizer(x, **settings)
            return ops.cast(values, "float32"), scale

        return quantize

    return _replaced(operation, "inputs_quantizer", real)


def in_float32(operation: Any) -> contextlib.AbstractContextManager:
    """A block in which an operation, and all layers inside it, compute in float32.

    Quantized layers stay as they are: another policy would not fit their weights.

    Example:
        >>> dense = layers.Dense(2, dtype="mixed_float16")
        >>> with in_float32(dense):
        ...     dense.compute_dtype
        'float32'
        >>> dense.compute_dtype
        'float16'
    """

    def policy(layer):
        own = layer.dtype_policy
        half = type(own) is keras.DTypePolicy and own.compute_dtype in _FLOATS
        return _Float32(own) if half else None

    return _replaced(operation, "dtype_policy", policy)
