"""Rows of an operation's result: which rows of its inputs they need, and the operation for them."""

import copy
from dataclasses import dataclass

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.flatbuffer import BUILTIN

Rows = tuple[int, int]  # first, stop
ROWS = 1  # the axis: (batch, rows, columns, channels)

_SAME, _VALID = 0, 1
JOINED = 4  # maps at once: XNNPACK takes five at most
_CONVOLUTIONS = {BUILTIN.CONV_2D, BUILTIN.DEPTHWISE_CONV_2D}
_POOLS = {BUILTIN.AVERAGE_POOL_2D, BUILTIN.MAX_POOL_2D}
# Each value of the result is made of the value at its place, in every operand.
_ELEMENTWISE = {
    *(BUILTIN.ABS, BUILTIN.ADD, BUILTIN.DEQUANTIZE, BUILTIN.DIV, BUILTIN.ELU, BUILTIN.EXP),
    *(BUILTIN.GELU, BUILTIN.HARD_SWISH, BUILTIN.LEAKY_RELU, BUILTIN.LOG, BUILTIN.LOGISTIC),
    *(BUILTIN.MAXIMUM, BUILTIN.MINIMUM, BUILTIN.MUL, BUILTIN.NEG, BUILTIN.PRELU),
    *(BUILTIN.QUANTIZE, BUILTIN.RELU, BUILTIN.RELU6, BUILTIN.RELU_N1_TO_1, BUILTIN.RSQRT),
    *(BUILTIN.SQRT, BUILTIN.SQUARE, BUILTIN.SQUARED_DIFFERENCE, BUILTIN.SUB, BUILTIN.TANH),
}


@dataclass(frozen=True)
class Need:
    """What some rows of a result need of an input.

    Args:
        rows: Rows of the input; None: all of it, whatever the rows of the result.
        padding: Rows of zeros before and after them.
    """

    rows: Rows | None
    padding: tuple[int, int] = (0, 0)


def _within(first: int, stop: int, side: int) -> Need | None:
    """Rows of which some may lie above or below a map; None: all do."""
    inside = max(first, 0), min(stop, side)
    if inside[0] >= inside[1]:
        return None
    return Need(inside, (inside[0] - first, stop - inside[1]))


