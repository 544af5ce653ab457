"""Calibration images from arrays, a folder of image files or a data set, checked."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import keras
import numpy as np
from keras import tree

from keras_parc.data.skipped import SkippedImages
from keras_parc.lite.rewrite.signature import ModelInput, ModelInputs
from keras_parc.models.inputs import InputScale, input_scale, known_scale, short_side_of
from keras_parc.support.images import image_files, load_image

MAX_IMAGES = 500


def calibration_images(
    source: str | os.PathLike | Iterable | None,
    inputs: ModelInputs,
    model: keras.Model,
    limit: int = MAX_IMAGES,
    input_range: str | None = None,
) -> list[np.ndarray]:
    """Collect and check the images that int8 ranges are measured on.

    Args:
        source: One of
            - images as the model takes them: an array `(n, height, width, channels)` or an
              iterable of `(height, width, channels)`; or a dictionary that has that by the name
              of the input, or as "image";
            - a `tf.data` or TFDS data set of images, `(image, label)` pairs or dictionaries with
              an "image" or that name, batched or not;
            - a folder: its image files, also in subfolders, read as `keras-parc predict` reads
              them; damaged ones, 100 at most, are left out and named. If there are more than
              `limit`, evenly spaced ones, so that every class is among them.
        inputs: What the model takes in the export.
        model: The model to be exported.
        limit: How many images to take at most, at least 1. All but folders give their first ones.
        input_range: What the model takes, a name of `keras_parc.models.inputs.INPUT_RANGES`;
            default: what it says itself. Images that do not fit are warned of.

    Returns:
        The images, float32; of a model of several inputs tuples of arrays.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: No images, or one of the wrong shape, or not finite; all of one value; or a
            folder, and nothing tells what the model takes.

    Example:
        >>> import keras_parc
        >>> from keras_parc.lite.rewrite.signature import model_inputs
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), include_preprocessing=True)
        >>> pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3))
        >>> len(calibration_images(pixels, model_inputs(model), model))
        5
    """
    if source is None:
        raise ValueError("`quantize='int8'` needs `calibration` images from the training data.")
    if limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}.")
    if len(inputs.entries) > 1:
        return list(islice(_examples(source, inputs, model), limit))
    (shape,) = (each.shape for each in inputs.entries)
    own = [each.name for each in getattr(model, "inputs", None) or ()]
    names = ["image", inputs.entries[0].name, *own]
    if isinstance(source, dict):
        source = _of_the_input(source, names)
    if isinstance(source, (str, os.PathLike)):
        found = _from_folder(Path(source), shape, model, limit, input_range)
    elif isinstance(source, Iterable):
        found = _from_elements(source, len(shape), names)
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
        raise ValueError(
            "`calibration` holds no images that can be used; several hundred are needed."
        )
    _check_range(images, model.name, known_scale(model, input_range))
    return images


def _numbers(image, count: int) -> np.ndarray:
    try:
        return np.asarray(image, "float32")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Calibration image {count} is not an array of numbers: {error}. To calibrate on image "
            "files, pass the path of their folder."
        ) from error


def _of_the_input(values: dict, names: Sequence[str]):
    for name in names:
        if name in values:
            return values[name]
    raise ValueError(f"The calibration data has no {names[-1]!r}, only {sorted(values)}.")


def _from_elements(source: Iterable, rank: int, names: Sequence[str]) -> Iterator[np.ndarray]:
    for number, element in enumerate(source, 1):
        if isinstance(element, dict):
            element = _of_the_input(element, names)
        elif isinstance(element, tuple):
            element = element[0]
        element = _numbers(element, number)
        yield from element if element.ndim == rank + 1 else (element,)


def _examples(source, inputs: ModelInputs, model) -> Iterator[tuple[np.ndarray, ...]]:
    """Examples of several inputs, from arrays or an iterable, nested as the model takes them."""
    names = [each.name for each in inputs.entries]
    says = (
        f"`calibration` of {model.name!r} must be nested as its inputs {names}: arrays "
        "`(n, ...)` for each, or an iterable of examples"
    )

    def flat(nested) -> list | None:
        if isinstance(nested, dict) and set(nested) == set(names):
            return [nested[name] for name in names]
        try:
            tree.assert_same_structure(
                tree.lists_to_tuples(nested), tree.lists_to_tuples(inputs.structure)
            )
        except (TypeError, ValueError):
            return None
        return tree.flatten(nested)

    if isinstance(source, (str, os.PathLike)):
        raise ValueError(f"{says}; a folder has images alone.")
    arrays = flat(source)
    if arrays is not None:
        counts = {len(each) for each in arrays}
        if len(counts) > 1:
            raise ValueError(f"{says}; these have {sorted(counts)} examples.")
        elements = zip(*arrays, strict=True)
    else:
        elements = (flat(x) or (flat(x[0]) if isinstance(x, tuple) else None) for x in source)
    for count, element in enumerate(elements, 1):
        if element is None:
            raise ValueError(f"{says}; example {count} is not.")
        yield tuple(
            _checked(value, each, count)
            for value, each in zip(element, inputs.entries, strict=True)
        )


def _checked(value, each: ModelInput, count: int) -> np.ndarray:
    value = np.asarray(value, each.dtype)
    if value.shape == (1, *each.shape):
        value = value[0]
    if value.shape != each.shape:
        raise ValueError(
            f"Calibration example {count} has {value.shape} for {each.name!r}, expected "
            f"{each.shape}."
        )
    if not np.isfinite(value).all():
        raise ValueError(f"Calibration example {count} holds NaN or infinity in {each.name!r}.")
    return value


def _from_folder(folder: Path, shape, model, limit: int, input_range) -> Iterator[np.ndarray]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder of calibration images {str(folder)!r}.")
    if len(shape) != 3 or shape[-1] != 3:
        raise ValueError(
            f"Image files are (height, width, 3), {model.name!r} takes {shape}: pass arrays to "
            "`keras_parc.to_tflite`."
        )
    paths = [path for path, is_image in image_files(folder) if is_image]
    if not paths:
        raise ValueError(f"The folder {str(folder)!r} holds no image files.")
    scale = input_scale(model, input_range)
    short_side = short_side_of(model, shape[:2])
    chosen = np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)
    skipped = SkippedImages()
    for number in chosen:
        try:
            image = scale.of(load_image(paths[number], shape[:2], short_side))
        except ValueError as error:
            skipped.skip(str(paths[number]), b"", str(error))
        else:
            yield image


def _check_range(images: list[np.ndarray], name: str, scale: InputScale | None) -> None:
    low, high = min(image.min() for image in images), max(image.max() for image in images)
    if high == low:
        raise ValueError(f"All values of all calibration images are {low}.")
    if scale is None:
        return
    black, white = scale.limits()
    span = white - black
    if low < black - 0.05 * span or high > white + 0.05 * span or high - low < 0.02 * span:
        warnings.warn(
            f"{name!r} takes images of {black:.3g} to {white:.3g}, the calibration images lie in "
            f"{low:.3g} to {high:.3g}. Scale them as in training, or state what it takes with "
            "`input_range`.",
            stacklevel=3,
        )
