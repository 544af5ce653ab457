"""Classifying image files with a Keras model or a `.tflite` file."""

import functools
import os
from collections.abc import Sequence

import keras
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_parc.lite.file.runtime import TFLiteModel
from keras_parc.models.inputs import check_values, input_scale, input_size, short_side_of
from keras_parc.support.images import load_image, open_image
from keras_parc.tasks.outputs import class_scores
from keras_parc.tasks.predictions import Prediction, in_batches


def classify(
    model: keras.Model | TFLiteModel,
    paths: list[str | os.PathLike],
    size: int = 256,
    input_range: str | None = None,
) -> np.ndarray:
    """Classify image files.

    Args:
        model: A classifier, see `keras_parc.tasks.model_files.load_model`.
        paths: Image files.
        size: Side in pixels for a model without a fixed input size.
        input_range: What the model takes, a name of `keras_parc.models.inputs.INPUT_RANGES`; None:
            what it says itself.

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
        >>> classify(model, [path, path], input_range="0..255").shape
        (2, 3)
    """
    sides, scale = input_size(model, size), input_scale(model, input_range)
    short_side = short_side_of(model, sides)
    if not paths:
        raise ValueError("There are no images to classify.")
    found = []
    for some in in_batches(paths):
        images = scale.of(np.stack([load_image(path, sides, short_side) for path in some]))
        if isinstance(model, keras.Model):  # a file looks itself
            check_values(images, scale)
        found.append(class_scores(model, images))
    scores = np.concatenate(found)
    if scores.ndim != 2:
        raise ValueError(f"The model is not a classifier: its output is {scores.shape}.")
    return scores


def predict(
    model: keras.Model | TFLiteModel,
    paths: Sequence[str | os.PathLike],
    names: Sequence[str],
    *,
    top: int = 3,
    input_range: str | None = None,
) -> list[Prediction]:
    """The best guesses for image files, see `keras_parc.tasks.task.Task`.

    Args:
        model: A classifier.
        paths: Image files.
        names: The name of each class.
        top: Guesses for an image, at least 1.
        input_range: As for `classify`.

    Returns:
        For each image its guesses, best first, and a picture with the best.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not an image.
    """
    predictions = []
    for path, row in zip(paths, classify(model, paths, input_range=input_range), strict=True):
        guesses = [{"class": names[i], "score": float(row[i])} for i in (-row).argsort()[:top]]
        cells = [f"{each['class']}  {each['score']:.3f}" for each in guesses]
        picture = functools.partial(_picture, path, cells[0])
        predictions.append(Prediction({"image": str(path), "guesses": guesses}, [cells], picture))
    return predictions


def _picture(path: str | os.PathLike, guess: str) -> Image.Image:
    """The image with the best guess in a corner."""
    picture = open_image(path)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(10, round(min(picture.size) / 20)))
    pen.rectangle(pen.textbbox((0, 0), guess, font), fill="black")
    pen.text((0, 0), guess, "white", font)
    return picture


def columns(top: int) -> list[str]:
    """The head of the table of predictions."""
    return ["image", *(f"guess {number + 1}" for number in range(top))]
