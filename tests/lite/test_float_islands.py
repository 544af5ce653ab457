"""What stays float32 in an int8 file, so that XNNPACK runs all of it."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from rewritten import randomize

import keras_parc
from keras_parc.lite.quantize.float_islands import whole


def attention(x):
    tokens = layers.Reshape((64, 8))(x)
    return layers.Reshape((8, 8, 8))(layers.MultiHeadAttention(2, 4)(tokens, tokens))


@pytest.mark.parametrize(
    ("function", "floats"),
    [
        (attention, {"BATCH_MATMUL", "SOFTMAX"}),
        pytest.param(ops.softplus, {"ABS", "EXP", "LOG", "RELU"}, marks=pytest.mark.slow),
        (lambda x: layers.AveragePooling2D(3, 1, "same")(x), {"AVERAGE_POOL_2D"}),
    ],
    ids=["attention", "softplus", "pooling"],
)
def test_what_xnnpack_runs_in_float_alone_stays_float(function, floats, tmp_path):
    """Where the runtime is the current one; older ones are not asked."""
    image = keras.Input((8, 8, 8))
    x = layers.Conv2D(8, 3, padding="same")(image)
    model = randomize(keras.Model(image, layers.Conv2D(4, 1)(layers.Add()([x, function(x)]))))
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 8)).astype("float32")
    found = {}
    for target in ("litert", "portable"):
        path = keras_parc.to_tflite(
            model, tmp_path / f"{target}.tflite", quantize="int8", calibration=x, target=target
        )
        found[target] = keras_parc.inspect(path)
        assert keras_parc.agreement(model, path, x).signal_to_noise_db > 25
    assert (found["litert"].partitions, found["litert"].outside) == (1, {})
    assert set(found["portable"].outside) == floats


def test_no_file_that_leaves_more_outside_is_taken(tmp_path):
    """Nor is anything tried where nothing is outside."""
    image = keras.Input((8, 8, 3))
    model = randomize(keras.Model(image, layers.ReLU()(layers.Conv2D(4, 1)(image))))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    files = []
    for quantize in (None, "int8"):
        path = tmp_path / f"{quantize}.tflite"
        keras_parc.to_tflite(model, path, quantize=quantize, calibration=x)
        files.append(path.read_bytes())
    assert whole(*files, ["a"], pytest.fail) == (files[1], ["a"])
