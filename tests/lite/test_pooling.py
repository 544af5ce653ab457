"""Average pooling and upsampling as operations that XNNPACK runs in int8."""

import keras
import numpy as np
import pytest
from keras import layers
from rewritten import check, randomize

import keras_parc


@pytest.mark.parametrize(
    ("layer", "operations"),
    [
        (layers.AveragePooling2D(2), {"depthwise"}),
        (layers.AveragePooling2D((3, 2), strides=(1, 2)), {"depthwise"}),
        (layers.AveragePooling2D(2, padding="same"), {"depthwise"}),  # nothing to pad
        (layers.AveragePooling2D((8, 6)), {"mean"}),
        (layers.AveragePooling2D(3, strides=1, padding="same"), {"keep", "item"}),
        (layers.AveragePooling2D(6, strides=1), {"keep", "item"}),
        (layers.MaxPooling2D(1, strides=2), {"depthwise"}),
        (layers.MaxPooling2D(2), {"keep", "item"}),
        (layers.UpSampling2D(2), {"repeat"}),
        (layers.UpSampling2D((1, 3)), {"repeat"}),
        (layers.UpSampling2D((3, 1)), {"repeat"}),
        (layers.UpSampling2D((2, 3), interpolation="bilinear"), {"resize"}),
        (layers.UpSampling2D(2, interpolation="bicubic"), {"keep", "item"}),
    ],
)
def test_it_computes_the_same(layer, operations):
    """On a map of 8 x 6, between layers that fold into what they can."""

    def function(x):
        x = layers.BatchNormalization()(layers.BatchNormalization()(x) * x)
        return layers.BatchNormalization()(layer(x))

    assert operations <= set(check(layer)) <= operations | {"input"}
    check(function)


@pytest.mark.parametrize(
    "layer",
    [layers.AveragePooling2D(2), layers.MaxPooling2D(1, strides=2), layers.UpSampling2D(2)],
    ids=lambda layer: type(layer).__name__,
)
def test_int8_is_one_partition(layer, tmp_path):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Conv2D(4, 1)(layer(layers.Conv2D(8, 3)(image))))
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    path = keras_parc.to_tflite(
        randomize(model), tmp_path / "m.tflite", quantize="int8", calibration=x
    )
    found = keras_parc.inspect(path)
    assert (found.partitions, found.outside) == (1, {})
    assert keras_parc.agreement(model, path, x).signal_to_noise_db > 30
