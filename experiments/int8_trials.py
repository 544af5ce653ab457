"""Steps of int8 that the export leaves out; what they bring is in the table of `int8_steps`."""

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.quantize.bias_correction import Layer, fit_bias, layer_by_layer
from keras_parc.lite.quantize.ranges import Ranges
from keras_parc.lite.quantize.traced_file import TracedFile

CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D"}
NARROWEST_CHANNEL = 1 / 64
DAMPING = 0.01  # of the mean power of a row


def round_by_products(content: bytes, quantized: bytes, images: Sequence[np.ndarray]) -> bytes:
    """Round weights so that what layers give is right, not the weights (GPTQ, arXiv 2210.17323).

    Each row of a layer's weights is rounded in turn, and the rows behind it make up for the error
    as far as the calibration images tell them apart. The biases are corrected along with it.

    Args:
        content: The float32 file.
        quantized: The int8 file made from it.
        images: `(height, width, channels)` each.

    Returns:
        The int8 file with other weights and biases.
    """
    return layer_by_layer(content, quantized, images, _round_layer)


def _round_layer(model, layer: Layer, rows: np.ndarray, exact: np.ndarray) -> None:
    tensor = model.subgraphs[0].tensors[layer.coarse.weights]
    groups, _, outputs = layer.exact_weights.shape
    steps = np.asarray(tensor.quantization.scale, "float64").reshape(-1, 1, 1)
    steps = np.broadcast_to(steps, (groups * outputs, 1, 1)).reshape(groups, 1, outputs)
    inputs = (rows - rows.mean(0)).astype("float32").transpose(1, 0, 2)
    wanted = (exact - exact.mean(0)).astype("float32").transpose(1, 0, 2)
    square = (inputs.swapaxes(1, 2) @ inputs).astype("float64") / len(rows)
    product = (inputs.swapaxes(1, 2) @ wanted).astype("float64") / len(rows)
    count = square.shape[1]
    damping = DAMPING * np.trace(square, axis1=1, axis2=2)[:, None, None] / count + 1e-12
    square_damped = square + damping * np.eye(count)
    # What the exact weights lack on the inputs that the int8 file has, as far as they can.
    goal = layer.exact_weights.astype("float64")
    goal = goal + np.linalg.solve(square_damped, product - square @ goal)
    rounded = _rounded_in_turn(goal / steps, square_damped)
    shape = tuple(int(side) for side in tensor.shape)
    if layer.coarse.depthwise:
        values = rounded.swapaxes(0, 1).reshape(shape)
    else:
        values = rounded.swapaxes(1, 2).reshape(shape)
    flatbuffer.set_constant(model, layer.coarse.weights, values.astype("int8"))
    coarse_weights = (rounded * steps).astype("float32")
    fit_bias(model, dataclasses.replace(layer, coarse_weights=coarse_weights), rows, exact)


def _rounded_in_turn(weights: np.ndarray, square: np.ndarray) -> np.ndarray:
    """`(groups, row, outputs)` in steps; `square`: the inputs' products, `(groups, row, row)`."""
    upper = np.linalg.cholesky(np.linalg.inv(square)).swapaxes(1, 2)
    weights, rounded = weights.copy(), np.empty_like(weights)
    for row in range(weights.shape[1]):
        rounded[:, row] = np.clip(np.rint(weights[:, row]), -127, 127)
        error = (weights[:, row] - rounded[:, row]) / upper[:, row, row, None]
        weights[:, row + 1 :] -= upper[:, row, row + 1 :, None] * error[:, None]
    return rounded


def on_one_grid(content: bytes, ranges: Ranges) -> Ranges:
    """Ranges with which residual sums need no other scale: result and addends share one."""
    ranges = dict(ranges)
    for operation in TracedFile(content).operations:
        tensors = (*operation.inputs, *operation.outputs)
        if operation.name == "ADD" and all(tensor in ranges for tensor in tensors):
            lows, highs = zip(*(ranges[tensor] for tensor in tensors), strict=True)
            ranges.update(dict.fromkeys(tensors, (min(lows), max(highs))))
    return ranges


def equalize(content: bytes, images: Sequence[np.ndarray]) -> bytes:
    """Give the channels of every linear tensor one range: scale what makes it, unscale readers.

    Possible where only convolutions, sums, means and moves touch the tensor: the residual
    streams and the ParC parts, not what an activation such as ReLU6 reads or makes.

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
