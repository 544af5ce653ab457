"""Depthwise kernels of more than 25 taps as sums of shorter ones."""

import keras
import numpy as np
import pytest
from keras import layers
from rewritten import check, randomize, read

import keras_parc
from keras_parc.lite.rewrite.deploy import rewrite
from keras_parc.lite.rewrite.rules_kernels import MAX_PARTS, TAPS, parts_of


def kernels(function, shape):
    """The kernels after the rewrite, which is checked to compute the same."""
    check(function, shape)
    image = keras.Input(shape)
    graph = read(keras.Model(image, function(image)))
    rewrite(graph)
    return [node["kernel"].shape[:2] for node in graph.nodes() if node.op.name == "depthwise"]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("size", "options"),
    [
        (7, {}),
        (6, {}),
        ((9, 5), {}),
        ((1, 31), {}),
        (7, {"strides": 2}),
        (8, {"strides": 3}),
        (7, {"dilation_rate": 3}),
        ((4, 13), {"dilation_rate": 2}),
    ],
)
def test_a_long_kernel_is_a_sum(size, options, padding):
    layer = layers.DepthwiseConv2D(size, padding=padding, activation="relu", **options)
    found = kernels(layer, (31, 34, 3))
    assert len(found) > 1
    assert max(map(np.prod, found)) <= TAPS[-1]


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_part_that_sees_padding_alone_is_left_out(side):
    found = kernels(layers.DepthwiseConv2D(8, padding="same"), (side, 9, 3))
    assert sum(map(np.prod, found)) < 64


def test_kernels_that_are_left_as_they_are():
    assert kernels(layers.DepthwiseConv2D(5, padding="same"), (9, 9, 3)) == [(5, 5)]
    assert kernels(layers.DepthwiseConv2D(45, padding="same"), (60, 60, 1)) == [(45, 45)]


@pytest.mark.parametrize(
    ("size", "parts"),
    [((5, 5), 1), ((7, 7), 3), ((9, 9), 4), ((11, 11), 6), ((31, 31), 44), ((49, 1), 2)],
)
def test_the_fewest_parts_cover_a_kernel_once(size, parts):
    found = parts_of(*size)
    seen = np.zeros(size, int)
    for part in found:
        seen[part] += 1
    assert (seen == 1).all()
    assert len(found) == parts <= MAX_PARTS


def test_convnext_s_kernel_is_whole_in_int8(tmp_path):
    """One partition, little lost."""
    image = keras.Input((24, 24, 8))
    x = layers.Conv2D(16, 1)(image)
    model = randomize(keras.Model(image, layers.DepthwiseConv2D(7, padding="same")(x)))
    x = np.random.default_rng(0).normal(size=(8, 24, 24, 8)).astype("float32")
    path = keras_parc.to_tflite(model, tmp_path / "m.tflite", quantize="int8", calibration=x)
    found = keras_parc.inspect(path)
    assert (found.partitions, found.outside) == (1, {})
    assert found.operations["DEPTHWISE_CONV_2D"] == 3
    assert keras_parc.agreement(model, path, x).signal_to_noise_db > 30
