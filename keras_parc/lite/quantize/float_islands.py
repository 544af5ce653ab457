"""What stays float32 in an int8 file, so that XNNPACK runs all of it.

XNNPACK has neither GELU nor the reciprocal square root of a layer normalization in int8: each would
cut the graph in two. It has both in float32, and DEQUANTIZE and QUANTIZE around them, so that the
graph stays one partition. The float32 operations are more precise, too.

Nor is there an int8 scale for scores of an attention in which some are masked by a huge number.

An NPU runs int8 alone: its files have no islands, but for what has no scale.
"""

from collections.abc import Callable, Container

from keras_parc.lite.file.delegation import results_outside
from keras_parc.lite.quantize.traced_file import Operation, TracedFile

# What lies between the reciprocal root of a layer normalization and its input.
_BACK = ("ADD", "MEAN", "MUL", "SUB")
_ROUNDS = 3  # what stays float32 can leave a neighbour outside


def float_operations(file: TracedFile, ranged: Container[int], islands: bool = True) -> list[str]:
    """Names of the results of the operations that stay float32 for every runtime.

    Args:
        file: A float32 file.
        ranged: The tensors that have a range.
        islands: Whether the runtime runs float32 too.

    Returns:
        Names of tensors, as the converter's `denylisted_nodes` takes them: of what makes or reads
        a result that has no range; with `islands` also of every GELU, and of all operations of
        every layer normalization that `deploy` wrote.
    """
    without = {tensor for tensor in file.made if tensor not in ranged}
    maker = {tensor: each for each in file.operations for tensor in each.outputs}
    chosen: list[Operation] = []
    for operation in file.operations:
        if operation.name == "GELU" and islands:
            chosen.append(operation)
        elif operation.name == "RSQRT" and islands:
            chosen += _normalization(file, maker, operation)
        if without.intersection((*operation.inputs, *operation.outputs)):
            chosen.append(operation)
    return list(dict.fromkeys(file.name(each.outputs[0]) for each in chosen))


def whole(
    content: bytes, quantized: bytes, floats: list[str], made: Callable[[list[str]], bytes]
) -> tuple[bytes, list[str]]:
    """Leave in float32 also what the current XNNPACK runs in float32 but not in int8.

    In int8 it has no SOFTMAX, no product of two activations, no RELU on its own, no pooling with
    padding, no ABS, EXP, LOG, PRELU or DIV: the runtime itself is asked.

    Args:
        content: The float32 file.
        quantized: The int8 file.
        floats: The names of the results that are float32 in it.
        made: Makes the int8 file of such names.

    Returns:
        An int8 file of which less is outside XNNPACK, if there is one, and its names.
    """
    left = results_outside(quantized)
    anyway = set(results_outside(content)) if left else set()
    for _ in range(_ROUNDS):
        more = [name for name in left if name not in anyway and name not in floats]
        if not more:
            break
        found = made([*floats, *more])
        still = results_outside(found)
        if len(still) >= len(left):
            break
        quantized, floats, left = found, [*floats, *more], still
    return quantized, floats


def _normalization(file: TracedFile, maker, root: Operation) -> list[Operation]:
    """All operations of the layer normalization around a reciprocal root; none if there is none."""
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
