"""Quantization-aware fine-tuning: the model that rounds as int8 does, and its training."""

from functools import partial

import keras
import numpy as np
import pytest

import keras_parc
from keras_parc.lite.quantize import fine_tuning
from keras_parc.lite.quantize.fake_quantized import FakeQuantized
from keras_parc.lite.quantize.fine_tuning import fine_tune
from keras_parc.lite.quantize.int8 import quantize
from keras_parc.lite.quantize.ranges import choose_ranges
from keras_parc.lite.quantize.traced_file import TracedFile

SHAPE = (16, 16, 3)


def decibels(expected, found):
    return 10 * np.log10(np.square(expected).mean() / np.square(found - expected).mean())


def outputs(content, images):
    file = TracedFile(content)
    found = []
    for image in images:
        file.run(image)
        found.append(np.concatenate([file.value(each).ravel() for each in file.outputs]))
    return np.stack(found)


@pytest.fixture(scope="module")
def small():
    """Every activation of the package, a gate and a residual, weights of heavy tails."""
    rng = np.random.default_rng(1)
    inputs = x = keras.Input(SHAPE)
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="silu")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="hard_silu")(x)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = keras.layers.Conv2D(16, 1, activation="hard_sigmoid")(gate)
    y = keras.layers.Conv2D(16, 1, activation="relu6")(keras.layers.Multiply()([x, gate]))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y]))
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    for variable in model.weights:
        fan_in = max(np.prod(variable.shape[:-1]), 1)
        variable.assign(rng.standard_t(3, variable.shape) * 1.5 / np.sqrt(fan_in))
    return model


@pytest.fixture(scope="module")
def images():
    """Of one kind, as a data set's: patches of smooth noise, not noise in every pixel."""
    coarse = np.random.default_rng(3).normal(size=(1300, 4, 4, 3))
    return coarse.repeat(4, 1).repeat(4, 2).astype("float32")


