"""Measuring a classifier: the same function for a Keras model and for a `.tflite` file."""

import keras
import numpy as np

from keras_parc.lite.runtime import TFLiteModel


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
    """
    if not len(images):
        raise ValueError("There are no images to evaluate.")
    if isinstance(model, TFLiteModel):
        return model(images)
    return np.asarray(model.predict(images, batch_size=batch_size, verbose=0), "float32")


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of images whose label is among the `k` highest scores.

    Args:
        scores: `(n, classes)`.
        labels: `(n,)` class numbers.
        k: How many guesses count, 1 to the number of classes.

    Returns:
        A share, 0 to 1.

    Raises:
        ValueError: `k` is out of range, or there are not as many labels as rows of scores.

    Example:
        >>> top_k_accuracy(np.array([[0.1, 0.7, 0.2], [0.6, 0.1, 0.3]]), np.array([2, 0]), k=1)
        0.5
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape[:1] != labels.shape:
        raise ValueError(
            f"Expected one label per row of scores, got {labels.shape} for {scores.shape}."
        )
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"`k` must be 1 to {scores.shape[1]}, got {k}.")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())
