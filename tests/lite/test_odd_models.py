"""Models with masks, with a state, with outputs of no batch, and faulty ones."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from rewritten import randomize

import keras_parc
from keras_parc import TFLiteModel, to_tflite
from keras_parc.lite.process import ConversionProcess, TaskError, conversion_process
from keras_parc.lite.quantize.calibration import calibration_images
from keras_parc.lite.quantize.ranges import choose_ranges
from keras_parc.lite.quantize.traced_file import TracedFile
from keras_parc.lite.rewrite.signature import model_inputs

GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def the_same_every_time(monkeypatch):
    keras.utils.set_random_seed(0)
    monkeypatch.setitem(globals(), "GENERATOR", np.random.default_rng(0))
    with conversion_process():
        yield


def real(*shape):
    return GENERATOR.normal(size=shape).astype("float32")


def of(shape, function, **arguments):
    image = keras.Input(shape, **arguments)
    return keras.Model(image, function(image))


def one_by_one(model, x):
    return np.stack([np.asarray(model(x[n : n + 1], training=False))[0] for n in range(len(x))])


def decibels(found, wanted):
    return 10 * np.log10(np.mean(wanted**2) / np.mean((found - wanted) ** 2))


def attended(x):
    x = layers.Masking()(x)
    return layers.MultiHeadAttention(2, 4)(x, x)


def stopped(x):
    """A convolution does not hand on a mask."""
    x = layers.Conv1D(4, 3, padding="same")(layers.Masking()(x))
    return layers.LSTM(3, return_sequences=True)(x)


def pooled(x):
    return layers.GlobalAveragePooling1D()(layers.Dense(4, activation="relu")(layers.Masking()(x)))


@pytest.mark.parametrize("function", [attended, stopped, pooled])
@pytest.mark.filterwarnings("ignore:Layer 'conv1d.* was passed an input with a mask")
def test_masks_that_random_inputs_do_not_show(function, tmp_path):
    model, x = randomize(of((6, 8), function)), real(3, 6, 8)
    x[:, 3:] = 0
    found = TFLiteModel(to_tflite(model, tmp_path / "m.tflite", strict=True))(x)
    wanted = one_by_one(model, x)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def causal(x):
    return layers.Attention()([x, x], use_causal_mask=True)


def causal_heads(x):
    return layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)


def infinite(x):
    seen = np.tril(np.ones((6, 6), bool))
    scores = ops.where(seen, ops.matmul(x, ops.transpose(x, (0, 2, 1))), -np.inf)
    return ops.matmul(ops.softmax(scores), x)


def padded(x):
    x = ops.pad(layers.Dense(4)(x), ((0, 0), (1, 1), (0, 0)), constant_values=-np.inf)
    return layers.Dense(3)(layers.MaxPooling1D(3, 2)(x))


@pytest.mark.parametrize("function", [causal, causal_heads, infinite, padded])
def test_int8_of_masked_scores(function, tmp_path):
    """There is no scale for -1e9 beside numbers of 10."""
    model, x = randomize(of((6, 8), function)), real(20, 6, 8)
    path = to_tflite(model, tmp_path / "m.tflite", quantize="int8", calibration=x)
    assert decibels(TFLiteModel(path)(x), one_by_one(model, x)) > 25


def test_what_is_masked_has_no_range(tmp_path):
    model = of((6, 8), causal)
    file = TracedFile(to_tflite(model, tmp_path / "m.tflite").read_bytes())
    ranges = choose_ranges(file, real(3, 6, 8))
    without = {each.name for each in file.operations if each.outputs[0] not in ranges}
    assert without == {"SUB", "SELECT"}
    with pytest.raises(ValueError, match="not finite on a calibration image"):
        choose_ranges(file, real(3, 6, 8) * np.nan)


def test_names_that_become_equal(tmp_path):
    a, b = keras.Input((4,), name="a b"), keras.Input((4,), name="a:b")
    model = keras.Model([a, b], {"x y": a - 2 * b, "x:y": a * 3})
    x = [real(2, 4), real(2, 4)]
    path = to_tflite(model, tmp_path / "m.tflite")
    assert keras_parc.inspect(path).names == (("a_b", "a_b_1"), ("x_y", "x_y_1"))
    found = TFLiteModel(path)(x)
    np.testing.assert_allclose(found["x_y"], x[0] - 2 * x[1], rtol=1e-5)
    np.testing.assert_allclose(found["x_y_1"], 3 * x[0], rtol=1e-5)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_one_tensor_as_two_outputs(quantize, tmp_path):
    def twice(image):
        x = layers.Conv2D(4, 1)(image)
        return {"p": x, "q": x, "r": image}

    model, x = of((8, 8, 3), twice), real(10, 8, 8, 3)
    path = to_tflite(model, tmp_path / "m.tflite", quantize=quantize, calibration=x)
    found = TFLiteModel(path)(x)
    assert list(found) == ["p", "q", "r"]
    np.testing.assert_array_equal(found["p"], found["q"])
    assert keras_parc.inspect(path).names[1] == ("p", "q", "r")
    assert keras_parc.agreement(model, path, x).signal_to_noise_db > 25


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (ops.mean, ()),
        (lambda x: ops.reshape(x, (-1, 3)), (64, 3)),
        (lambda x: ops.concatenate([x, 2 * x], axis=0), (2, 8, 8, 3)),
        (lambda x: ops.sin(x) > 0, (8, 8, 3)),
    ],
)
def test_outputs_that_are_not_one_for_each_example(function, shape, tmp_path):
    model, x = of((8, 8, 3), function), real(10, 8, 8, 3)
    wanted = np.stack([np.asarray(model(x[n : n + 1])).reshape(shape) for n in range(len(x))])
    for quantize, least in ((None, 90), ("int8", 15)):
        path = to_tflite(model, tmp_path / "m.tflite", quantize=quantize, calibration=x)
        found = TFLiteModel(path)(x)
        assert found.shape == (10, *shape)
        assert decibels(found.astype("float32"), wanted.astype("float32") + 1e-9) > least
        assert keras_parc.agreement(model, path, x).signal_to_noise_db > least


def test_bytes_that_are_no_image(tmp_path):
    model = of((8,), lambda x: layers.Dense(3)(ops.cast(x, "float32")), dtype="uint8")
    x = GENERATOR.integers(0, 256, (2, 8)).astype("uint8")
    found = TFLiteModel(to_tflite(model, tmp_path / "m.tflite", strict=True))(x)
    np.testing.assert_allclose(found, one_by_one(model, x), rtol=1e-4)


def test_a_model_of_one_number(tmp_path, caplog):
    model = of((), lambda x: 3 * ops.sin(x))
    found = TFLiteModel(to_tflite(model, tmp_path / "m.tflite", strict=True))(np.float32([0, 1]))
    np.testing.assert_allclose(found, 3 * np.sin([0, 1]), rtol=1e-5)


class Counting(layers.Layer):
    """Its state changes whenever it is called."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="ones", trainable=False, name="count")

    def call(self, x):
        self.count.assign(self.count + 1)
        return x * self.count


