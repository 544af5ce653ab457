"""One operation of a file, run on its own."""

from collections.abc import Sequence

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.support.machine import cores
from keras_parc.support.notices import without_notices


class SingleOperation:
    """One operation of a file, as a file of its own.

    Args:
        model: The objects of the file.
        position: Which of its operations, from 0.

    Attributes:
        inputs: Numbers, in the whole file, of the tensors it reads that are not constant.
        outputs: Numbers of its results.
    """

    def __init__(self, model: "flatbuffer.schema.ModelT", position: int):
        from ai_edge_litert.interpreter import Interpreter

        schema, source = flatbuffer.schema, model.subgraphs[0]
        operator = _copy(source.operators[position])
        read = dict.fromkeys(int(tensor) for tensor in operator.inputs if tensor >= 0)
        self.outputs = [int(tensor) for tensor in operator.outputs]
        self.inputs = []
        part, graph = schema.ModelT(), schema.SubGraphT()
        part.version, part.operatorCodes = model.version, model.operatorCodes
        part.subgraphs, part.buffers = [graph], [schema.BufferT()]
        graph.tensors, graph.operators = [], [operator]
        self._places = {-1: -1}  # A bias that is left out.
        for number in (*read, *self.outputs):
            tensor = _copy(source.tensors[number])
            buffer, tensor.buffer = model.buffers[tensor.buffer], 0
            if buffer.data is not None and len(buffer.data):
                tensor.buffer = len(part.buffers)
                part.buffers.append(buffer)
            elif number in read:
                self.inputs.append(number)
            self._places[number] = len(graph.tensors)
            graph.tensors.append(tensor)
        operator.inputs = self._placed(operator.inputs)
        operator.outputs = graph.outputs = self._placed(self.outputs)
        graph.inputs = self._placed(self.inputs)
        with without_notices():  # of the delegate, that it exists
            self._interpreter = Interpreter(
                model_content=flatbuffer.write(part), num_threads=cores()
            )
        self._interpreter.allocate_tensors()

    def _placed(self, tensors: Sequence[int]) -> np.ndarray:
        return np.int32([self._places[int(each)] for each in tensors])

    def run(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The results for these `inputs`, all as the file holds them, quantized or not."""
        for tensor, value in zip(self.inputs, values, strict=True):
            self._interpreter.set_tensor(self._places[tensor], value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(self._places[each]) for each in self.outputs]


def _copy(described):
    """A copy of an object of the schema that may be given other numbers."""
    copied = type(described)()
    vars(copied).update(vars(described))
    return copied
