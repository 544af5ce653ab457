"""Image files through a `.keras` or a `.tflite` file."""

import os
import zipfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_parc.evaluate import class_scores, input_size, model_scale
from keras_parc.lite.detector import is_detector
from keras_parc.lite.runtime import TFLiteDetector, TFLiteModel, open_model
from keras_parc.weights.loading import constructors

# The authors' evaluation rule at 256: the short side to 288, then the centre.
CENTRE = 256 / 288


def load_model(
    path: str | os.PathLike, threads: int = 1
) -> keras.Model | TFLiteModel | TFLiteDetector:
    """Open a model file, whichever of the two formats it is.

    Args:
        path: A `.keras` or a `.tflite` file.
        threads: Threads of the runtime for a `.tflite` file, at least 1.

    Returns:
        A Keras model, a `TFLiteModel` or, for a detector, a `TFLiteDetector`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is neither, or is damaged.

    Example:
        >>> import tempfile
        >>> image = keras.Input((32, 32, 3))
        >>> model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
        >>> model.save(tempfile.gettempdir() + "/tiny.keras")
        >>> load_model(tempfile.gettempdir() + "/tiny.keras").output_shape
        (None, 3)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    if path.suffix == ".tflite":
        return open_model(path, threads)
    if path.suffix != ".keras":
        raise ValueError(
            f"{str(path)!r} is not a model file: expected a name ending in .keras or .tflite."
        )
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{str(path)!r} is not a .keras file or is damaged: it is no complete zip archive."
        )
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever the content of the archive provokes
        raise ValueError(f"Keras cannot load {str(path)!r}: {error}") from error


def detects(model: keras.Model | TFLiteModel | TFLiteDetector) -> bool:
    """Whether a model finds objects: an `SSDLite`, or a file exported from one."""
    return isinstance(model, TFLiteDetector) or (
        isinstance(model, keras.Model) and is_detector(model)
    )


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


def open_image(path: str | os.PathLike) -> Image.Image:
    """Read an image file as RGB, upright.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no image file {str(path)!r}.")
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except UnidentifiedImageError as error:
        raise ValueError(f"{str(path)!r} is not an image file that Pillow can read.") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"The image file {str(path)!r} is damaged: {error}") from error


def load_image(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """Read an image file as RGB at a model's size.

    An image of just that size is taken as it is; any other is resized (bilinear) so that its short
    side is 288/256 of the model's, and the centre is cut out, as the authors evaluate.

    Args:
        path: Any image file Pillow reads; its EXIF orientation is applied.
        size: `(height, width)` in pixels.

    Returns:
        `(height, width, 3)` float32, 0..255.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, or is damaged.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/photo.png"
        >>> Image.new("RGB", (300, 200), "white").save(path)
        >>> load_image(path, (96, 96)).shape
        (96, 96, 3)
    """
    image, (height, width) = open_image(path), size
    if image.size != (width, height):
        enlarged = (round(width / CENTRE), round(height / CENTRE))
        image = ImageOps.fit(image, enlarged, Image.Resampling.BILINEAR)
        left, top = (enlarged[0] - width) // 2, (enlarged[1] - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image, "float32")


def model_input(
    model: keras.Model | TFLiteModel, path: str | os.PathLike, size: tuple[int, int]
) -> np.ndarray:
    """Read an image file as a model takes it.

    Args:
        model: A model without preprocessing inside gets BGR 0..1, as the authors' weights expect.
        path: An image file.
        size: `(height, width)` in pixels.

    Returns:
        `(height, width, 3)` float32.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, or is damaged.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/photo.png"
        >>> Image.new("RGB", (300, 200), "blue").save(path)
        >>> model = keras.Sequential([keras.layers.Flatten()])  # nothing that takes pixels
        >>> model_input(model, path, (32, 32))[0, 0].tolist()  # BGR
        [1.0, 0.0, 0.0]
    """
    return model_scale(model, load_image(path, size))


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