@pytest.fixture(scope="module")
def content(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("fine_tune") / "float.tflite"
    return keras_parc.to_tflite(small, path).read_bytes()


@pytest.fixture(scope="module")
def tuned(content, images):
    """Without the correction of biases, which would undo the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning.int8, "quantize", partial(quantize, correct=False))
        return fine_tune(content, images[:1100], "minmax")


def pooled():
    """Operations that other networks have: pooling, resizing, slices, groups, normalization."""
    inputs = keras.Input((16, 12, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="gelu")(inputs)
    x = keras.layers.LayerNormalization()(x)
    y = keras.layers.MaxPooling2D(3, 2, "same")(x)
    z = keras.layers.AveragePooling2D(2)(x)
    y = keras.layers.UpSampling2D(2, interpolation="bilinear")(y + z)
    y = y[:, 2:-2, ::2, :4] * keras.ops.tanh(x[:, 2:-2, ::2, 4:])
    z = keras.layers.Dense(6, activation="relu")(keras.ops.flip(y, 1))
    return keras.Model(inputs, [z, keras.layers.GlobalAveragePooling2D()(y)])


@pytest.fixture(scope="module")
def circulant(tmp_path_factory):
    """ParC-Net-Tiny with circular convolutions as matrices and as convolutions."""
    keras.utils.set_random_seed(0)
    model = keras_parc.ParCNetTiny(
        input_shape=(96, 80, 3), classes=4, classifier_activation=None, include_preprocessing=False
    )
    path = tmp_path_factory.mktemp("circulant") / "float.tflite"
    content = keras_parc.to_tflite(model, path).read_bytes()
    assert "BATCH_MATMUL" in {each.name for each in TracedFile(content).operations}
    return content


def largest_difference(content):
    """Between file and model, of the largest value, on three images."""
    shape = TracedFile(content).shape(TracedFile(content).input)[1:]
    batch = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    expected, found = outputs(content, batch), np.asarray(FakeQuantized(content)(batch))
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    ("build", "settings"),
    [
        (
            lambda: keras_parc.MobileViTTiny(
                input_shape=(64, 64, 3), classes=4, include_preprocessing=False
            ),
            {"rewrite": False},
        ),
        (pooled, {}),
    ],
    ids=["attention", "pooled"],
)
def test_without_ranges_it_computes_the_file(build, settings, tmp_path):
    keras.utils.set_random_seed(0)
    path = keras_parc.to_tflite(build(), tmp_path / "a.tflite", **settings)
    assert largest_difference(path.read_bytes()) <= 1e-5


def test_circulant_matrices_stay_as_they_are(circulant):
    assert largest_difference(circulant) <= 1e-5
    assert {each.ndim for each in FakeQuantized(circulant).trainable_variables} == {1, 4}


def noises(content, images, method):
    """What int8 does to the outputs, by the file and by the model."""
    ranges = choose_ranges(TracedFile(content), images, method)
    coarse = quantize(content, images, method=method, correct=False)
    exact, found = outputs(content, images), np.asarray(FakeQuantized(content, ranges)(images))
    return np.ravel(outputs(coarse, images) - exact), np.ravel(found - exact)


@pytest.mark.parametrize("method", ["minmax", "mse_median"])
def test_it_rounds_as_the_int8_file(content, images, method):
    """The noise is that of int8, not only as large; a tie rounded otherwise goes a long way."""
    file, model = noises(content, images, method)
    assert np.corrcoef(file, model)[0, 1] > 0.5
    assert 0.7 < model.std() / file.std() < 1.4


def test_it_rounds_as_int8_exactly(images, tmp_path):
    """Two layers: hardly a tie. Channels of very different weights: steps are per channel."""
    inputs = keras.Input(SHAPE)
    layers = [keras.layers.Conv2D(8, 3, strides=2), keras.layers.DepthwiseConv2D(3)]
    model = keras.Model(inputs, layers[1](layers[0](inputs)))
    for layer, axis in zip(layers, (3, 2), strict=True):
        kernel, bias = layer.get_weights()
        scales = np.geomspace(0.1, 1, 8).reshape([-1 if i == axis else 1 for i in range(4)])
        layer.set_weights([kernel * scales, bias])
    content = keras_parc.to_tflite(model, tmp_path / "a.tflite").read_bytes()
    file, model = noises(content, images[:10], "minmax")
    assert np.corrcoef(file, model)[0, 1] > 0.97


def test_gradients_reach_all_weights(circulant):
    import tensorflow as tf

    batch = np.random.default_rng(0).random((2, 96, 80, 3), "float32")
    rounding = FakeQuantized(circulant, choose_ranges(TracedFile(circulant), batch, "minmax"))
    gradients = []
    for student in (FakeQuantized(circulant), rounding):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(student(batch)[:, 0])
        gradients.append(tape.gradient(loss, [each.value for each in student.trainable_variables]))
    assert len(gradients[0]) > 60
    assert all(each is not None and np.any(each) for each in gradients[1])
    # As if rounding were not there, up to where it leads the values.
    flat = [np.concatenate([np.ravel(each) for each in one]) for one in gradients]
    assert np.corrcoef(*flat)[0, 1] > 0.9


def test_new_weights_go_into_the_file(content, images):
    student = FakeQuantized(content)
    for variable in student.trainable_variables:
        variable.assign(variable * 0.9 + 0.01)
    found = outputs(student.as_file(), images[:3])
    np.testing.assert_allclose(found, np.asarray(student(images[:3])), rtol=1e-4, atol=1e-5)
    assert np.abs(found - outputs(content, images[:3])).max() > 0.01


def test_fine_tuning_brings_the_file_closer(content, tuned, images):
    """On images that neither calibration nor training has seen."""
    fresh = images[1100:]
    exact, settings = outputs(content, fresh), {"method": "minmax", "correct": False}
    before, after = (
        decibels(exact, outputs(quantize(each, tuned.calibration, **settings), fresh))
        for each in (content, tuned.content)
    )
    assert tuned.kept
    assert tuned.content != content
    assert after > before + 1
    # What it says of itself is what it does.
    assert tuned.signal_to_noise_db == pytest.approx((before, after), abs=0.7)


def test_held_out_images_are_not_used(content, images, monkeypatch):
    """NaN in them reaches nothing but the verdict, which is then against the new weights."""
    spoiled = images[:1000].copy()
    spoiled[fine_tuning.HELD_OUT - 1 :: fine_tuning.HELD_OUT] = np.nan
    trained = []
    train = fine_tuning._train
    monkeypatch.setattr(fine_tuning, "PASSES", 1)
    monkeypatch.setattr(fine_tuning, "_train", lambda *all: (trained.extend(all[2]), train(*all)))
    result = fine_tune(content, spoiled, "minmax")
    assert (result.held_out, len(trained)) == (125, 875)
    assert np.isfinite(trained).all()
    assert np.isfinite(result.calibration).all()
    assert len(result.calibration) == 438
    assert not result.kept


@pytest.mark.slow
@pytest.mark.slow
def test_same_seed_same_bytes(content, images, monkeypatch):
    monkeypatch.setattr(fine_tuning, "PASSES", 1)
    monkeypatch.setattr(fine_tuning, "MIN_GAIN_DB", -100.0)
    monkeypatch.setattr(fine_tuning, "_compared", lambda *files: (1.0, 0.0))
    first, again, other = (
        fine_tune(content, images[:1000], "minmax", seed).content for seed in (0, 0, 1)
    )
    assert first == again
    assert first not in (content, other)


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ((0.9, 20.0), (0.9, 20.4), True),
        ((0.9, 20.0), (0.95, 20.4), True),
        ((0.9, 20.0), (0.89, 25.0), False),
        ((0.9, 20.0), (0.95, 20.2), False),
        ((0.9, 20.0), (0.9, 19.0), False),
    ],
)
def test_what_does_not_help_is_left_out(content, images, monkeypatch, capsys, before, after, kept):
    verdicts = iter([before, after])
    monkeypatch.setattr(fine_tuning, "_train", lambda student, *_: _halve(student))
    monkeypatch.setattr(fine_tuning, "_compared", lambda *files: next(verdicts))
    monkeypatch.setattr(fine_tuning, "CALIBRATED", 5)
    result = fine_tune(content, images[:1000])
    assert result.kept is kept
    assert (result.content == content) is not kept
    said = "fine-tuning kept" if kept else "fine-tuning gained nothing and is left out"
    assert said in capsys.readouterr().err


def _halve(student):
    for variable in student.trainable_variables:
        variable.assign(variable / 2)


def test_training_that_harms_is_left_out(content, images, monkeypatch):
    monkeypatch.setattr(fine_tuning, "_train", lambda student, *_: _halve(student))
    result = fine_tune(content, images[:1000])
    assert result.content == content
    assert result.signal_to_noise_db[1] < result.signal_to_noise_db[0]


def test_export(small, images, tmp_path, monkeypatch, capsys):
    """The file holds what fine-tuning keeps, the model is left alone."""
    verdicts = iter([(0.9, 20.0), (0.9, 21.0)])
    monkeypatch.setattr(fine_tuning, "_train", lambda student, *_: _halve(student))
    monkeypatch.setattr(fine_tuning, "_compared", lambda *files: next(verdicts))
    weights = [each.copy() for each in small.get_weights()]
    settings = {"quantize": "int8", "calibration": images[:1100]}
    plain = keras_parc.to_tflite(small, tmp_path / "plain.tflite", **settings)
    tuned = keras_parc.to_tflite(small, tmp_path / "tuned.tflite", **settings, fine_tune=True)
    assert "fine-tuning kept: on 137 images held out" in capsys.readouterr().err
    before, after = (keras_parc.agreement(small, each, images[1100:]) for each in (plain, tuned))
    assert after.signal_to_noise_db < 10 < 30 < before.signal_to_noise_db
    assert keras_parc.inspect(tuned).operations == keras_parc.inspect(plain).operations
    for found, expected in zip(small.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs `quantize='int8'`"),
        ({"quantize": "dynamic"}, "needs `quantize='int8'`"),
        ({"quantize": "int8"}, "needs `calibration` images"),
        ({"quantize": "int8", "calibration": 999}, "at least 1000 calibration images.*got 999"),
    ],
)
def test_mistakes(small, images, tmp_path, settings, message):
    if "calibration" in settings:
        settings = settings | {"calibration": images[: settings["calibration"]]}
    with pytest.raises(ValueError, match=message):
        keras_parc.to_tflite(small, tmp_path / "a.tflite", **settings, fine_tune=True)
    assert not list(tmp_path.iterdir())


def test_an_unknown_operation_is_named(images, tmp_path):
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, keras.ops.cumsum(keras.layers.Conv2D(4, 3)(inputs), 1))
    with pytest.raises(ValueError, match="operation CUMSUM cannot be fine-tuned"):
        keras_parc.to_tflite(
            model, tmp_path / "a.tflite", quantize="int8", calibration=images, fine_tune=True
        )
