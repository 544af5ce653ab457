"""Changes to a converted file that the converter cannot be asked for."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

BUILTIN = schema.BuiltinOperator
TYPES = {"float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8}
TYPES["uint8"] = schema.TensorType.UINT8


def read(content: bytes) -> "schema.ModelT":
    """The objects of a file."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def write(model: "schema.ModelT") -> bytes:
    """The bytes of a file; the same objects give the same bytes."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def kind(model: "schema.ModelT", operator: "schema.OperatorT") -> int:
    """The `BUILTIN` of an operation."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def constant(model: "schema.ModelT", tensor: int) -> np.ndarray:
    """The values of a float32 constant."""
    source = model.subgraphs[0].tensors[tensor]
    data = np.asarray(model.buffers[source.buffer].data, "uint8")
    return data.view("float32").reshape(source.shape)


def set_constant(model: "schema.ModelT", tensor: int, values: np.ndarray) -> None:
    """Give a constant other values, in a buffer of its own: files share equal ones."""
    buffer = schema.BufferT()
    buffer.data = np.ascontiguousarray(values).ravel().view("uint8")
    model.buffers.append(buffer)
    model.subgraphs[0].tensors[tensor].buffer = len(model.buffers) - 1


def symmetric_products(model: "schema.ModelT", matrices: list[np.ndarray]) -> int:
    """Quantize the constants of int8 BATCH_MATMULs symmetrically; XNNPACK refuses others.

    Args:
        model: The objects of an int8 file; changed in place.
        matrices: The constants in float32, in any order: rounding the converter's int8 values
            again would lose precision. A constant not among them is left as it is.

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


def _nearest(flat: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray | None:
    fitting = [np.ravel(each) for each in matrices if each.size == flat.size]
    return min(fitting, key=lambda each: np.abs(each - flat).max(), default=None)


def append_softmax(model: "schema.ModelT", dtype: str) -> None:
    """Put a float SOFTMAX after the only output, then QUANTIZE unless `dtype` is float32.

    An int8 SOFTMAX is not XNNPACK's, and its input has lost the small differences.
    """
    graph = model.subgraphs[0]
    (source,) = graph.outputs
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    last = _append(model, int(source), BUILTIN.SOFTMAX, TYPES["float32"], "probabilities")
    graph.operators[-1].builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    graph.operators[-1].builtinOptions = options
    if dtype != "float32":
        last = _append(model, last, BUILTIN.QUANTIZE, TYPES[dtype], "probabilities_quantized")
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.float32([1 / 256])
        quantization.zeroPoint = np.int64([-128 if dtype == "int8" else 0])
        graph.tensors[last].quantization = quantization
    graph.outputs = np.int32([last])
    for signature in model.signatureDefs or []:
        for entry in signature.outputs:
            entry.tensorIndex = last


def _append(model, source: int, builtin: int, dtype: int, name: str) -> int:
    """Add an operation over one tensor; returns the index of its result."""
    graph = model.subgraphs[0]
    tensor = schema.TensorT()
    tensor.name, tensor.type = name.encode(), dtype
    tensor.shape = graph.tensors[source].shape
    tensor.shapeSignature = graph.tensors[source].shapeSignature
    model.buffers.append(schema.BufferT())
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    operator = schema.OperatorT()
    operator.inputs = np.int32([source])
    operator.outputs = np.int32([len(graph.tensors) - 1])
    operator.opcodeIndex = _code(model, builtin)
    graph.operators.append(operator)
    return len(graph.tensors) - 1


def _code(model, builtin: int) -> int:
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
