"""`preprocess_input` of `keras.applications` inside a model goes into its first convolution."""

import numpy as np
import pytest
from keras import applications, layers, ops
from rewritten import check, conv


@pytest.mark.parametrize("module", ["resnet50", "densenet", "mobilenet_v2"])
def test_it_folds_away(module):
    preprocess = getattr(applications, module).preprocess_input

    def function(x):
        return conv(3, 3, padding="valid")(preprocess(x))

    assert check(function, (8, 6, 3), scale=255.0) == {"input": 1, "conv": 1}


@pytest.mark.parametrize(
    ("function", "folds"),
    [
        (lambda x: x[..., ::-1], True),
        (lambda x: ops.stack([x[..., -1], x[..., 0], x[..., 1]], axis=3), True),
        (lambda x: x + np.full((1, 1, 1, 3), 0.5), True),
        (lambda x: ops.stack([x[..., 1]] * 3, axis=-1), False),
        (lambda x: ops.stack([x[..., 1], x[..., 0]], axis=-1), False),
        (lambda x: ops.stack([x[..., 2], x[..., 1], x[..., 0]], axis=1), False),
        (lambda x: ops.stack([x[..., 0], (2 * x)[..., 1], x[..., 2]], axis=-1), False),
        (lambda x: x[..., ::-2], False),
        (lambda x: x[:, ::-1], False),
        (lambda x: x + np.random.default_rng(0).random((1, 8, 6, 1)), False),
    ],
)
def test_channels_taken_apart(function, folds):
    """Whatever it is, it computes the same."""
    found = check(lambda x: layers.Flatten()(conv(3)(function(x))), (8, 6, 3))
    assert ("keep" not in found or found["keep"] == 1) == folds


def test_a_channel_alone():
    check(lambda x: layers.Dense(2)(x[..., 1]), (8, 6, 3))
    check(lambda x: x[..., -3] * x[..., 2], (8, 6, 3))