class File:
    """The objects of a file, to which operations are added that compute some rows."""

    def __init__(self, model: "flatbuffer.schema.ModelT"):
        self.model = model
        self.graph = model.subgraphs[0]
        self.operators = list(self.graph.operators)  # without those that are added
        self._outputs = {int(tensor) for tensor in self.graph.outputs}
        self._last_read = {
            int(tensor): number
            for number, operator in enumerate(self.operators)
            for tensor in operator.inputs
        }

    def leaves(self, tensor: int, stop: int) -> bool:
        """Whether a tensor is an output, or read by operation `stop` or a later one."""
        return tensor in self._outputs or self._last_read.get(tensor, -1) >= stop

    def kind(self, operator) -> int:
        return flatbuffer.kind(self.model, operator)

    def shape(self, tensor: int) -> tuple[int, ...]:
        found = self.graph.tensors[tensor].shape
        return tuple(int(side) for side in found) if found is not None else ()

    def is_map(self, tensor: int) -> bool:
        """Whether a tensor is one map: an input or a result `(1, rows, columns, channels)`."""
        shape = self.shape(tensor) if tensor >= 0 else ()
        return len(shape) == 4 and shape[0] == 1 and not flatbuffer.is_constant(self.model, tensor)

    def needs(self, operator, rows: Rows) -> dict[int, Need] | None:
        """What some rows of an operation's result need of each input; None: it has to run whole."""
        if len(operator.outputs) != 1 or not self.is_map(int(operator.outputs[0])):
            return None
        kind = self.kind(operator)
        if kind in _CONVOLUTIONS or kind in _POOLS:
            return self._slid(operator, rows)
        if kind in _ELEMENTWISE:
            return self._elementwise(operator, rows)
        if kind == BUILTIN.PAD:
            return self._padded(operator, rows)
        if kind == BUILTIN.CONCATENATION and operator.builtinOptions.axis in (3, -1):
            inputs = [int(each) for each in operator.inputs]
            return {t: Need(rows) for t in inputs} if all(map(self.is_map, inputs)) else None
        return None

    def _elementwise(self, operator, rows):
        result, found = self.shape(int(operator.outputs[0])), {}
        for tensor in (int(each) for each in operator.inputs):
            if flatbuffer.is_constant(self.model, tensor):
                if tensor >= 0 and len(self.shape(tensor)) > 2 and self.shape(tensor)[-3] != 1:
                    return None
            elif self.is_map(tensor) and self.shape(tensor)[ROWS] == result[ROWS]:
                found[tensor] = Need(rows)
            elif self.is_map(tensor) and self.shape(tensor)[ROWS] == 1:
                found[tensor] = Need(None)
            else:
                return None
        return found or None

    def _padded(self, operator, rows):
        source, top = int(operator.inputs[0]), self._amounts(operator)[ROWS, 0]
        if not self.is_map(source) or self._amounts(operator)[[0, 3]].any():
            return None
        side = self.shape(source)[ROWS]
        need = _within(rows[0] - top, rows[1] - top, side)
        return {source: need} if need else None

    def _amounts(self, operator) -> np.ndarray:
        tensor = self.graph.tensors[int(operator.inputs[1])]
        data = np.asarray(self.model.buffers[tensor.buffer].data, "uint8")
        kind = "int64" if tensor.type == flatbuffer.schema.TensorType.INT64 else "int32"
        return data.view(kind).reshape(-1, 2)

    def _slid(self, operator, rows):
        source = int(operator.inputs[0])
        if not self.is_map(source) or self._measures(operator):
            return None
        side = self.shape(source)[ROWS]
        kernel, stride, dilation, before, _ = self._window(operator, 0)
        first = rows[0] * stride - before
        stop = (rows[1] - 1) * stride - before + (kernel - 1) * dilation + 1
        need = _within(first, stop, side)
        if need is None:
            return None
        is_pool = self.kind(operator) in _POOLS and operator.builtinOptions.padding == _SAME
        # Padding of a pool is no zeros: it has to be that of the smaller map.
        if is_pool and self._same(operator, need.rows[1] - need.rows[0], 0) != need.padding:
            return None
        return {source: need}

    def _measures(self, operator) -> bool:
        """Whether it takes its input's range from all of it: float, with weights in int8."""
        if self.kind(operator) in _POOLS:
            return False
        types = [self.graph.tensors[int(each)].type for each in operator.inputs[:2]]
        return types == [flatbuffer.TYPES["float32"], flatbuffer.TYPES["int8"]]

    def _window(self, operator, axis: int) -> tuple[int, int, int, int, int]:
        """Along rows (0) or columns (1): kernel, stride, dilation, zeros before and after."""
        before = after = 0
        if operator.builtinOptions.padding == _SAME:
            side = self.shape(int(operator.inputs[0]))[1 + axis]
            before, after = self._same(operator, side, axis)
        return *self._kernel(operator, axis), before, after

    def _kernel(self, operator, axis: int) -> tuple[int, int, int]:
        options = operator.builtinOptions
        stride = (options.strideH, options.strideW)[axis]
        if self.kind(operator) in _POOLS:
            return (options.filterHeight, options.filterWidth)[axis], stride, 1
        dilation = (options.dilationHFactor, options.dilationWFactor)[axis]
        return self.shape(int(operator.inputs[1]))[1 + axis], stride, dilation

    def _same(self, operator, side: int, axis: int) -> tuple[int, int]:
        """The zeros that "same" puts before and after a side."""
        kernel, stride, dilation = self._kernel(operator, axis)
        total = (-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side
        return max(total, 0) // 2, max(total, 0) - max(total, 0) // 2

    def window(self, tensor: int, rows: Rows) -> int:
        """Add an operation that cuts rows out of a map; returns its result."""
        shape = (1, rows[1] - rows[0], *self.shape(tensor)[2:])
        corners = ([0, rows[0], 0, 0], [1, rows[1], *shape[2:]], [1, 1, 1, 1])
        where = [
            flatbuffer.add_constant(self.model, name, np.int32(values))
            for name, values in zip(("begin", "end", "strides"), corners, strict=True)
        ]
        # XNNPACK has had it for longer than SLICE: since TensorFlow Lite 2.12 at least.
        number = self._add(BUILTIN.STRIDED_SLICE, [tensor, *where], tensor, shape, rows[0])
        self._give(flatbuffer.schema.StridedSliceOptionsT())
        return number

    def _give(self, options) -> None:
        """Options for the operation that was added last."""
        operator, name = self.graph.operators[-1], type(options).__name__.removesuffix("T")
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(flatbuffer.schema.BuiltinOptions, name)

    def join(self, tensor: int, parts: list[int]) -> None:
        """Add operations that make a map of its rows, in order."""
        while len(parts) > 1:
            groups = [parts[i : i + JOINED] for i in range(0, len(parts), JOINED)]
            parts = [self._joined(tensor, each, len(groups) == 1) for each in groups]

    def _joined(self, tensor: int, parts: list[int], last: bool) -> int:
        if len(parts) == 1:
            return parts[0]
        shape = (1, sum(self.shape(each)[ROWS] for each in parts), *self.shape(tensor)[2:])
        number = self._add(BUILTIN.CONCATENATION, parts, tensor, shape, f"to_{shape[ROWS]}")
        options = flatbuffer.schema.ConcatenationOptionsT()
        options.axis = ROWS
        self._give(options)
        if last:
            self.graph.operators[-1].outputs = np.int32([tensor])
        return number

    def strip(self, operator, rows: Rows, inputs: dict[int, int]) -> int:
        """Add an operation that computes rows of an operation's result.

        Args:
            operator: The operation.
            rows: The rows.
            inputs: For each input of `needs` what stands for it: the rows it names, no others.

        Returns:
            The number of the result.
        """
        given = [inputs.get(int(tensor), int(tensor)) for tensor in operator.inputs]
        options, kind = copy.copy(operator.builtinOptions), self.kind(operator)
        (result,) = (int(tensor) for tensor in operator.outputs)
        shape = (1, rows[1] - rows[0], *self.shape(result)[2:])
        needs = self.needs(operator, rows)
        if kind == BUILTIN.PAD:
            amounts = self._amounts(operator).astype("int32")
            amounts[ROWS] = needs[int(operator.inputs[0])].padding
            given[1] = flatbuffer.add_constant(self.model, "padding", amounts)
        if kind in _CONVOLUTIONS | _POOLS and options.padding == _SAME:
            source = int(operator.inputs[0])
            (first, stop), padding = needs[source].rows, needs[source].padding
            if self._same(operator, stop - first, 0) != padding:
                columns = self._window(operator, 1)[3:]
                given[0], options.padding = self._pad(given[0], padding, columns), _VALID
        number = self._add(kind, given, result, shape, rows[0])
        added = self.graph.operators[-1]
        added.opcodeIndex, added.builtinOptions = operator.opcodeIndex, options
        added.builtinOptionsType = operator.builtinOptionsType
        return number

    def _pad(self, tensor: int, rows: tuple[int, int], columns: tuple[int, int]) -> int:
        if not any(rows + columns):
            return tensor
        amounts = flatbuffer.add_constant(
            self.model, "padding", np.int32([(0, 0), rows, columns, (0, 0)])
        )
        _, height, width, channels = self.shape(tensor)
        shape = (1, height + sum(rows), width + sum(columns), channels)
        return self._add(BUILTIN.PAD, [tensor, amounts], tensor, shape, "padded")

    def _add(self, kind: int, inputs: list[int], like: int, shape, suffix) -> int:
        """An operation whose result has the type and the quantization of another tensor."""
        source = self.graph.tensors[like]
        name = f"{source.name.decode()}_rows_{suffix}"
        version = 1 if source.type == flatbuffer.TYPES["float32"] else 2  # of PAD and STRIDED_SLICE
        (number,) = flatbuffer.append(self.model, kind, inputs, {name: shape}, source.type, version)
        self.graph.tensors[number].quantization = source.quantization
        return number
