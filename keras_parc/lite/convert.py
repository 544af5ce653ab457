"""Conversion of a Keras model to a `.tflite` file of built-in operations only."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np

from keras_parc.files import replacing


def to_tflite(
    model: keras.Model,
    path: str | os.PathLike,
    input_size: tuple[int, int] | None = None,
    quantize: str | None = None,
    calibration: Iterable[np.ndarray] | None = None,
) -> Path:
    """Convert a model to a `.tflite` file with a fixed input of one image.

    Args:
        model: A Keras model over one image input, `(batch, height, width, channels)`.
        path: The file to write, ending in `.tflite`. Written under a temporary name and renamed.
        input_size: `(height, width)` in pixels; default: the model's own. Needed when that is
            unknown.
        quantize: None for float32, or "int8": weights per channel and activations in int8, input
            and output stay float32.
        calibration: For "int8": images as the model takes them, `(n, height, width, channels)` or
            an iterable of `(height, width, channels)`; a hundred or more from the training data.

    Returns:
        The path written.

    Raises:
        ValueError: An argument out of its range, an input size unknown or against the model's, or
            calibration images that are missing, of the wrong shape or not finite.
        RuntimeError: Keras does not run on TensorFlow, or the graph needs an operation that is
            not built in.

    Example:
        >>> import keras_parc, tempfile
        >>> model = keras_parc.ParCNetXS(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> keras_parc.TFLiteModel(path).input_shape
        (1, 32, 32, 3)
    """
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"Export needs the TensorFlow backend, Keras runs on {keras.config.backend()!r}. Save "
            "the model, then load and export it with KERAS_BACKEND=tensorflow."
        )
    import tensorflow as tf

    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"`path` must end in .tflite, got {str(path)!r}.")
    if quantize not in (None, "int8"):
        raise ValueError(f"`quantize` must be None or 'int8', got {quantize!r}.")
    shape = _input_shape(model, input_size)
    signature = tf.TensorSpec((1, *shape), tf.float32, name="image")
    function = tf.function(lambda image: model(image, training=False), input_signature=[signature])
    # Given the Keras model itself, the converter leaves the variables out of the file.
    holder = tf.Module()
    holder.variables_held = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], holder
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize == "int8":
        images = list(_calibration_images(calibration, shape))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
    try:
        content = converter.convert()
    except Exception as error:  # the converter's own error class is not public
        raise RuntimeError(
            f"{model.name!r} cannot be converted to built-in operations: {error}"
        ) from error
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def _input_shape(model, input_size) -> tuple[int, int, int]:
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        raise ValueError(f"A model over one image input is needed, got the inputs {shapes}.")
    height, width, channels = model.inputs[0].shape[1:]
    if input_size is None:
        input_size = (height, width)
    if None in input_size:
        raise ValueError(
            f"The input size of {model.name!r} is not fixed: pass `input_size=(height, width)`."
        )
    for side, own, wanted in zip(("height", "width"), (height, width), input_size, strict=True):
        if own not in (None, wanted):
            raise ValueError(
                f"`input_size` asks for {side} {wanted}, but {model.name!r} is built for {own}. "
                "Build it with that size, or with None for both sides."
            )
    return (*input_size, channels)


def _calibration_images(calibration, shape) -> Iterator[np.ndarray]:
    if calibration is None:
        raise ValueError("`quantize='int8'` needs `calibration` images from the training data.")
    count = 0
    for count, image in enumerate(calibration, 1):
        image = np.asarray(image, "float32")
        if image.shape != shape:
            raise ValueError(
                f"Calibration image {count} must be {shape} (height, width, channels), got "
                f"{image.shape}."
            )
        if not np.isfinite(image).all():
            raise ValueError(f"Calibration image {count} holds NaN or infinity.")
        yield image
    if not count:
        raise ValueError("`calibration` holds no images; a hundred or more are needed.")
