"""Any Keras model: what the file computes, what its inputs and outputs are called."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from rewritten import randomize

import keras_parc
from keras_parc import TFLiteModel, to_tflite

GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def the_same_every_time(monkeypatch):
    keras.utils.set_random_seed(0)
    monkeypatch.setitem(globals(), "GENERATOR", np.random.default_rng(0))


def real(*shape):
    return GENERATOR.normal(size=shape).astype("float32")


def expected(model, inputs):
    return keras.tree.map_structure(np.asarray, model(inputs, training=False))


def gap(found, wanted):
    found = found.values() if isinstance(found, dict) else [found]
    pairs = zip(found, keras.tree.flatten(wanted), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9)) for a, b in pairs)


class Forgetful(layers.Layer):
    """Its configuration forgets the factor."""

    def __init__(self, factor=1.0, **arguments):
        super().__init__(**arguments)
        self.factor = factor

    def call(self, x):
        return x * self.factor


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv, self.dense = layers.Conv2D(4, 3, activation="relu"), layers.Dense(3)

    def call(self, inputs, training=False):
        x = ops.mean(self.conv(inputs["photo"]), axis=(1, 2))
        return {"z": self.dense(x), "a": ops.argmax(x + inputs["age"], axis=-1)}


class Doubling(keras.Model):
    """A functional model with a call of its own."""

    def call(self, x, training=False):
        return 2 * super().call(x, training=training)


class SequentialPlusOne(keras.Sequential):
    def call(self, x, training=None, mask=None):
        return super().call(x, training=training, mask=mask) + 1


def of(shape, function, cls=keras.Model, **arguments):
    image = keras.Input(shape, **arguments)
    return cls(image, function(image))


def later():
    """A layer whose attribute and whose call were changed after it was built."""
    model = of((8, 8, 3), lambda x: Forgetful()(layers.Conv2D(4, 1, name="conv")(x)))
    model.layers[-1].factor = 3.0
    model.get_layer("conv").call = lambda x: ops.concatenate([x, x[..., :1]], -1)
    return model


def twice():
    pool = layers.MaxPooling2D()
    return of((8, 8, 3), lambda x: pool(pool(x)))


def equal_names():
    parts = [of((8, 8, 3), Forgetful(float(n), name="same")) for n in (2, 3)]
    return of((8, 8, 3), lambda x: parts[1](parts[0](x)))


def in_half():
    model = of((8, 8, 3), lambda x: layers.Dense(3)(layers.MaxPooling2D()(layers.Conv2D(4, 1)(x))))
    for layer in model.layers:
        layer.dtype_policy = "mixed_float16"
    return model


def of_half_policy():
    keras.config.set_dtype_policy("float16")
    try:
        return of((8, 8, 3), lambda x: layers.MaxPooling2D()(layers.Conv2D(4, 1)(x)))
    finally:
        keras.config.set_dtype_policy("float32")


def quantized_by_keras():
    model = of((8, 8, 3), lambda x: layers.Dense(4, activation="relu")(layers.Flatten()(x)))
    model.quantize("int8")
    return model


def augmented(x):
    x = layers.RandomZoom(0.2)(layers.RandomRotation(0.1)(layers.RandomFlip()(x)))
    return layers.Conv2D(4, 3)(x)


def heads(x):
    """Attention over the places of a map, as transformers have it; keywords, cross attention."""
    tokens = layers.Reshape((16, 8))(layers.Conv2D(8, 1)(x))
    y = layers.MultiHeadAttention(2, 3, value_dim=5)(query=tokens, value=tokens)
    memory = layers.Dense(8)(tokens[:, :4])
    y = layers.MultiHeadAttention(2, 4, output_shape=6)(y, memory)
    return layers.Conv2D(3, 1)(layers.MultiHeadAttention(1, 4)(layers.Reshape((4, 4, 6))(y), x))


MODELS = {
    "a vector": lambda: of((5,), layers.Dense(3, activation="softmax")),
    "a signal": lambda: of((32, 2), lambda x: layers.GlobalMaxPooling1D()(layers.Conv1D(4, 3)(x))),
    "an image without channels": lambda: of(
        (12, 12), lambda x: layers.Dense(4)(layers.Flatten()(x / 255.0))
    ),
    "a volume": lambda: of((6, 6, 6, 1), lambda x: layers.Conv3D(2, 3)(x)),
    "a text": lambda: of(
        (7,), lambda x: layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(x)), dtype="int32"
    ),
    "a recurrent network": lambda: of((6, 4), lambda x: layers.LSTM(3)(x)),
    "called as a subclass calls it": lambda: of((8, 8, 3), layers.Conv2D(4, 1), Doubling),
    "a Sequential subclass": lambda: SequentialPlusOne(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 1)]
    ),
    "attributes set later": later,
    "one layer twice": twice,
    "equal names in two models": equal_names,
    "names of one letter": lambda: of((8, 8, 3), lambda x: layers.Conv2D(4, 1, name="_")(x)),
    "Lambda": lambda: of((8, 8, 3), layers.Lambda(lambda x: x * x)),
    "mixed precision": in_half,
    "a policy of float16": of_half_policy,
    "quantized by Keras": quantized_by_keras,
    "augmentation": lambda: of((8, 8, 3), augmented),
    "attention": lambda: of((4, 4, 6), heads),
    "padding with -inf": lambda: of(
        (8, 8, 3),
        lambda x: layers.MaxPooling2D(3, 2)(
            ops.pad(
                layers.Conv2D(4, 1)(x),
                ((0, 0), (1, 1), (1, 1), (0, 0)),
                constant_values=-np.inf,
            )
        ),
    ),
    "constants": lambda: of(
        (8, 8, 3),
        lambda x: ops.concatenate([(x - np.ones(3, "float32")) / 2.0, np.ones((1, 8, 8, 1))], -1),
    ),
    "stable softplus": lambda: of((8, 8, 3), lambda x: ops.softplus(200 * x)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_file_computes_what_the_model_does(name, tmp_path):
    model = randomize(MODELS[name]())
    shape, dtype = model.input_shape[1:], model.inputs[0].dtype
    x = GENERATOR.integers(0, 9, (3, *shape)) if dtype == "int32" else real(3, *shape)
    path = to_tflite(model, tmp_path / "m.tflite", strict=True)
    wanted = [expected(model, x[n : n + 1]) for n in range(3)]
    limit = 2e-3 if name in ("mixed precision", "a policy of float16") else 1e-4
    assert gap(TFLiteModel(path)(x), np.concatenate(wanted)) <= limit
    assert keras_parc.agreement(model, path, x).signal_to_noise_db > 50
    assert {layer.compute_dtype for layer in keras_parc.deploy(model).layers} <= {
        "float32",
        "int32",
    }


@pytest.mark.parametrize("name", ["mixed precision", "a policy of float16"])
def test_policies_are_as_they_were(name, tmp_path):
    model = MODELS[name]()
    before = [layer.dtype_policy.name for layer in model.layers]
    to_tflite(model, tmp_path / "m.tflite")
    assert [layer.dtype_policy.name for layer in model.layers] == before
    assert keras.config.dtype_policy().name == "float32"


def test_augmentation_and_attention_are_read():
    kinds = [type(layer).__name__ for layer in keras_parc.deploy(MODELS["augmentation"]()).layers]
    assert kinds == ["InputLayer", "Conv2D"]
    assert "Kept" not in {
        type(layer).__name__ for layer in keras_parc.deploy(of((16, 8), attention)).layers
    }


def attention(x):
    return layers.MultiHeadAttention(2, 4)(x, x)


def several():
    """Two inputs and three outputs, in other orders than those of their names."""
    image, vector = keras.Input((8, 8, 3), name="z_image"), keras.Input((4,), name="age")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu")(image))
    x = layers.Concatenate()([x, layers.Dense(3)(vector)])
    outputs = {"z": layers.Dense(2)(x), "b": layers.Dense(5, activation="softmax")(x), "k": x}
    return image, vector, outputs


def test_several_inputs_and_outputs_by_name(tmp_path):
    image, vector, outputs = several()
    inputs = {"z_image": image, "age": vector}
    model = randomize(keras.Model(inputs, outputs))
    given = {"z_image": real(3, 8, 8, 3), "age": real(3, 4)}
    path = to_tflite(model, tmp_path / "m.tflite")
    file = TFLiteModel(path)
    assert set(file.input_shape) == set(given)
    found = file(given)
    wanted = expected(model, given)
    for name in outputs:
        assert gap(found[name], wanted[name]) <= 1e-5
    assert keras_parc.agreement(model, path, given).signal_to_noise_db > 90
    assert keras_parc.inspect(path).names == (tuple(file.input_shape), tuple(found))


def test_several_inputs_and_outputs_in_order(tmp_path):
    image, vector, outputs = several()
    model = randomize(keras.Model([image, vector], [outputs[name] for name in "zbk"]))
    given = [real(3, 8, 8, 3), real(3, 4)]
    path = to_tflite(model, tmp_path / "m.tflite")
    found = TFLiteModel(path)(given)
    assert list(TFLiteModel(path).input_shape) == ["z_image", "age"]
    assert [each.shape for each in found.values()] == [(3, 2), (3, 5), (3, 9)]
    assert gap(found, expected(model, given)) <= 1e-5
    assert list(found) == model.output_names
    with pytest.raises(ValueError, match=r"a dictionary of \['z_image', 'age'\]"):
        TFLiteModel(path)(given[0])
    with pytest.raises(ValueError, match="different numbers of examples"):
        TFLiteModel(path)([given[0], given[1][:2]])
    with pytest.raises(ValueError, match="The input 'age' must be"):
        TFLiteModel(path)([given[0], real(3, 5)])


def test_int8_of_several_inputs(tmp_path):
    image, vector, outputs = several()
    for model, given in (
        (keras.Model([image, vector], outputs), [real(20, 8, 8, 3), real(20, 4)]),
        (keras.Model({"z_image": image, "age": vector}, outputs["z"]), None),
    ):
        randomize(model)
        given = given or {"z_image": real(20, 8, 8, 3), "age": real(20, 4)}
        one_by_one = [keras.tree.map_structure(lambda each, n=n: each[n], given) for n in range(20)]
        contents = set()
        for examples in (given, one_by_one, [(each, 0) for each in one_by_one]):
            path = to_tflite(model, tmp_path / "m.tflite", quantize="int8", calibration=examples)
            contents.add(path.read_bytes())
            assert path.closeness.signal_to_noise_db > 15
            assert keras_parc.agreement(model, path, given).signal_to_noise_db > 15
        assert len(contents) == 1
    assert len(keras_parc.inspect(path).names[0]) == 2


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ("photos", "a folder has images alone"),
        ([real(5, 8, 8, 3)], "nested as its inputs .*; example 1 is not"),
        ([real(5, 8, 8, 3), real(4, 4)], r"these have \[4, 5\] examples"),
        ([real(5, 8, 8, 3), real(5, 3)], r"example 1 has \(3,\) for 'age', expected \(4,\)"),
        ([real(5, 8, 8, 3), real(5, 4) / 0], "holds NaN or infinity in 'age'"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_wrong_calibration_of_several_inputs(calibration, message, tmp_path):
    image, vector, outputs = several()
    model = keras.Model([image, vector], outputs["z"])
    with pytest.raises(ValueError, match=message):
        to_tflite(model, tmp_path / "m.tflite", quantize="int8", calibration=calibration)
    assert not list(tmp_path.iterdir())


def test_subclassed_models(tmp_path):
    model, given = Subclassed(), {"photo": real(2, 8, 8, 3), "age": real(2, 4)}
    shapes = {"photo": (8, 8, 3), "age": (4,)}
    with pytest.raises(ValueError, match="call it once on an input, or state `input_shape`"):
        to_tflite(model, tmp_path / "m.tflite")
    for arguments in ({"input_shape": shapes}, {}):
        path = to_tflite(model, tmp_path / "m.tflite", **arguments)
        found = TFLiteModel(path)(given)
        assert gap(found["z"], expected(model, given)["z"]) <= 1e-5
        np.testing.assert_array_equal(found["a"], expected(model, given)["a"])
    assert keras_parc.inspect(path).output_dtypes[list(found).index("a")] == "int32"


def test_open_shapes(tmp_path):
    image = keras.Input((None, 16, 2))
    x = layers.Reshape((-1, 32))(layers.Conv2D(2, 3, padding="same")(image))
    model = randomize(keras.Model(image, layers.GlobalAveragePooling1D()(layers.Dense(3)(x))))
    with pytest.raises(ValueError, match="not fixed"):
        to_tflite(model, tmp_path / "m.tflite")
    path = to_tflite(model, tmp_path / "m.tflite", input_size=(20, 16))
    x = real(2, 20, 16, 2)
    assert gap(TFLiteModel(path)(x), expected(model, x)) <= 1e-5
    signal = of((None, 2), lambda x: layers.Conv1D(3, 3)(x))
    with pytest.raises(ValueError, match="state `input_shape`"):
        to_tflite(signal, tmp_path / "m.tflite")
    assert to_tflite(signal, tmp_path / "m.tflite", input_shape=(12, 2))
    for wrong, message in (
        ((12, 3), r"\(12, 3\) for .* which in .* is \(None, 2\)"),
        ((0, 2), "must be positive"),
        ([(12, 2), (3,)], "nested as"),
        ("12", "must be shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            to_tflite(signal, tmp_path / "m.tflite", input_shape=wrong)


def test_the_same_names_in_float32_and_int8(tmp_path):
    names = {}
    for end in ("softmax", None):
        model = randomize(
            of(
                (8, 8, 3),
                lambda x, end=end: layers.Dense(4, activation=end)(
                    layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(x))
                ),
            )
        )
        for quantize in (None, "int8"):
            path = to_tflite(
                model, tmp_path / "m.tflite", quantize=quantize, calibration=real(20, 8, 8, 3)
            )
            names[end, quantize] = keras_parc.inspect(path).names
    assert set(names.values()) == {(("image",), ("scores",)), (("image",), ("logits",))}
    assert names["softmax", "int8"] == names["softmax", None] == (("image",), ("scores",))


def test_int8_is_measured_on_images_held_out(tmp_path, caplog):
    model = randomize(of((8, 8, 3), lambda x: layers.Flatten()(layers.Conv2D(8, 3)(x))))
    x = real(40, 8, 8, 3)
    close = to_tflite(model, tmp_path / "m.tflite", quantize="int8", calibration=x).closeness
    assert (close.images, close.held_out) == (4, True)
    assert close.signal_to_noise_db > 25
    assert close.same_class > 0.7
    assert to_tflite(model, tmp_path / "m.tflite").closeness is None
    few = to_tflite(model, tmp_path / "m.tflite", quantize="int8", calibration=x[:5]).closeness
    assert (few.images, few.held_out) == (5, False)


@pytest.mark.parametrize("count", [1, 2])
def test_a_bad_int8_file_names_its_worst_operations(count, tmp_path, caplog):
    """What is left after two large numbers have cancelled is less than a step of int8."""
    images = [keras.Input((8, 8, 3), name=f"image_{number}") for number in range(count)]
    x = layers.Conv2D(4, 1, name="first")(images[0])
    total = images[-1][..., :1] + 1e3 * x
    model = randomize(keras.Model(images, layers.Dense(3)(total - 999.9 * x)))
    examples = [real(20, 8, 8, 3) for _ in images]
    calibration = examples if count > 1 else examples[0]
    path = to_tflite(model, tmp_path / "m.tflite", quantize="int8", calibration=calibration)
    assert path.closeness.signal_to_noise_db < 15
    assert "not close to the model" in caplog.text
    assert "Worst: " in caplog.text
