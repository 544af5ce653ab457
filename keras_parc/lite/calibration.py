"""Calibration images, and the range of every tensor over them.

TensorFlow's calibrator is not used for the ranges: it reads an operation's inputs after having run
it, and TensorFlow Lite runs elementwise operations in place. In `x * relu6(x + 3)` it records the
product's range for the relu6, ten times too wide or more; so for every residual sum. Here the
tensors are kept apart.
"""

import keras
import numpy as np

from keras_parc.lite import flatbuffer


def observe_ranges(content: bytes, images: list[np.ndarray]) -> bytes:
    """Write into a float file, made for quantization, what range its tensors have.

    Args:
        content: The file, with a range for each tensor that is to be quantized; it is replaced.
        images: `(height, width, channels)` each.

    Returns:
        The file with the smallest and largest value of each such tensor over the images.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    file = flatbuffer.read(content)
    tensors = file.subgraphs[0].tensors
    wanted = [
        index
        for index, tensor in enumerate(tensors)
        if tensor.quantization is not None and tensor.quantization.min is not None
    ]
    low, high = np.full(len(wanted), np.inf), np.full(len(wanted), -np.inf)
    (entry,) = interpreter.get_input_details()
    for image in images:
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        for i, index in enumerate(wanted):
            values = interpreter.get_tensor(index)
            low[i], high[i] = min(low[i], values.min()), max(high[i], values.max())
    for i, index in enumerate(wanted):
        tensors[index].quantization.min = np.float32([low[i]])
        tensors[index].quantization.max = np.float32([high[i]])
    return flatbuffer.write(file)


def calibration_images(calibration, shape, model: keras.Model) -> list[np.ndarray]:
    """Check calibration images, `(height, width, channels)` each, and return them as float32.

    Raises:
        ValueError: None at all, or one of the wrong shape or range, or not finite.
    """
    if calibration is None:
        raise ValueError("`quantize='int8'` needs `calibration` images from the training data.")
    images = []
    for count, image in enumerate(calibration, 1):
        image = np.asarray(image, "float32")
        if image.shape != shape:
            raise ValueError(
                f"Calibration image {count} must be {shape} (height, width, channels), got "
                f"{image.shape}."
            )
        if not np.isfinite(image).all():
            raise ValueError(f"Calibration image {count} holds NaN or infinity.")
        images.append(image)
    if not images:
        raise ValueError("`calibration` holds no images; a hundred or more are needed.")
    _check_range(images, model)
    return images


def _check_range(images: list[np.ndarray], model: keras.Model) -> None:
    low, high = min(image.min() for image in images), max(image.max() for image in images)
    kinds = {type(layer).__name__ for layer in model.layers}
    if high == low:
        raise ValueError(f"All calibration images are the same one value, {low}.")
    if "Rescaling" in kinds and (low < 0 or high <= 1 or high > 255):
        raise ValueError(
            f"{model.name!r} rescales its input itself and takes pixels 0..255; the calibration "
            f"images lie in {low:.3g}..{high:.3g}."
        )
    if not kinds & {"Rescaling", "Normalization"} and low >= 0 and high > 16:
        raise ValueError(
            f"{model.name!r} has no preprocessing inside, but the calibration images look like "
            f"pixels ({low:.3g}..{high:.3g}): scale them as in training."
        )
