"""Averages of weights: the moving average along a run, and the mean of its best epochs."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np


class MovingAverage(keras.callbacks.Callback):
    """Keep a second model's weights as the exponential moving average of the one that trains.

    Keras' own (`use_ema`) leaves out the BatchNorm statistics; this takes all weights, as the
    authors do: `average = momentum * average + (1 - momentum) * weight` after every step.

    Args:
        average: A model with the same weights as the one that trains, in the same order.
        momentum: 0 (the weights themselves) or more, less than 1.

    Raises:
        ValueError: `momentum` is out of its range.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> average = keras.models.clone_model(model)
        >>> MovingAverage(average, 0.98).momentum
        0.98
    """

    def __init__(self, average: keras.Model, momentum: float):
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be 0 or more and less than 1, got {momentum}.")
        self.average, self.momentum = average, momentum

    def set_model(self, model):
        if model is not self.model:
            super().set_model(model)
            self._move = _mover(self.average.weights, model.weights, self.momentum)

    def on_train_batch_end(self, batch, logs=None):
        sync(self.model)
        self._move()


def _mover(averages, weights, momentum):
    """A function that moves the averages once, compiled where the backend compiles."""

    def blend(old, new):
        return [momentum * a + (1 - momentum) * w for a, w in zip(old, new, strict=True)]

    def move():
        values = blend([v.value for v in averages], [v.value for v in weights])
        for variable, value in zip(averages, values, strict=True):
            variable.assign(value)

    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(move)
    if backend == "jax":
        import jax

        blend = jax.jit(blend)
    return move


def sync(model: keras.Model) -> None:
    """Inside `fit` on JAX, bring the variables of the model up to date; elsewhere they are."""
    if keras.config.backend() == "jax":
        model.jax_state_sync()


def mean_of_weights(model: keras.Model, paths: Sequence[Path]) -> None:
    """Set a model's weights to the mean of weight files, worked out in float64.

    Args:
        model: A model the files belong to.
        paths: `.weights.h5` files, at least one.

    Raises:
        ValueError: There is no file, or one does not fit the model.
    """
    if not paths:
        raise ValueError("There are no weights to average.")
    total = [np.zeros(each.shape, "float64") for each in model.get_weights()]
    for path in paths:
        model.load_weights(path)
        for add, value in zip(total, model.get_weights(), strict=True):
            add += value
    model.set_weights([(each / len(paths)).astype("float32") for each in total])
