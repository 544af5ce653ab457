"""Changes to a converted file that the converter has no option for."""

from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

BUILTIN = schema.BuiltinOperator
TYPES = {"float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8}
TYPES |= {"uint8": schema.TensorType.UINT8, "int32": schema.TensorType.INT32}
_BYTES = {schema.TensorType.INT8: 1, schema.TensorType.UINT8: 1, schema.TensorType.BOOL: 1}
_BYTES |= {schema.TensorType.INT16: 2, schema.TensorType.FLOAT16: 2, schema.TensorType.INT64: 8}


def read(content: bytes) -> "schema.ModelT":
    """The objects of a file."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def write(model: "schema.ModelT") -> bytes:
    """The bytes of a file; the same objects give the same bytes."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def add_entry(model: "schema.ModelT", name: str, data: bytes) -> None:
    """Put data under a name into the file, where no runtime looks."""
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(data, np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = name, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]


def kind(model: "schema.ModelT", operator: "schema.OperatorT") -> int:
    """The `BUILTIN` of an operation."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def is_constant(model: "schema.ModelT", tensor: int) -> bool:
    """Whether a tensor is a constant; so is what is left out of an operation, number -1."""
    if tensor < 0:
        return True
    data = model.buffers[model.subgraphs[0].tensors[tensor].buffer].data
    return data is not None and len(data) > 0


def size(model: "schema.ModelT", tensor: int) -> int:
    """Bytes of an input or a result; 0 of a constant, which lies in the file."""
    if is_constant(model, tensor):
        return 0
    each = model.subgraphs[0].tensors[tensor]
    shape = each.shape if each.shape is not None else ()
    return int(np.prod(shape, dtype=np.int64)) * _BYTES.get(each.type, 4)


def constant(model: "schema.ModelT", tensor: int) -> np.ndarray:
    """The values of a float32 constant."""
    source = model.subgraphs[0].tensors[tensor]
    data = np.asarray(model.buffers[source.buffer].data, "uint8")
    return data.view("float32").reshape(source.shape)


def set_constant(model: "schema.ModelT", tensor: int, values: np.ndarray) -> None:
    """Give a constant other values, and no other constant: those of equal values share a buffer."""
    data = np.ascontiguousarray(values).ravel().view("uint8")
    place = model.subgraphs[0].tensors[tensor].buffer
    if sum(each.buffer == place for graph in model.subgraphs for each in graph.tensors) == 1:
        model.buffers[place].data = data
        return
    buffer = schema.BufferT()
    buffer.data = data
    model.buffers.append(buffer)
    model.subgraphs[0].tensors[tensor].buffer = len(model.buffers) - 1


def symmetric_products(model: "schema.ModelT", matrices: list[np.ndarray]) -> int:
    """Quantize the constants of int8 BATCH_MATMULs symmetrically; XNNPACK refuses others.

    Args:
        model: The objects of an int8 file; changed in place.
        matrices: The constants in float32, in any order, since rounding the converter's int8 values
            again would lose precision. Constants that are not among them stay as they are.

    Returns:
        How many constants were written.
    """
    graph, done = model.subgraphs[0], set()
    for operator in graph.operators:
        if kind(model, operator) != BUILTIN.BATCH_MATMUL:
            continue
        tensor = graph.tensors[operator.inputs[1]]
        data = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.INT8 or data is None or tensor.buffer in done:
            continue
        scale, zero = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
        coarse = (np.asarray(data, "uint8").view("int8").astype("float32") - zero) * scale
        exact = _nearest(coarse, matrices)
        if exact is None or np.abs(exact - coarse).max() > 1.01 * scale:
            continue
        step = max(np.abs(exact).max() / 127, 1e-30)
        values = np.clip(np.rint(exact / step), -127, 127).astype("int8")
        model.buffers[tensor.buffer].data = values.view("uint8")
        tensor.quantization.scale = np.float32([step])
        tensor.quantization.zeroPoint = np.int64([0])
        tensor.quantization.min = tensor.quantization.max = None
        done.add(tensor.buffer)
    return len(done)


def float_operations(model: "schema.ModelT") -> list[str]:
    """The names, each once, of the operations that read or make float32, in order."""
    names = {value: name for name, value in vars(BUILTIN).items()}
    graph = model.subgraphs[0]
    found = {}
    for operator in graph.operators:
        tensors = [each for each in (*operator.inputs, *operator.outputs) if each >= 0]
        if any(graph.tensors[each].type == TYPES["float32"] for each in tensors):
            found[names[kind(model, operator)]] = True
    return list(found)


def _nearest(flat: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray | None:
    fitting = [np.ravel(each) for each in matrices if each.size == flat.size]
    return min(fitting, key=lambda each: np.abs(each - flat).max(), default=None)


def float_depthwise(model: "schema.ModelT") -> None:
    """Let depthwise convolutions of float32 maps with int8 weights read these as float32.

    XNNPACK makes float32 of them once. With int8 weights it does not run them, and the runtime's
    own kernel rounds the map too.
    """
    graph, operators = model.subgraphs[0], []
    for operator in list(graph.operators):
        if kind(model, operator) == BUILTIN.DEPTHWISE_CONV_2D:
            source, kernel = (graph.tensors[each] for each in operator.inputs[:2])
            if (source.type, kernel.type) == (TYPES["float32"], TYPES["int8"]):
                operators.append(_dequantized(model, int(operator.inputs[1])))
                image, _, *rest = operator.inputs
                operator.inputs = np.int32([image, operators[-1].outputs[0], *rest])
        operators.append(operator)
    graph.operators = operators


def _dequantized(model: "schema.ModelT", tensor: int) -> "schema.OperatorT":
    """An operation, not yet in its place, that makes float32 of a tensor of 8 bits."""
    graph = model.subgraphs[0]
    source = graph.tensors[tensor]
    result = {f"{source.name.decode()}_float": source.shape}
    version = 5 if len(source.quantization.scale) > 1 else 2  # 5: a scale for each channel
    append(model, BUILTIN.DEQUANTIZE, [tensor], result, TYPES["float32"], version)
    return graph.operators.pop()


def convert_through_float(model: "schema.ModelT") -> None:
    """Let conversions between int8 and uint8 go by way of float32, which XNNPACK runs.

    The values are the same: a step of one type is a step of the other.
    """
    graph, operators = model.subgraphs[0], []
    for operator in list(graph.operators):
        source, result = (graph.tensors[each[0]] for each in (operator.inputs, operator.outputs))
        is_conversion = kind(model, operator) == BUILTIN.QUANTIZE
        if is_conversion and source.type not in (TYPES["float32"], result.type):
            operators.append(_dequantized(model, int(operator.inputs[0])))
            operator.inputs = operators[-1].outputs
        operators.append(operator)
    graph.operators = operators


def append_softmax(model: "schema.ModelT", dtype: str, integer: bool = False) -> None:
    """Put a SOFTMAX after the only output, then QUANTIZE unless `dtype` is the type of its result.

    Args:
        model: The objects of a file; changed in place.
        dtype: Type of the new output.
        integer: Whether it computes in int8; the output must be int8 too. XNNPACK does not run
            that, and int8 inputs lose small differences.
    """
    graph = model.subgraphs[0]
    (source,) = graph.outputs
    made = "int8" if integer else "float32"
    last = softmax(model, int(source), "probabilities", made)
    if dtype != made:
        shape = graph.tensors[last].shape
        (last,) = append(
            model, BUILTIN.QUANTIZE, [last], {"probabilities_quantized": shape}, TYPES[dtype]
        )
        graph.tensors[last].quantization = _of_probabilities(dtype)
    graph.outputs = np.int32([last])
    for signature in model.signatureDefs or []:
        for entry in signature.outputs:
            entry.tensorIndex = last


def _of_probabilities(dtype: str) -> "schema.QuantizationParametersT | None":
    """The one scale that an integer SOFTMAX has."""
    if dtype == "float32":
        return None
    quantization = schema.QuantizationParametersT()
    quantization.scale = np.float32([1 / 256])
    quantization.zeroPoint = np.int64([-128 if dtype == "int8" else 0])
    return quantization


def softmax(model: "schema.ModelT", source: int, name: str, dtype: str = "float32") -> int:
    """Add a SOFTMAX over a tensor; returns the number of its result, called `name`.

    Args:
        model: The objects of a file; changed in place.
        source: The tensor.
        name: What the result is called.
        dtype: Its type, and that of the tensor: "float32" or "int8".
    """
    graph = model.subgraphs[0]
    shape = graph.tensors[source].shape
    (result,) = append(model, BUILTIN.SOFTMAX, [source], {name: shape}, TYPES[dtype])
    graph.tensors[result].quantization = _of_probabilities(dtype)
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    graph.operators[-1].builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    graph.operators[-1].builtinOptions = options
    return result


def append(
    model: "schema.ModelT",
    operation: int | str,
    inputs: list[int],
    outputs: dict[str, Sequence[int]],
    dtype: int,
    version: int = 1,
) -> list[int]:
    """Add an operation after all others.

    Args:
        model: The objects of a file; changed in place.
        operation: A `BUILTIN`, or the name of a custom operation.
        inputs: Numbers of tensors.
        outputs: Names of its results and their shapes, static.
        dtype: Type of the results, of `TYPES`.
        version: The least version of the operation that knows the type.

    Returns:
        The numbers of the results.
    """
    graph = model.subgraphs[0]
    numbers = []
    for name, shape in outputs.items():
        model.buffers.append(schema.BufferT())
        numbers.append(_add_tensor(model, name, np.int32(shape), dtype))
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = np.int32(inputs), np.int32(numbers)
    operator.opcodeIndex = _code(model, operation, version)
    graph.operators.append(operator)
    return numbers


def add_constant(model: "schema.ModelT", name: str, values: np.ndarray) -> int:
    """Add a constant; returns its number."""
    buffer = schema.BufferT()
    buffer.data = np.ascontiguousarray(values).ravel().view("uint8")
    model.buffers.append(buffer)
    return _add_tensor(model, name, np.int32(values.shape), TYPES[str(values.dtype)])


def _add_tensor(model, name: str, shape: np.ndarray, dtype: int) -> int:
    """A tensor over the last buffer."""
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.shape = name.encode(), dtype, shape
    tensor.buffer = len(model.buffers) - 1
    tensors = model.subgraphs[0].tensors
    tensors.append(tensor)
    return len(tensors) - 1


def _code(model, operation: int | str, version: int) -> int:
    custom = operation.encode() if isinstance(operation, str) else None
    builtin = BUILTIN.CUSTOM if custom else operation
    for index, code in enumerate(model.operatorCodes):
        same = max(code.builtinCode, code.deprecatedBuiltinCode) == builtin
        if same and code.customCode == custom:
            code.version = max(code.version, version)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
    code.version = version
    code.customCode = custom
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
