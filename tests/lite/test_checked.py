"""A rewrite that would compute something else is found, named and left out."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from rewritten import randomize

import keras_parc
from keras_parc import TFLiteModel, deploy, to_tflite
from keras_parc.lite import proof
from keras_parc.lite.rewrite import deploy as rewriting
from keras_parc.lite.rewrite.checked import Reference, difference, random_samples
from keras_parc.lite.rewrite.graph import affine
from keras_parc.lite.rewrite.operations import AFFINE, CONV
from keras_parc.lite.rewrite.readers.common import array
from keras_parc.lite.rewrite.readers.table import READERS
from keras_parc.lite.rewrite.signature import model_inputs

X = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")


def model():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="first")(image)
    x = layers.BatchNormalization(name="norm")(x)
    inner = keras.Sequential(
        [keras.Input((6, 6, 4)), layers.BatchNormalization(name="inner"), layers.Conv2D(4, 1)]
    )
    x = layers.LeakyReLU(name="leaky")(inner(x))
    return randomize(keras.Model(image, layers.Dense(3, name="last")(x), name="net"))


def share(found, wanted):
    return np.abs(found - wanted).max() / np.abs(wanted).max()


def doubled(op, x):
    """A wrong reader of normalizations, but of the one called "norm" alone."""
    scale = 1 / np.sqrt(array(op.moving_variance) + op.epsilon) * array(op.gamma)
    shift = array(op.beta) - array(op.moving_mean) * scale
    return affine(x, scale * (1.01 if op.name == "norm" else 1), shift, op.name)


def forgetful(graph, node, consumers):
    """A wrong rule: it drops shifts."""
    if node.op is not AFFINE or not np.any(node["shift"]):
        return False
    node["shift"] = np.zeros_like(node["shift"])
    return True


def crashing(graph, node, consumers):
    if node.op is CONV:
        raise KeyError("no such attribute")
    return False


def with_rule(monkeypatch, rule):
    monkeypatch.setattr(rewriting, "STEPS", ((rule,), *rewriting.STEPS))
    monkeypatch.setattr(rewriting, "RULES", (rule, *rewriting.RULES))


def test_a_wrong_reader(monkeypatch, tmp_path, caplog):
    source = model()
    monkeypatch.setitem(READERS, layers.BatchNormalization, doubled)
    wanted = np.asarray(source(X, training=False))
    for make in (lambda: deploy(source), lambda: to_tflite(source, tmp_path / "m.tflite")):
        caplog.clear()
        found = make()
        found = found(X) if isinstance(found, keras.Model) else TFLiteModel(found)(X)
        assert share(np.asarray(found), wanted) < 1e-5
        assert "norm (BatchNormalization) stays as it is" in caplog.text
        assert "inner" not in caplog.text
    with pytest.raises(ValueError, match=r"'net' as rewritten differs .* norm \(Batch"):
        to_tflite(source, tmp_path / "n.tflite", strict=True)
    assert not (tmp_path / "n.tflite").exists()


@pytest.mark.parametrize("rule", [forgetful, crashing])
def test_a_wrong_rule(rule, monkeypatch, caplog):
    source = model()
    with_rule(monkeypatch, rule)
    found = deploy(source)
    assert share(np.asarray(found(X)), np.asarray(source(X, training=False))) < 1e-5
    assert f"the rule {rule.__name__} is left out" in caplog.text
    assert len([each for each in found.layers if "Normalization" in type(each).__name__]) == 0


def test_a_wrong_reader_and_a_wrong_rule(monkeypatch, caplog):
    source = model()
    with_rule(monkeypatch, forgetful)
    monkeypatch.setitem(READERS, layers.BatchNormalization, doubled)
    found = deploy(source)
    assert share(np.asarray(found(X)), np.asarray(source(X, training=False))) < 1e-5
    assert "norm (BatchNormalization) stays as it is" in caplog.text
    assert "forgetful" in caplog.text


def test_nothing_is_right(monkeypatch, caplog):
    """Then the model stays as it is, as one operation."""

    def wrong(op, *inputs):
        raise KeyError(op.name)

    source = model()
    for kind in list(READERS):
        monkeypatch.setitem(READERS, kind, wrong)
    monkeypatch.setattr("keras_parc.lite.rewrite.checked._CULPRITS", 1)
    found = deploy(source)
    assert [type(each).__name__ for each in found.layers] == ["InputLayer", "Kept"]
    assert "the whole model stays as it is" in caplog.text


def test_a_file_that_differs_is_not_written(monkeypatch, tmp_path, caplog):
    """The converter computes something else: of the rewritten model, then of any."""
    source, convert = model(), proof._convert
    of_all = False

    def converted(model, *arguments):
        kept = [each for each in model.layers if type(each).__name__ == "Kept"]
        if of_all or len(kept) != 1 or kept[0].operation is not source:
            model = keras.Model(model.input, model.output * 3)
        return convert(model, *arguments)

    monkeypatch.setattr(proof, "_convert", converted)
    path = to_tflite(source, tmp_path / "m.tflite")
    assert "as rewritten differs in TensorFlow Lite" in caplog.text
    assert share(TFLiteModel(path)(X), np.asarray(source(X, training=False))) < 1e-5
    with pytest.raises(ValueError, match="as rewritten differs in TensorFlow Lite"):
        to_tflite(source, tmp_path / "n.tflite", strict=True)
    of_all = True
    with pytest.raises(RuntimeError, match=r"'net' differs in TensorFlow Lite .* begins with"):
        to_tflite(source, tmp_path / "n.tflite")
    assert not (tmp_path / "n.tflite").exists()


def test_the_layer_that_tensorflow_lite_does_not_have_is_named(tmp_path):
    image = keras.Input((8, 8, 3))
    x = layers.Lambda(lambda x: ops.real(ops.fft2((x, x))[0]), name="spectrum")(
        layers.Conv2D(4, 3)(image)
    )
    source = keras.Model(image, layers.Conv2D(3, 1)(x))
    with pytest.raises(RuntimeError, match=r"begins with 'spectrum' \(Lambda\): replace it"):
        to_tflite(source, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_models_that_do_not_repeat_cannot_be_compared(tmp_path):
    image = keras.Input((8, 8, 3))
    noise = layers.Lambda(lambda x: x + tf.random.normal(ops.shape(x)[1:]))
    source = keras.Model(image, layers.Conv2D(3, 1)(noise(image)))
    inputs = model_inputs(source)
    assert Reference(source, inputs, random_samples(inputs, None)).tolerance == np.inf
    assert deploy(source)(X).shape == (3, 8, 8, 3)


def test_the_tolerance_follows_the_model(caplog):
    """A model that doubles every difference many times over cannot be held to 1e-4."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 1)(image)
    wild = keras.Model(image, ops.sin(3e4 * x))
    inputs = model_inputs(wild)
    tame = model()
    wild_reference = Reference(wild, inputs, random_samples(inputs, None))
    tame_reference = Reference(tame, inputs, random_samples(inputs, None))
    assert tame_reference.tolerance == 1e-4
    assert 1e-4 < wild_reference.tolerance <= 1e-2


