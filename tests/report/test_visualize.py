"""Grad-CAM and receptive fields find what they should, on every backend; the pictures show it."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_parc
from keras_parc.visualize import (
    effective_receptive_field,
    fields_figure,
    kernels_figure,
    overlay,
    pictures_figure,
    positions_figure,
)

pytestmark = pytest.mark.any_backend


def brightness(softmax="inside"):
    """Class 0 speaks for red, class 1 for green: 1x1 convolution, pooling, dense."""
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(2, 1, use_bias=False, activation="relu", name="map")(image)
    x = layers.AveragePooling2D(2, name="small")(x)
    x = layers.GlobalAveragePooling2D()(x)
    dense = layers.Dense(2, activation="softmax" if softmax == "inside" else None, name="scores")
    x = dense(x)
    if softmax == "layer":
        x = layers.Softmax()(x)
    if softmax == "activation":
        x = layers.Activation("softmax")(x)
    model = keras.Model(image, x, name="brightness")
    model.get_layer("map").set_weights([np.eye(3, 2, dtype="float32")[None, None]])
    dense.set_weights([np.float32([[30, -30], [-30, 30]]), np.zeros(2, "float32")])
    return model


def spots():
    """Red at the top left, a weaker green at the bottom right."""
    image = np.zeros((16, 24, 3), "float32")
    image[2:6, 2:6, 0] = 1.0
    image[10:14, 16:22, 1] = 0.5
    return image


@pytest.mark.parametrize("softmax", ["inside", "layer", "activation", "none"])
def test_each_class_has_its_own_spot(softmax):
    model = brightness(softmax)
    for name in (None, "map"):
        red = keras_parc.grad_cam(model, spots(), 0, layer=name)
        green = keras_parc.grad_cam(model, spots(), 1, layer=name)
        for heat, rows, columns in ((red, (2, 6), (2, 6)), (green, (10, 14), (16, 22))):
            assert heat.shape == (16, 24)
            assert heat.dtype == np.float32
            assert (heat.min(), heat.max()) == (0, 1)
            inside = np.zeros_like(heat, bool)
            inside[slice(*rows), slice(*columns)] = True
            assert heat[inside].min() > 0.3
            assert heat[~inside].mean() < 0.1
    predicted = keras_parc.grad_cam(model, spots())  # There is more red.
    np.testing.assert_array_equal(predicted, keras_parc.grad_cam(model, spots(), 0))


@pytest.mark.parametrize("softmax", ["inside", "layer", "activation", "none"])
def test_scores_are_those_before_the_softmax(softmax):
    """Red speaks for class 0, and more for class 1: behind a softmax it would speak against 0."""
    model = brightness(softmax)
    weights = [np.float32([[1, 2], [0, 0]]), np.zeros(2, "float32")]
    model.get_layer("scores").set_weights(weights)
    assert keras_parc.grad_cam(model, spots(), 0)[4, 4] > 0.9


def test_the_equation():
    """Against the closed form: behind the last map there is only a mean and a dense layer."""
    keras.utils.set_random_seed(0)  # something has to speak for the class
    model = keras_parc.ParCNetTiny(input_shape=(96, 64, 3), classes=4, include_preprocessing=False)
    x = np.random.default_rng(0).normal(size=(96, 64, 3)).astype("float32")
    heat = keras_parc.grad_cam(model, x, 2)
    features = keras.Model(model.input, model.get_layer("head_expand_act").output)(x[None])
    kernel = ops.convert_to_numpy(model.get_layer("predictions").kernel)
    expected = np.maximum(ops.convert_to_numpy(features)[0] @ kernel[:, 2], 0)
    expected = ops.image.resize(expected[..., None], (96, 64), data_format="channels_last")
    expected = ops.convert_to_numpy(expected)[..., 0]
    np.testing.assert_allclose(heat, expected / expected.max(), atol=1e-5)
    # The model is as before: its layers have one output each.
    keras_parc.features(model)


def test_nothing_speaks_for_the_class():
    model = brightness()
    image = spots()
    image[..., 0] = 0
    assert keras_parc.grad_cam(model, image, 0).max() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_index": 2}, r"in 0..1, got 2"),
        ({"class_index": -1}, r"in 0..1, got -1"),
        ({"layer": "no"}, "'brightness' has no layer 'no'"),
        ({"layer": "scores"}, r"'scores' is no map, but \(None, 2\)"),
        ({"image": np.zeros((16, 16))}, r"must be \(None, None, 3\).*got \(16, 16\)"),
        ({"image": np.zeros((16, 16, 4))}, r"got \(16, 16, 4\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_parc.grad_cam(brightness(), **({"image": spots()} | arguments))


def test_wrong_models():
    model = keras_parc.ParCNetTiny(
        input_shape=(32, 32, 3), include_top=False, include_preprocessing=False
    )
    with pytest.raises(ValueError, match=r"is no classifier: its outputs are"):
        keras_parc.grad_cam(model, np.zeros((32, 32, 3)))


def test_overlay():
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'plots') is not installed")
    heat = np.zeros((4, 6), "float32")
    heat[1, 2] = 1
    picture = overlay(np.full((4, 6, 3), 100), heat)
    assert picture.dtype == np.uint8
    assert picture[1, 2].tolist() == [114, 50, 50]  # half dark red
    assert picture[0, 0].tolist() == [50, 50, 114]  # half dark blue
    np.testing.assert_array_equal(overlay(np.full((4, 6, 3), 100), heat, 0.0), 100)
    with pytest.raises(ValueError, match=r"size of `heat` \(4, 6\), got \(6, 4, 3\)"):
        overlay(np.zeros((6, 4, 3)), heat)


def field_of(*middle, images=None):
    """The field of a model of one input channel, all kernels 1."""
    image = x = keras.Input((9, 7, 1))
    for layer in middle:
        x = layer(x)
    model = keras.Model(image, x)
    for weight in model.trainable_weights:
        weight.assign(ops.ones(weight.shape))
    images = np.ones((2, 9, 7, 1)) if images is None else images
    return effective_receptive_field(model, images)


def test_receptive_fields():
    """A 3x3 sees 3x3; two see 5x5, most in the middle; ParC sees its row or column, and all."""
    three = field_of(layers.DepthwiseConv2D(3, padding="same"))
    assert sorted(zip(*np.nonzero(three), strict=True)) == [
        (row, column) for row in (3, 4, 5) for column in (2, 3, 4)
    ]
    five = field_of(*(layers.DepthwiseConv2D(3, padding="same") for _ in range(2)))
    np.testing.assert_allclose(five[4, 1:6], np.float32([3, 6, 9, 6, 3]) / 9, rtol=1e-5)
    column = field_of(keras_parc.ParCV(9))
    assert (column > 0).sum(0).tolist() == [0, 0, 0, 9, 0, 0, 0]
    assert field_of(keras_parc.ParCV(9), keras_parc.ParCH(7)).min() > 0


def test_receptive_field_of_a_place_and_a_layer():
    image = keras.Input((16, 12, 3))
    stem = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(image)
    model = keras.Model(image, keras_parc.ParCH(6)(keras_parc.ParCV(8)(stem)))
    images = np.random.default_rng(0).random((1, 16, 12, 3))
    corner = effective_receptive_field(model, images, layer="stem", place=(0, 1))
    seen = np.argwhere(corner > 0)
    assert seen.min(0).tolist() == [0, 10]
    assert seen.max(0).tolist() == [2, 11]
    assert effective_receptive_field(model, images).min() > 0
    with pytest.raises(ValueError, match="has no layer 'none'"):
        effective_receptive_field(model, images, layer="none")
    with pytest.raises(ValueError, match="two numbers from 0 to 1"):
        effective_receptive_field(model, images, place=(0, 2))
    with pytest.raises(ValueError, match="n of at least 1"):
        effective_receptive_field(model, images[:0])


def test_signs_do_not_cancel():
    """Red speaks for, green as much against: both count."""
    image = keras.Input((5, 5, 3))
    layer = layers.Conv2D(1, 1, use_bias=False)
    model = keras.Model(image, layer(image))
    layer.set_weights([np.float32([1, -1, 0])[None, None, :, None]])
    field = effective_receptive_field(model, np.ones((1, 5, 5, 3)))
    assert field[2, 2] == 1
    assert field.sum() == 1


def test_figures():
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'plots') is not installed")
    spot = np.zeros((10, 10))
    spot[5, 5] = 1
    figure = fields_figure({"all": np.ones((10, 10)), "spot": spot})
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert labels == ["95 % in 95 % of the pixels", "95 % in 1 % of the pixels"]
    layer = keras_parc.ParCV(5)
    layer.build((None, None, None, 2))
    layer.base_kernel.assign(
        ops.reshape(ops.arange(10, dtype="float32"), tuple(layer.base_kernel.shape))
    )
    lines = kernels_figure(layer, sides=(9,)).axes[1].get_lines()
    np.testing.assert_allclose(lines[0].get_ydata(), np.arange(9.0), atol=1e-5)
    shown = positions_figure({"V": layer}).axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown, ops.convert_to_numpy(layer.base_position))
    assert len(pictures_figure({str(i): np.ones((4, 4)) for i in range(5)}).axes) == 5
    with pytest.raises(ValueError, match="no `base_kernel`"):
        kernels_figure(layers.Dense(2), sides=(4,))
    with pytest.raises(ValueError, match="no position embedding"):
        positions_figure({"dense": layers.Dense(2)})
