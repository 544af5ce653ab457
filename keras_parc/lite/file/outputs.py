"""The bytes of a file as a function of its inputs, whatever their number and rank."""

from collections.abc import Sequence

import numpy as np

from keras_parc.support import compat
from keras_parc.support.notices import without_notices

# An image, or an array for each of several inputs, without the batch.
Example = np.ndarray | tuple[np.ndarray, ...]


class OpenFile:
    """A file of this process, run by the current LiteRT runtime.

    Args:
        content: The bytes of a file that this process made.

    Raises:
        ValueError: The runtime refuses it.
    """

    def __init__(self, content: bytes):
        from ai_edge_litert.interpreter import Interpreter

        try:
            with without_notices():
                self._interpreter = Interpreter(model_content=content)
                self._interpreter.allocate_tensors()
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    @property
    def outputs(self) -> list[int]:
        """Numbers of the output tensors."""
        return [int(each["index"]) for each in self._outputs]

    @property
    def names(self) -> dict[int, str]:
        """The name of each tensor by its number."""
        return {each["index"]: each["name"] for each in self._interpreter.get_tensor_details()}

    def operations(self) -> list[dict]:
        """What the runtime tells of each operation, see `compat.operation_details`."""
        return compat.operation_details(self._interpreter)

    def __call__(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run one example: an array without the batch for each input, in real numbers.

        Returns:
            An array for each output, with the batch of 1; quantized ones as real numbers.
        """
        for value, each in zip(values, self._inputs, strict=True):
            self._interpreter.set_tensor(each["index"], quantized(np.asarray(value)[None], each))
        self._interpreter.invoke()
        return [real(self._interpreter.get_tensor(each["index"]), each) for each in self._outputs]


def values_of(example: Example) -> tuple[np.ndarray, ...]:
    """An array for each input."""
    return example if isinstance(example, tuple) else (example,)


def quantized(value: np.ndarray, tensor: dict) -> np.ndarray:
    """Real numbers as a tensor of a file takes them; `tensor`: its details."""
    scale, zero_point = tensor["quantization"]
    if tensor["dtype"] != np.float32 and scale:
        limits = np.iinfo(tensor["dtype"])
        value = np.clip(np.rint(value / scale + zero_point), limits.min, limits.max)
    return value.astype(tensor["dtype"])


def real(value: np.ndarray, tensor: dict) -> np.ndarray:
    """The values of a tensor of a file as real numbers; `tensor`: its details."""
    scale, zero_point = tensor["quantization"]
    if tensor["dtype"] != np.float32 and scale:
        return ((value.astype("float32") - zero_point) * scale).astype("float32")
    return value
