"""From a float32 `.tflite` file to an int8 one, with the ranges of `ranges`."""

import logging
from collections.abc import Sequence

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.process import TaskError, conversion_process
from keras_parc.lite.quantize.bias_correction import HELD_OUT, closer, correct_biases
from keras_parc.lite.quantize.float_islands import float_operations, whole
from keras_parc.lite.quantize.ranges import DEFAULT, NARROWEST_INPUT, Ranges, choose_ranges
from keras_parc.lite.quantize.traced_file import TracedFile
from keras_parc.support.text import one_line

log = logging.getLogger(__name__)


def quantize(
    content: bytes,
    images: Sequence[np.ndarray],
    input_type: str = "float32",
    output_type: str = "float32",
    method: str = DEFAULT,
    correct: bool = True,
    target: str = "litert",
) -> bytes:
    """Quantize a float32 file: int8 activations, int8 weights per channel, int32 biases.

    GELU, layer normalization and masks stay float32; see `float_islands`. For "litert" so does what
    XNNPACK runs in float32 but not in int8, such as the SOFTMAX of an attention; for "npu", nothing
    but masks does. The same file and images give the same bytes.

    Args:
        content: The bytes of a float32 file over one image.
        images: Calibration images `(height, width, channels)`, as the model takes them; several
            hundred from the training data.
        input_type: Type of the input: "float32", "uint8" or "int8".
        output_type: Type of the outputs.
        method: How ranges are chosen; see `choose_ranges`. With the default, the least and largest
            values are taken as ranges where that is a decibel closer on the images.
        correct: Whether to make up for the rounding in the biases; see `correct_biases`.
        target: "litert", "portable" or "npu", as for `to_tflite`.

    Returns:
        The bytes of the int8 file.

    Raises:
        ValueError: An unknown method, no images, or values that are not finite.
        RuntimeError: The file cannot be quantized, or the conversion process died.

    Example:
        >>> import keras_parc, numpy, pathlib, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> content = pathlib.Path(path).read_bytes()
        >>> len(quantize(content, numpy.random.rand(2, 32, 32, 3))) < len(content)
        True
    """
    with conversion_process() as process:
        process.start()
        file = TracedFile(content)
        products = [each for each in file.operations if each.name == "BATCH_MATMUL"]
        matrices = [
            file.constant(each.inputs[1]) for each in products if each.inputs[1] not in file.made
        ]

        def made(ranges: Ranges, floats: list[str]) -> bytes:
            ranged = _with_ranges(content, ranges)
            try:
                found = process.run("quantize", ranged, input_type, output_type, floats)
            except TaskError as error:
                reason = one_line(str(error), 200) or "it gives no reason"
                raise RuntimeError(
                    f"TensorFlow Lite's quantizer fails on this model: {reason}. Export it with "
                    "`quantize=None`, 'float16' or 'dynamic'."
                ) from error
            model = flatbuffer.read(found)
            _coarsen_addends(model)
            flatbuffer.symmetric_products(model, matrices)
            return flatbuffer.write(model)

        ranges = choose_ranges(file, images, method)
        floats = float_operations(file, ranges, islands=target != "npu")
        quantized = made(ranges, floats)
        if target == "litert":
            quantized, floats = whole(
                content, quantized, floats, lambda floats: made(ranges, floats)
            )
        if method == DEFAULT:
            few = images[:: -(-len(images) // HELD_OUT)]
            other = made(choose_ranges(file, images, "minmax"), floats)
            quantized = closer(file, quantized, other, few)
    if not correct:
        return quantized
    try:
        return correct_biases(content, quantized, images)
    except (RuntimeError, ValueError) as error:  # as of the loop in a recurrent network
        log.warning("The biases are not corrected: %s", one_line(str(error), 200))
        return quantized


def _with_ranges(content: bytes, ranges: Ranges) -> bytes:
    """The file with ranges in the place where the converter's calibration would write its own."""
    model = flatbuffer.read(content)
    for tensor, (low, high) in ranges.items():
        quantization = flatbuffer.schema.QuantizationParametersT()
        quantization.min, quantization.max = np.float32([low]), np.float32([high])
        model.subgraphs[0].tensors[tensor].quantization = quantization
    return flatbuffer.write(model)


def _coarsen_addends(model) -> None:
    """Give tiny added constants a scale that XNNPACK takes; the rounding hardly matters there."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if flatbuffer.kind(model, operator) != flatbuffer.BUILTIN.ADD:
            continue
        result = graph.tensors[operator.outputs[0]]
        for tensor in (graph.tensors[each] for each in operator.inputs):
            data = model.buffers[tensor.buffer].data
            if data is None or not len(data) or tensor.type != flatbuffer.TYPES["int8"]:
                continue
            min_scale = result.quantization.scale[0] * NARROWEST_INPUT
            scale, zero = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
            if scale < min_scale:
                values = np.asarray(data, "uint8").view("int8") - zero
                values = np.rint(values * (scale / min_scale))
                model.buffers[tensor.buffer].data = values.astype("int8").view("uint8")
                tensor.quantization.scale = np.float32([min_scale])
                tensor.quantization.zeroPoint = np.int64([0])
