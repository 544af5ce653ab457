"""Random weights on which a model behaves like a trained one."""

from collections.abc import Iterator

import keras
import numpy as np


def as_if_trained(model: keras.Model) -> None:
    """Draw biases, scales and statistics: fresh ones of 0 and 1 let operations vanish."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        name = weight.path.rsplit("/", 1)[-1]
        if name in ("gamma", "moving_variance"):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif name in ("beta", "moving_mean", "bias"):
            weight.assign(generator.normal(0, 0.1, weight.shape))


def settle(model: keras.Model, inputs: list[np.ndarray]) -> None:
    """Fit the statistics of every BatchNorm to the inputs.

    As built, activations fade from layer to layer as in no trained model, and runtimes leave int8
    sums of such different scales to slow kernels.
    """
    for layer in _layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(inputs[0] if len(inputs) == 1 else inputs, training=True)


def _layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    yield layer
    for each in getattr(layer, "layers", []):
        yield from _layers(each)
