"""Classifying image files with a Keras model or a `.tflite` file."""

import os
from collections.abc import Sequence

import keras
import numpy as np

from keras_parc.lite.file.runtime import TFLiteModel
from keras_parc.models.inputs import input_size, model_input
from keras_parc.tasks.outputs import class_scores
from keras_parc.tasks.predictions import Prediction


def classify(
    model: keras.Model | TFLiteModel, paths: list[str | os.PathLike], size: int = 256
) -> np.ndarray:
    """Classify image files.

    Args:
        model: A classifier, see `keras_parc.tasks.model_files.load_model`.
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
        >>> from PIL import Image
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


def predict(
    model: keras.Model | TFLiteModel,
    paths: Sequence[str | os.PathLike],
    names: Sequence[str],
    *,
    top: int = 3,
) -> list[Prediction]:
    """The best guesses for image files, see `keras_parc.tasks.task.Task`.

    Args:
        model: A classifier.
        paths: Image files.
        names: The name of each class.
        top: Guesses for an image, at least 1.

    Returns:
        For each image its guesses, best first.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not an image.
    """
    predictions = []
    for path, row in zip(paths, classify(model, paths), strict=True):
        guesses = [{"class": names[i], "score": float(row[i])} for i in (-row).argsort()[:top]]
        cells = [f"{each['class']}  {each['score']:.3f}" for each in guesses]
        predictions.append(Prediction({"image": str(path), "guesses": guesses}, [cells]))
    return predictions


def columns(top: int) -> list[str]:
    """The head of the table of predictions."""
    return ["image", *(f"guess {number + 1}" for number in range(top))]
