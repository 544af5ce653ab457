"""A `.tflite` file of which all results can be read after a run, not only its outputs."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.outputs import Example, quantized, real, values_of
from keras_parc.lite.file.probe import check_runs
from keras_parc.support import compat
from keras_parc.support.machine import cores
from keras_parc.support.notices import without_notices

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Operation:
    """One operation: its name, and the tensors it reads and makes, by number."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def identity(x: np.ndarray) -> np.ndarray:
    """The values themselves."""
    return x


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def _silu(x):
    return x * _sigmoid(x)


def _hard_silu(x):
    return x * np.clip(x + 3, 0, 6) / 6


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Function] = {
    "GELU": _gelu,
    "HARD_SWISH": _hard_silu,
    "LOGISTIC": _sigmoid,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "TANH": np.tanh,
}


class TracedFile:
    """A file of which the results of all operations can be read after a run.

    Args:
        file: A path, or the bytes of a file, made by this process.

    Attributes:
        operations: Its operations in order, each an `Operation`.
        inputs: Numbers of the input tensors.
        outputs: Numbers of the output tensors.

    Raises:
        ValueError: The file cannot be run.

    Example:
        >>> import keras_parc, numpy, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> file = TracedFile(path)
        >>> file.run(numpy.zeros((32, 32, 3)))
        >>> file.value(file.operations[-1].outputs[0]).shape
        (1, 2)
    """

    def __init__(self, file: str | os.PathLike | bytes):
        self._interpreter, count = _opened_own(file) if isinstance(file, bytes) else _opened(file)
        self._interpreter.allocate_tensors()
        self.inputs = [int(each["index"]) for each in self._interpreter.get_input_details()]
        outputs = self._interpreter.get_output_details()[:count]
        self.outputs = [int(each["index"]) for each in outputs]
        self._details = {each["index"]: each for each in self._interpreter.get_tensor_details()}
        self.operations = [
            Operation(each["op_name"], _numbers(each["inputs"]), _numbers(each["outputs"]))
            for each in compat.operation_details(self._interpreter)
            if each["op_name"] != "DELEGATE"  # It stands behind those that it replaces.
        ]

    @property
    def input(self) -> int:
        """Number of the only input tensor."""
        if len(self.inputs) != 1:
            raise ValueError(f"A file with one input is needed, this one has {len(self.inputs)}.")
        return self.inputs[0]

    def run(self, example: Example) -> None:
        """Run one image as the model takes it, or a tuple of arrays, one for each input."""
        for tensor, value in self.as_inputs(example).items():
            self._interpreter.set_tensor(tensor, value)
        self._interpreter.invoke()

    def as_inputs(self, example: Example) -> dict[int, np.ndarray]:
        """An example as the file takes it: batches of one, quantized where the inputs are."""
        return {
            tensor: quantized(np.asarray(value)[None], self._details[tensor])
            for tensor, value in zip(self.inputs, values_of(example), strict=True)
        }

    def value(self, tensor: int) -> np.ndarray:
        """A tensor after `run`, as real numbers (float32)."""
        return self.as_real(tensor, self._interpreter.get_tensor(tensor))

    def view(self, tensor: int) -> np.ndarray:
        """As `value`, without a copy where there need be none; not to be kept until the next run.

        Most of the time of `value` goes into the memory that it asks for, as long as the run.
        """
        return self.as_real(tensor, self._interpreter.tensor(tensor)())

    def as_real(self, tensor: int, value: np.ndarray) -> np.ndarray:
        """Values that a tensor holds as real numbers (float32); truths as 0 and 1."""
        return real(value * np.float32(1) if value.dtype == bool else value, self._details[tensor])

    def quantization(self, tensor: int) -> tuple[float, int]:
        """Scale and zero point of a tensor of one scale; scale 0 if it is not quantized."""
        return self._details[tensor]["quantization"]

    def name(self, tensor: int) -> str:
        """The name of a tensor."""
        return self._details[tensor]["name"]

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape of a tensor, the batch of 1 included."""
        return tuple(int(side) for side in self._details[tensor]["shape"])

    def is_real(self, tensor: int) -> bool:
        """Whether a tensor holds real numbers: float32, or quantized."""
        kind = self._details[tensor]["dtype"]
        return kind == np.float32 or (self.quantization(tensor)[0] != 0 and kind != np.int32)

    @cached_property
    def made(self) -> list[int]:
        """The results of all operations that are real numbers, in order.

        A result that nothing reads is left out: a loop never writes those of its values that it
        only hands from turn to turn, so that whatever lay in the memory stands there.
        """
        used = {*self.readers, *self.outputs}
        results = [t for each in self.operations for t in each.outputs if t in used]
        return [tensor for tensor in results if self.is_real(tensor)]

    @cached_property
    def readers(self) -> dict[int, list[Operation]]:
        """The operations that read each tensor."""
        found: dict[int, list[Operation]] = {}
        for operation in self.operations:
            for tensor in dict.fromkeys(operation.inputs):
                found.setdefault(tensor, []).append(operation)
        return found

    def activation_after(self, tensor: int) -> Function:
        """The activation, if nothing else reads a tensor; `identity` otherwise.

        SiLU is LOGISTIC and MUL, hard SiLU is ADD of 3 with RELU6 and MUL: both read the tensor
        twice, and hardly depend on values far below zero.
        """
        readers = {each.name: each for each in self.readers.get(tensor, [])}
        if len(readers) == 1 and len(self.readers[tensor]) == 1:
            return ACTIVATIONS.get(next(iter(readers)), identity)
        if len(self.readers.get(tensor, [])) != 2 or "MUL" not in readers:
            return identity
        product = readers.pop("MUL").inputs
        (gate,) = readers.values() or (None,)
        if gate is None or gate.outputs[0] not in product:
            return identity
        if gate.name == "LOGISTIC":
            return _silu
        return _hard_silu if gate.name == "ADD" and self._adds_three(gate) else identity

    def _adds_three(self, addition: Operation) -> bool:
        made = set(self.made)
        constants = [each for each in addition.inputs if each not in made]
        return len(constants) == 1 and bool(np.all(self.constant(constants[0]) == 3))

    def constant(self, tensor: int) -> np.ndarray:
        """The values of a constant, as the file holds them."""
        return self._interpreter.get_tensor(tensor)

    def real_constant(self, tensor: int) -> np.ndarray:
        """The values of a constant as real numbers (float32), of one scale or one a channel."""
        value = self.constant(tensor)
        how = self._details[tensor]["quantization_parameters"]
        scales, zeros, axis = how["scales"], how["zero_points"], how["quantized_dimension"]
        if not len(scales):
            return value
        shape = [1] * value.ndim
        shape[axis if len(scales) > 1 else 0] = len(scales)
        return (value - zeros.reshape(shape)).astype("float32") * scales.reshape(shape)


def _opened_own(content: bytes):
    """An interpreter of a file all of whose results are outputs, and how many outputs it had.

    So the delegate can run it, three times as fast as the runtime's own kernels.
    """
    from ai_edge_litert.interpreter import Interpreter

    model = flatbuffer.read(content)
    graph = model.subgraphs[0]
    outputs = [int(tensor) for tensor in graph.outputs]
    read = {int(tensor) for each in graph.operators for tensor in each.inputs}
    results = [int(tensor) for each in graph.operators for tensor in each.outputs]
    graph.outputs = np.int32(list(dict.fromkeys([*outputs, *filter(read.__contains__, results)])))
    with without_notices():  # of the delegate, that it exists
        interpreter = Interpreter(model_content=flatbuffer.write(model), num_threads=cores())
    return interpreter, len(outputs)


def _opened(path: str | os.PathLike):
    """An interpreter of a file from elsewhere, without delegates, and how many outputs it has."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    check_runs(Path(path), kernels.name, threads=1)
    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=kernels, experimental_preserve_all_tensors=True
    )
    return interpreter, len(interpreter.get_output_details())


def _numbers(tensors) -> tuple[int, ...]:
    return tuple(int(each) for each in tensors if each >= 0)
