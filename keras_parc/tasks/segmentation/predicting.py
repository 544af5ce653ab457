"""Segmenting image files with a Keras or a `.tflite` segmenter."""

import functools
import os
from collections.abc import Sequence

import keras
import numpy as np
from PIL import Image

from keras_parc.lite.file.runtime import TFLiteModel
from keras_parc.models.deeplab_v3 import low_resolution
from keras_parc.models.inputs import check_values, input_scale, input_size
from keras_parc.support.class_maps import painted
from keras_parc.support.images import open_image, resize
from keras_parc.tasks.predictions import Prediction
from keras_parc.tasks.segmentation.measuring import class_map, segmentation_logits


def segment_files(
    model: keras.Model | TFLiteModel,
    paths: list[str | os.PathLike],
    size: int = 512,
    input_range: str | None = None,
) -> list[np.ndarray]:
    """Find the class of every pixel of image files.

    Args:
        model: A segmenter, as `keras_parc.tasks.model_files.load_model` returns it.
        paths: Image files.
        size: Side in pixels for a model without a fixed input size. Images are stretched to it.
        input_range: What the model takes, a name of `keras_parc.models.inputs.INPUT_RANGES`; None:
            what it says itself.

    Returns:
        A class map for each file, int64 of the size of its image.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not an image, or the model is not a segmenter of images.
    """
    (height, width), scale = input_size(model, size), input_scale(model, input_range)
    maps, model = [], low_resolution(model)  # once: each is a new one to compile
    for path in paths:
        image = open_image(path)
        small = resize(np.asarray(image), (height, width))
        pixels = scale.of(small[None])
        if isinstance(model, keras.Model):  # a file looks itself
            check_values(pixels, scale)
        maps.append(class_map(segmentation_logits(model, pixels)[0], (image.height, image.width)))
    return maps


def predict(
    model: keras.Model | TFLiteModel,
    paths: Sequence[str | os.PathLike],
    names: Sequence[str],
    *,
    top: int = 3,
    input_range: str | None = None,
) -> list[Prediction]:
    """The class of every pixel of image files, see `keras_parc.tasks.task.Task`.

    Args:
        model: A segmenter.
        paths: Image files.
        names: The name of each class.
        top: Classes of an image in the table, the largest first, at least 1.
        input_range: As for `segment_files`.

    Returns:
        For each image the share of its pixels that each class has, and a painted picture.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not an image.
    """
    predictions = []
    for path, classes in zip(
        paths, segment_files(model, paths, input_range=input_range), strict=True
    ):
        shares = np.bincount(classes.ravel(), minlength=len(names)) / classes.size
        found = [i for i in (-shares).argsort(kind="stable") if shares[i]]
        pixels = [{"class": names[i], "share": float(shares[i])} for i in found]
        predictions.append(
            Prediction(
                {"image": str(path), "pixels": pixels},
                [[each["class"], f"{100 * each['share']:.1f} %"] for each in pixels[:top]],
                functools.partial(picture, path, classes),
            )
        )
    return predictions


def picture(path: str | os.PathLike, classes: np.ndarray) -> Image.Image:
    """An image file with the colours of its class map over it.

    Args:
        path: The image file.
        classes: What `segment_files` found in it.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is not an image, or of another size than the map.
    """
    return Image.fromarray(painted(np.asarray(open_image(path)), classes))


def columns(top: int) -> list[str]:
    """The head of the table of predictions."""
    return ["image", "class", "of the pixels"]
