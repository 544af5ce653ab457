"""Segmenting image files with a Keras or a `.tflite` segmenter."""

import os
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from keras_parc.lite.file.runtime import TFLiteModel
from keras_parc.models.inputs import input_size, model_scale
from keras_parc.support.class_maps import painted
from keras_parc.support.files import replacing
from keras_parc.support.images import open_image
from keras_parc.tasks.segmentation.measuring import class_map, segmentation_logits


def segment_files(
    model: keras.Model | TFLiteModel, paths: list[str | os.PathLike], size: int = 512
) -> list[np.ndarray]:
    """Find the class of every pixel of image files.

    Args:
        model: A segmenter, as `keras_parc.tasks.model_files.load_model` returns it.
        paths: Image files.
        size: Side in pixels for a model without a fixed input size. Images are stretched to it.

    Returns:
        A class map for each file, int64 of the size of its image.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not an image, or the model is not a segmenter of images.
    """
    height, width = input_size(model, size)
    maps = []
    for path in paths:
        image = open_image(path)
        small = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = model_scale(model, np.asarray(small, "float32")[None])
        maps.append(class_map(segmentation_logits(model, pixels)[0], (image.height, image.width)))
    return maps


def save_painted(path: str | os.PathLike, image: str | os.PathLike, classes: np.ndarray) -> Path:
    """Write an image file with the colours of a class map over it.

    Args:
        path: The picture to write.
        image: The image file the map is of.
        classes: What `segment_files` found in it.

    Returns:
        The path written.

    Raises:
        OSError: The picture cannot be written.
    """
    path = Path(path)
    with replacing(path) as temporary:
        Image.fromarray(painted(np.asarray(open_image(image)), classes)).save(temporary)
    return path
