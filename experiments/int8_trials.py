"""Two steps that were measured and brought nothing; the table is made by `int8_steps`.

The weights are not what hurts: per channel, their noise is far below that of the activations.
"""

import copy
from collections.abc import Sequence

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.quantize.explain import IsolatedOperations, match
from keras_parc.lite.quantize.traced_file import TracedFile

CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D"}
NARROWEST_CHANNEL = 1 / 64


def correct_biases(content: bytes, quantized: bytes, images: Sequence[np.ndarray]) -> bytes:
    """Take the mean error that each int8 convolution adds out of its bias, channel by channel.

    Args:
        content: The float32 file.
        quantized: The int8 file made from it.
        images: `(height, width, channels)` each.

    Returns:
        The int8 file with other biases.
    """
    reference, coarse = TracedFile(content), TracedFile(quantized)
    isolated = IsolatedOperations(content)
    pairs = match(reference, coarse)
    wanted = [(o, t) for place, o, t in pairs if reference.operations[place].name in CONVOLUTIONS]
    errors = dict.fromkeys((theirs for _, theirs in wanted), 0.0)
    for image in images:
        coarse.run(image)
        isolated.run({o: coarse.value(t).reshape(reference.shape(o)) for _, o, t in pairs}, image)
        for ours, theirs in wanted:
            difference = coarse.value(theirs) - isolated.value(ours)
            errors[theirs] = errors[theirs] + difference.mean((0, 1, 2)) / len(images)
    model = flatbuffer.read(quantized)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        error = errors.get(int(operator.outputs[0]))
        if error is not None:
            bias = graph.tensors[operator.inputs[2]]
            values = np.asarray(model.buffers[bias.buffer].data, "uint8").view("int32")
            steps = np.rint(error / np.asarray(bias.quantization.scale)).astype("int32")
            flatbuffer.set_constant(model, operator.inputs[2], values - steps)
    return flatbuffer.write(model)


def equalize(content: bytes, images: Sequence[np.ndarray]) -> bytes:
    """Give the channels of every linear tensor one range: scale what makes it, unscale readers.

    Possible where only convolutions, sums, means and moves touch the tensor: the residual
    streams and the ParC parts, not what an activation reads or makes.

    Args:
        content: The float32 file.
        images: `(height, width, channels)` each.

    Returns:
        A float32 file of the same function.
    """
    model, file = flatbuffer.read(content), TracedFile(content)
    graph = model.subgraphs[0]
    scales = _scales(file, _groups(model, file), images)
    for operator, operation in zip(graph.operators, file.operations, strict=True):
        into, out = scales.get(operation.inputs[0]), scales.get(operation.outputs[0])
        operator.inputs = np.array(operator.inputs)
        if operation.name in CONVOLUTIONS:
            weights = flatbuffer.constant(model, operator.inputs[1])
            if into is not None:
                weights = weights * into
            if out is not None:
                shape = (-1, 1, 1, 1) if operation.name == "CONV_2D" else (1, 1, 1, -1)
                weights = weights / out.reshape(shape)
                bias = flatbuffer.constant(model, operator.inputs[2]) / out
                operator.inputs[2] = _tensor(model, operator.inputs[2], bias)
            operator.inputs[1] = _tensor(model, operator.inputs[1], weights)
        elif operation.name == "ADD" and out is not None:
            for place, tensor in enumerate(operator.inputs):
                if int(tensor) not in scales:
                    shift = flatbuffer.constant(model, tensor) / out
                    operator.inputs[place] = _tensor(model, tensor, shift)
    return flatbuffer.write(model)


def _groups(model, file: TracedFile) -> list[list[int]]:
    """Tensors whose channels must be scaled alike, without those that cannot be scaled."""
    made = set(file.made)
    root = {tensor: tensor for tensor in made}
    fixed = {int(tensor) for tensor in model.subgraphs[0].outputs}

    def find(tensor):
        while root[tensor] != tensor:
            tensor = root[tensor]
        return tensor

    for operator, operation in zip(model.subgraphs[0].operators, file.operations, strict=True):
        inputs = [tensor for tensor in operation.inputs if tensor in made]
        out = operation.outputs[0]
        if getattr(operator.builtinOptions, "fusedActivationFunction", 0):
            fixed.add(out)
        if operation.name in CONVOLUTIONS:
            continue
        joined = inputs
        if operation.name == "MUL" and len(inputs) == 2:  # A gate of one value a channel.
            joined = [each for each in inputs if file.shape(each) == file.shape(out)]
            joined = joined if len(joined) == 1 else []
            fixed |= set(inputs) - set(joined)
        elif operation.name == "ADD" and len(inputs) == 1:
            constant = next(each for each in operation.inputs if each not in made)
            joined = inputs if file.shape(constant)[-1:] == file.shape(out)[-1:] else []
        elif operation.name == "CONCATENATION":
            joined = inputs if operator.builtinOptions.axis in (1, 2) else []
        elif operation.name not in ("ADD", "MEAN", "PAD"):
            joined = []
        if not joined:
            fixed |= {out, *inputs}
        for each in joined:
            root[find(each)] = find(out)
    groups: dict[int, list[int]] = {}
    for tensor in file.made:
        groups.setdefault(find(tensor), []).append(tensor)
    return [group for group in groups.values() if not fixed & set(group)]


def _scales(file: TracedFile, groups, images) -> dict[int, np.ndarray]:
    largest = {tensor: 0.0 for group in groups for tensor in group}
    for image in images:
        file.run(image)
        for tensor in largest:
            value = np.abs(file.value(tensor))
            largest[tensor] = np.maximum(largest[tensor], value.max((0, 1, 2)))
    scales = {}
    for group in groups:
        share = np.max([largest[t] / max(largest[t].max(), 1e-30) for t in group], axis=0)
        # The square root leaves half of the difference to the weights that read the tensor.
        share = np.sqrt(np.maximum(share / max(share.max(), 1e-30), NARROWEST_CHANNEL))
        scales.update(dict.fromkeys(group, share.astype("float32")))
    return scales


def _tensor(model, like: int, values: np.ndarray) -> int:
    tensors = model.subgraphs[0].tensors
    tensors.append(copy.copy(tensors[like]))
    flatbuffer.set_constant(model, len(tensors) - 1, values.astype("float32"))
    return len(tensors) - 1


# Name to what is done before and after quantization.
TRIALS = {"correct_biases": (None, correct_biases), "equalize": (equalize, None)}
