"""What Keras models and `.tflite` files put out."""

import keras
import numpy as np

from keras_parc.lite.file.metadata import Metadata
from keras_parc.lite.file.runtime import TFLiteDetector, TFLiteModel
from keras_parc.models import checkpoints


def class_scores(
    model: keras.Model | TFLiteModel, images: np.ndarray, batch_size: int = 64
) -> np.ndarray:
    """Run images through a Keras model or a `.tflite` file.

    Args:
        model: A Keras classifier or a `TFLiteModel`.
        images: `(n, height, width, channels)`, as the model takes them.
        batch_size: Images at a time, for a Keras model.

    Returns:
        `(n, classes)` float32: what the model puts out, logits or probabilities.

    Raises:
        ValueError: There are no images.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
        >>> class_scores(model, np.ones((2, 8, 8, 3))).shape
        (2, 3)
    """
    if not len(images):
        raise ValueError("There are no images to evaluate.")
    if isinstance(model, TFLiteModel):
        return model(images)
    return np.asarray(model.predict(images, batch_size=batch_size, verbose=0), "float32")


def class_count(model: keras.Model | TFLiteModel | TFLiteDetector) -> int:
    """The number of classes of a Keras model or a `.tflite` file; of detectors, without background.

    Example:
        >>> import keras_parc
        >>> class_count(keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=7))
        7
    """
    if isinstance(model, TFLiteDetector):
        return model.classes
    if isinstance(model, TFLiteModel):
        return model.output_shape[-1]
    return checkpoints.class_count(model)


def file_metadata(task: str, **about) -> Metadata:
    """What the exported file of a model for a task says of itself.

    Args:
        task: "classification", "detection" or "segmentation".
        **about: Further arguments of `Metadata`.

    Example:
        >>> file_metadata("segmentation", labels=["background", "cat"]).activation
        'softmax'
    """
    activation = "softmax" if task == "segmentation" else "none"  # the file has logits
    return Metadata(task=task, activation=activation, **about)