def test_the_state_of_a_model_is_as_it_was(tmp_path, caplog):
    model, x = of((8,), Counting(name="counting")), real(1, 8)
    found = TFLiteModel(to_tflite(model, tmp_path / "m.tflite", strict=True))(x)
    assert float(model.layers[-1].count.numpy()) == 1
    np.testing.assert_allclose(found, np.asarray(model(x)), rtol=1e-5)
    assert "changes counting/count whenever it is called" in caplog.text


class Built(keras.Model):
    def build(self, shape):
        self.kernel = self.add_weight((shape[-1], 3), lambda size, dtype: real(*size))
        self.built = True

    def call(self, x):
        return x @ self.kernel


def test_weights_made_in_build(tmp_path):
    model, x = Built(), real(2, 8)
    path = to_tflite(model, tmp_path / "m.tflite", input_shape=(8,))
    np.testing.assert_allclose(TFLiteModel(path)(x), np.asarray(model(x)), rtol=1e-5)


class Eager(keras.Model):
    def call(self, x):
        return ops.convert_to_tensor(np.sin(np.asarray(x)))


class Losing(keras.Model):
    def call(self, x):
        return {"y": 2 * x, "loss": None}


class Broken(keras.Model):
    def call(self, x):
        raise TypeError("this\nis broken")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Eager, "'eager' cannot be read as a graph: .* computed with `keras.ops`"),
        (Losing, "'losing' returns NoneType, expected tensors alone"),
        (Broken, r"'broken' cannot be run on one example of \[\(8,\)\]: TypeError: .*is broken"),
        (
            lambda: of(
                (8,), layers.IntegerLookup(vocabulary=[1, 2], name="numbers"), dtype="int64"
            ),
            r"begins with 'numbers' \(IntegerLookup\): replace it",
        ),
        (
            lambda: of((8,), layers.StringLookup(vocabulary=["a"]), dtype="string"),
            "takes text, which TensorFlow Lite does not",
        ),
    ],
)
def test_faults_of_a_model_in_one_line(model, message, tmp_path):
    with pytest.raises((RuntimeError, ValueError), match=message) as caught:
        to_tflite(model(), tmp_path / "m.tflite", input_shape=(8,))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_quantizer_that_fails(monkeypatch, tmp_path):
    run = ConversionProcess.run

    def failing(self, task, *arguments):
        if task == "quantize":
            raise TaskError("")
        return run(self, task, *arguments)

    monkeypatch.setattr(ConversionProcess, "run", failing)
    with pytest.raises(RuntimeError, match="quantizer fails on this model: it gives no reason"):
        to_tflite(
            of((8,), layers.Dense(3)),
            tmp_path / "m.tflite",
            quantize="int8",
            calibration=real(5, 8),
        )
    assert not list(tmp_path.iterdir())


def test_calibration_by_the_name_of_the_only_input():
    model, x = of((4,), layers.Dense(3), name="pixels"), real(5, 4)
    inputs = model_inputs(model)
    for source in ({"pixels": x}, [{"pixels": each} for each in x]):
        np.testing.assert_array_equal(calibration_images(source, inputs, model), x)
    with pytest.raises(ValueError, match=r"has no '\w+', only \['a', 'b'\]"):
        calibration_images([{"a": x[0], "b": x[0]}], inputs, model)
