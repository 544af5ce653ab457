"""What stays float32 in an int8 file, so that XNNPACK runs all of it.

XNNPACK has no int8 form of GELU and of the reciprocal root in a layer normalization: each would cut
the graph in two. In float32, between a DEQUANTIZE and a QUANTIZE, it has both, and takes the
conversions too: one partition. The float32 operations are exact, so precision is gained as well.
"""

from keras_parc.lite.quantize.intermediate import Intermediate, Operation

# From the reciprocal root of a layer normalization back to what it normalizes.
_BACK = ("ADD", "MEAN", "MUL", "SUB")


def float_operations(file: Intermediate) -> list[str]:
    """Names of the results of the operations that int8 quantization leaves alone.

    Args:
        file: A float32 file.

    Returns:
        Names of tensors, as the converter's `denylisted_nodes` wants them: every GELU, and every
        layer normalization as `deploy` writes it.
    """
    maker = {tensor: each for each in file.operations for tensor in each.outputs}
    chosen: list[Operation] = []
    for operation in file.operations:
        if operation.name == "GELU":
            chosen.append(operation)
        elif operation.name == "RSQRT":
            chosen += _normalization(file, maker, operation)
    return list(dict.fromkeys(file.name(each.outputs[0]) for each in chosen))


def _normalization(file: Intermediate, maker, root: Operation) -> list[Operation]:
    """All operations of the normalization around a reciprocal root; none if it is another."""
    found, operation = [root], root
    while operation.name != "SUB":
        makers = [maker[each] for each in operation.inputs if each in maker]
        if not makers or makers[0].name not in _BACK:
            return []
        operation = makers[0]
        found.append(operation)
    means = [maker[each] for each in operation.inputs if each in maker]
    found += [each for each in means if each.name == "MEAN"]
    found += [each for each in file.readers[root.outputs[0]] if each.name == "MUL"]
    return found
