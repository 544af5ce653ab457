"""Calibration images from arrays, a folder of image files or a data set, checked."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import keras
import numpy as np

from keras_parc.data.skipped import SkippedImages
from keras_parc.models.inputs import model_input, takes_pixels
from keras_parc.support.images import image_files

MAX_IMAGES = 500


def calibration_images(
    source: str | os.PathLike | Iterable | None,
    shape: tuple[int, int, int],
    model: keras.Model,
    limit: int = MAX_IMAGES,
) -> list[np.ndarray]:
    """Collect and check the images that int8 ranges are measured on.

    Args:
        source: One of
            - images as the model takes them: an array `(n, height, width, channels)` or an
              iterable of `(height, width, channels)`;
            - a `tf.data` or TFDS data set of images, `(image, label)` pairs or dictionaries with
              an "image", batched or not;
            - a folder: its image files, also in subfolders, read as `keras-parc predict` reads
              them; damaged ones, 100 at most, are left out and named. If there are more than
              `limit`, evenly spaced ones, so that every class is among them.
        shape: `(height, width, channels)` of the export.
        model: The model to be exported: whether it rescales pixels itself decides the range.
        limit: How many images to take at most, at least 1. All but folders give their first ones.

    Returns:
        The images, float32.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: No images, or one of the wrong shape or range, or not finite.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), include_preprocessing=True)
        >>> pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3))
        >>> len(calibration_images(pixels, (32, 32, 3), model))
        5
    """
    if source is None:
        raise ValueError("`quantize='int8'` needs `calibration` images from the training data.")
    if limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}.")
    if isinstance(source, (str, os.PathLike)):
        found = _from_folder(Path(source), shape, model, limit)
    elif isinstance(source, Iterable) and not isinstance(source, dict):
        found = _from_elements(source, len(shape))
    else:
        raise ValueError(
            "`calibration` must be a folder, an array of images, or an iterable of them, got "
            f"{type(source).__name__}."
        )
    images = []
    for count, image in enumerate(islice(found, limit), 1):
        image = _numbers(image, count)
        if image.shape != shape:
            raise ValueError(
                f"Calibration image {count} must be {shape} (height, width, channels), got "
                f"{image.shape}."
            )
        if not np.isfinite(image).all():
            raise ValueError(f"Calibration image {count} holds NaN or infinity.")
        images.append(image)
    if not images:
        raise ValueError("`calibration` holds no images; several hundred are needed.")
    _check_range(images, model)
    return images


def _numbers(image, count: int) -> np.ndarray:
    try:
        return np.asarray(image, "float32")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Calibration image {count} is not an array of numbers: {error}. To calibrate on image "
            "files, pass the path of their folder."
        ) from error


def _from_elements(source: Iterable, rank: int) -> Iterator[np.ndarray]:
    for number, element in enumerate(source, 1):
        if isinstance(element, dict):
            if "image" not in element:
                raise ValueError(
                    f"The calibration data set has no 'image', only {sorted(element)}."
                )
            element = element["image"]
        elif isinstance(element, tuple):
            element = element[0]
        element = _numbers(element, number)
        yield from element if element.ndim == rank + 1 else (element,)


def _from_folder(folder: Path, shape, model: keras.Model, limit: int) -> Iterator[np.ndarray]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder of calibration images {str(folder)!r}.")
    if shape[-1] != 3:
        raise ValueError(f"Image files have 3 channels, the model takes {shape[-1]}: pass arrays.")
    paths = [path for path, is_image in image_files(folder) if is_image]
    if not paths:
        raise ValueError(f"The folder {str(folder)!r} holds no image files.")
    chosen = np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)
    skipped = SkippedImages()
    for number in chosen:
        try:
            image = model_input(model, paths[number], shape[:2])
        except ValueError as error:
            skipped.skip(str(paths[number]), b"", str(error))
        else:
            yield image


def _check_range(images: list[np.ndarray], model: keras.Model) -> None:
    rescales = any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    low, high = min(image.min() for image in images), max(image.max() for image in images)
    if high == low:
        raise ValueError(f"All values of all calibration images are {low}.")
    if rescales and (low < 0 or high <= 1 or high > 255):
        raise ValueError(
            f"{model.name!r} rescales its input itself and takes pixels 0..255; the calibration "
            f"images lie in {low:.3g}..{high:.3g}."
        )
    if not takes_pixels(model) and low >= 0 and high > 16:
        raise ValueError(
            f"{model.name!r} has no preprocessing inside, but the calibration images look like "
            f"pixels ({low:.3g}..{high:.3g}): scale them as in training."
        )
