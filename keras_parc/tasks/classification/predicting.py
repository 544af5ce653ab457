"""Image files through a `.keras` or a `.tflite` file."""

import os

import keras
import numpy as np

from keras_parc.lite.file.runtime import TFLiteModel
from keras_parc.models.inputs import input_size, model_input
from keras_parc.tasks.outputs import class_scores
from keras_parc.weights.loading import constructors


def zoo_classifier(name: str, weights: str | os.PathLike, classes: int = 1000) -> keras.Model:
    """Build a classifier of this package by its name, with weights, to take RGB 0..255.

    Args:
        name: Name of a constructor, as `"ParCNetS"`.
        weights: What the constructor takes as `weights`.
        classes: Number of classes.

    Returns:
        A Keras model for images of any size.

    Raises:
        FileNotFoundError: There is no such file of weights.
        ValueError: There is no such model, or the weights are not its.

    Example:
        >>> zoo_classifier("ParCNetXXL", "xxl.weights.h5")
        Traceback (most recent call last):
        ValueError: 'ParCNetXXL' is neither a .keras or .tflite file nor one of MobileViTS, ...
    """
    models = constructors()
    if name not in models:
        raise ValueError(
            f"{name!r} is neither a .keras or .tflite file nor one of {', '.join(models)}."
        )
    return models[name](
        weights=weights, classes=classes, input_shape=(None, None, 3), include_preprocessing=True
    )


def classify(
    model: keras.Model | TFLiteModel, paths: list[str | os.PathLike], size: int = 256
) -> np.ndarray:
    """Classify image files.

    Args:
        model: What `load_model` returns.
        paths: Image files.
        size: Side in pixels for a model without a fixed input size.

    Returns:
        `(n, classes)`: what the model puts out.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not an image, or the model is not a classifier of images.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/photo.png"
        >>> Image.new("RGB", (300, 200), "white").save(path)
        >>> image = keras.Input((32, 32, 3))
        >>> model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
        >>> classify(model, [path, path]).shape
        (2, 3)
    """
    sides = input_size(model, size)
    scores = class_scores(model, np.stack([model_input(model, path, sides) for path in paths]))
    if scores.ndim != 2:
        raise ValueError(f"The model is not a classifier: its output is {scores.shape}.")
    return scores
