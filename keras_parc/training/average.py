"""Averages of weights: the moving average along a run, and the mean of its best epochs."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np


class MovingAverage(keras.callbacks.Callback):
    """Keep a second model's weights as the exponential moving average of the one that trains.

    Keras' own (`use_ema`) leaves out the BatchNorm statistics; this takes all weights, as the
    authors do: `average = momentum * average + (1 - momentum) * weight` after every update. The
    start is random weights, which a short run would keep: so update t, from 0, has a momentum of at
    most `(1 + t) / (10 + t)`.

    Args:
        average: A model with the same weights as the one that trains, in the same order.
        momentum: 0 (the weights themselves) or more, less than 1.
        accumulation: Steps of one update, which together move the average once.

    Attributes:
        steps: Steps done; set it where a run goes on.

    Raises:
        ValueError: `momentum` is out of its range.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> average = keras.models.clone_model(model)
        >>> MovingAverage(average, 0.98).momentum
        0.98
    """

    def __init__(self, average: keras.Model, momentum: float, accumulation: int = 1):
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be 0 or more and less than 1, got {momentum}.")
        self.average, self.momentum, self.accumulation = average, momentum, accumulation
        self.steps = 0

    def set_model(self, model):
        if model is not self.model:
            super().set_model(model)
            self._move = _mover(self.average.weights, model.weights)

    def on_train_batch_end(self, batch, logs=None):
        sync(self.model)
        self._move(np.float32(self.share()))
        self.steps += 1

    def share(self) -> float:
        """The share of the average that the next step keeps."""
        update = self.steps // self.accumulation
        return min(self.momentum, (1 + update) / (10 + update)) ** (1 / self.accumulation)


def default_momentum(updates: float) -> float:
    """A momentum for a run of a number of updates of the weights.

    Of 30,000 updates on the authors' 0.9995, an average over 2,000; of fewer over a fifteenth.

    Example:
        >>> default_momentum(750), default_momentum(400_000)
        (0.98, 0.9995)
    """
    return 1 - 1 / min(2000.0, max(1.0, updates / 15))


def _mover(averages, weights):
    """A function that moves the averages once, compiled where the backend compiles."""

    def blend(old, new, momentum):
        return [momentum * a + (1 - momentum) * w for a, w in zip(old, new, strict=True)]

    def move(momentum):
        values = blend([v.value for v in averages], [v.value for v in weights], momentum)
        for variable, value in zip(averages, values, strict=True):
            variable.assign(value)

    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(move, input_signature=[tf.TensorSpec((), tf.float32)])
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
