"""What a model takes: its size, its scale, and image files brought to both."""

import os
from typing import Any

import keras
import numpy as np

from keras_parc.models.imagenet import preprocess_input
from keras_parc.support.images import load_image

# A `keras.Model`, or a `TFLiteModel`: only the former can do without preprocessing inside.
Model = Any


def takes_pixels(model: Model) -> bool:
    """Whether a model takes RGB 0..255: a `.tflite` file, or a Keras model that rescales itself.

    Example:
        >>> takes_pixels(keras.Sequential([keras.layers.Rescaling(1 / 255)]))
        True
    """
    if not isinstance(model, keras.Model):
        return True
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(isinstance(layer, kinds) for layer in model.layers)


def model_scale(model: Model, images: np.ndarray) -> np.ndarray:
    """Bring images to what a model takes.

    Args:
        model: A model without preprocessing inside gets BGR 0..1, as the authors' weights expect.
        images: `(..., height, width, 3)`, RGB 0..255.

    Returns:
        Images of the same shape.

    Example:
        >>> images = np.full((1, 32, 32, 3), 255, "float32")
        >>> float(model_scale(keras.Sequential([keras.layers.Flatten()]), images).max())
        1.0
    """
    return images if takes_pixels(model) else preprocess_input(images)


def input_size(model: Model, size: int = 256) -> tuple[int, int]:
    """Height and width of the images a model takes.

    Args:
        model: A model of images.
        size: Side in pixels where the model leaves it open.

    Raises:
        ValueError: The model does not take images of three channels.

    Example:
        >>> image = keras.Input((None, 64, 3))
        >>> input_size(keras.Model(image, image), size=48)
        (48, 64)
    """
    shape = tuple(model.input_shape)
    if len(shape) != 4 or shape[-1] != 3:
        raise ValueError(f"The model takes {shape}, not images (batch, height, width, 3).")
    return shape[1] or size, shape[2] or size


def model_input(model: Model, path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
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
        >>> from PIL import Image
        >>> Image.new("RGB", (300, 200), "blue").save(path)
        >>> model = keras.Sequential([keras.layers.Flatten()])  # nothing that takes pixels
        >>> model_input(model, path, (32, 32))[0, 0].tolist()  # BGR
        [1.0, 0.0, 0.0]
    """
    return model_scale(model, load_image(path, size))
