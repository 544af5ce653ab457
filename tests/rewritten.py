"""Models with weights that matter, and whether a rewrite of them computes the same."""

from collections import Counter

import keras
import numpy as np
from keras import layers

from keras_parc.lite.rewrite.deploy import rewrite
from keras_parc.lite.rewrite.emission import emit
from keras_parc.lite.rewrite.importing import import_model
from keras_parc.lite.rewrite.signature import model_inputs


def randomize(model, seed=0):
    """Give every weight a value that matters; fresh normalizations and biases do nothing."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(generator.normal(0, 0.3, weight.shape))
    return model


def enliven(model, seed=0):
    """Also give kernels the spread at which a deep model passes its input on.

    Freshly initialized, or after `randomize` alone, what comes out of a ParC-Net does not depend on
    what goes in: a part in ten million.
    """
    generator = np.random.default_rng(seed + 1)
    for weight in randomize(model, seed).weights:
        if weight.name in ("kernel", "base_kernel"):
            depthwise = len(weight.shape) == 4 and weight.shape[-1] == 1
            taps = np.prod(weight.shape[:2] if depthwise else weight.shape[:-1])
            weight.assign(generator.normal(0, (2 / taps) ** 0.5, weight.shape))
        elif weight.name == "base_position":
            weight.assign(generator.normal(0, 0.5, weight.shape))
    return model


def images(shape, scale=1.0):
    return np.random.default_rng(1).uniform(0, scale, (2, *shape)).astype("float32")


def difference(model, other, x):
    a, b = model(x, training=False), other(x, training=False)
    assert keras.tree.map_structure(np.shape, a) == keras.tree.map_structure(np.shape, b)
    return max(
        float(np.abs(np.asarray(p) - np.asarray(q)).max() / np.abs(np.asarray(p)).max())
        for p, q in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True)
    )


def read(model):
    """The graph of a model."""
    return import_model(model, model_inputs(model))


def check(function, shape=(8, 6, 4), target="litert", scale=1.0):
    """Rewrite `function` of an image; return its operations after showing that it is the same."""
    image = keras.Input(shape)
    model = randomize(keras.Model(image, function(image)))
    graph = read(model)
    rewrite(graph, target)
    assert difference(model, emit(graph), images(shape, scale)) <= 1e-5
    return Counter(node.op.name for node in graph.nodes())


def conv(filters, size=1, **arguments):
    return layers.Conv2D(filters, size, **{"padding": "same"} | arguments)