def test_a_model_is_judged_where_it_is_calm():
    """Of this one nothing can be told where inputs are above 1, as those of the second sample."""
    image = keras.Input((8, 8, 3))
    source = keras.Model(image, image + ops.sin(1e5 * ops.relu(image - 1)))
    inputs = model_inputs(source)
    reference = Reference(source, inputs, random_samples(inputs, None))
    assert reference.calm == [0, 2]
    for wrong, counts in enumerate((True, False, True)):
        found = [[2 * each[0]] if i == wrong else each for i, each in enumerate(reference.outputs)]
        assert (reference.gap(found) > 0.1) == counts


def test_the_last_sample_is_like_an_image():
    inputs = model_inputs(model())
    last = random_samples(inputs, None)[-1][0]
    assert last.shape == inputs.entries[0].shape
    sides = model_inputs(keras.Model(image := keras.Input((32, 48, 3)), image))
    last = random_samples(sides, None)[-1][0]
    assert last.shape == (32, 48, 3)
    assert len(np.unique(last)) == 8 * 8 * 3
    assert (last[:4, :6] == last[0, 0]).all()


def test_differences():
    a = [np.array([1.0, np.nan, np.inf, 2.0])]
    assert difference([a], [a]) == 0
    assert difference([[np.array([1.0, 0.0, np.inf, 2.0])]], [a]) == np.inf
    assert difference([[np.array([1.0, np.nan, np.inf, 2.5])]], [a]) == 0.25
    assert difference([[np.zeros(2)]], [[np.zeros(3)]]) == np.inf
    assert difference([[np.array([3])], [np.array([4])]], [[np.array([3])], [np.array([4])]]) == 0


def test_a_registered_model_has_no_fault(caplog):
    with caplog.at_level(logging.WARNING, "keras_parc"):
        deploy(keras_parc.ParCNetTiny(input_shape=(32, 32, 3)), strict=True)
    assert not caplog.records
