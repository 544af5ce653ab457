"""`keras-parc export`: what it takes, and what it says of what it cannot."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from typer.testing import CliRunner

import keras_parc
from keras_parc.cli.main import app
from keras_parc.lite.file.metadata import read_metadata
from keras_parc.tasks.exportable import exportable

MODULE = """
import keras
from keras import layers
from PIL import Image

class Scaled(layers.Layer):
    def call(self, x):
        return 3 * x

def twice(x):
    return x + x

def build_twice():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Lambda(twice)(layers.Dense(2, activation=twice)(image)))

def build():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, Scaled()(layers.Conv2D(4, 3, kernel_initializer="ones")(image)))

class Pooled(keras.Model):
    def call(self, x):
        return keras.ops.mean(x, (1, 2))

def subclassed():
    model = Pooled()
    model(keras.ops.ones((1, 8, 8, 3)))
    return model

READY = build()
NUMBER = 3

def fails():
    raise RuntimeError("out\\nof luck")

def ends():
    raise SystemExit(3)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_layers.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_layers", None)


@pytest.mark.parametrize("reference", ["own_layers:build", "own_layers:READY"])
def test_a_python_reference(folder, reference):
    model = exportable(reference)
    x = np.ones((1, 8, 8, 3), "float32")
    path = keras_parc.to_tflite(model, folder / "m.tflite")
    np.testing.assert_allclose(keras_parc.TFLiteModel(path)(x), np.full((1, 6, 6, 4), 81.0))


def test_the_shape_of_an_input_that_is_no_image(folder):
    signal = keras.Input((None, 2))
    keras.Model(signal, layers.Conv1D(4, 3)(signal)).save("signal.keras")
    done = CliRunner().invoke(app, ["export", "signal.keras", "a.tflite", "--input-shape", "9,2"])
    assert done.exit_code == 0, done.output
    assert keras_parc.TFLiteModel("a.tflite").input_shape == (1, 9, 2)
    with pytest.raises(ValueError, match="whole numbers with commas, such as 100,2; got '9x2'"):
        CliRunner().invoke(
            app,
            ["export", "signal.keras", "b.tflite", "--input-shape", "9x2"],
            catch_exceptions=False,
        )


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("own_layers:missing", "no 'missing' in 'own_layers'"),
        ("own_layers:NUMBER", "is no Keras model, but int"),
        ("own_layers:fails", "cannot be called: RuntimeError: out of luck"),
        ("own_layers:ends", "cannot be called: SystemExit: 3"),
        ("nowhere.at_all:build", "'nowhere.at_all' cannot be imported: ModuleNotFoundError"),
        ("nothing.keras", "no model file 'nothing.keras'"),
        (".", r"no model.keras in the folder '.': .* the one that holds saved_model\.pb"),
    ],
)
def test_what_is_no_model(folder, reference, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        exportable(reference)


def test_layers_of_the_user_s_own(folder):
    """The file names its class; the module that defines it is said with --import."""
    registered = "keras.saving.register_keras_serializable('shop')(own_layers.Scaled); "
    code = "import keras, own_layers; own_layers.build().save('own.keras'); "
    code += "own_layers.build_twice().save('twice.keras'); "
    code += f"{registered} own_layers.build().save('shop.keras')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
    with pytest.raises(ValueError, match="needs 'Scaled', which is not defined here: import the"):
        exportable("own.keras")
    with pytest.raises(ValueError, match="needs 'Scaled', registered as 'shop>Scaled'"):
        exportable("shop.keras")
    (folder / "registering.py").write_text(f"import keras, own_layers\n{registered}\n")
    assert exportable("shop.keras", ["registering"]).name
    for name in ("own.keras", "twice.keras"):  # not registered
        assert exportable(name, ["own_layers"]).name
    with pytest.raises(ValueError, match="The module 'no_such' cannot be imported"):
        exportable("shop.keras", ["no_such"])
    with pytest.raises(ValueError, match=r"is not a package\. Give its name without .py"):
        exportable("own.keras", ["own_layers.py"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.h5", "an HDF5 file: load it in Python, with keras.models.load_model"),
        ("m.weights.h5", "of weights alone, with load_weights of the model; then save that as"),
        ("saved_model.pb", "takes the folder"),
        ("model.py", "takes MODULE:FUNCTION"),
        ("model.txt", "expected a name ending in .keras or .tflite"),
    ],
)
def test_a_file_of_another_kind_says_what_to_do(folder, name, message):
    (folder / name).touch()
    with pytest.raises(ValueError, match=message):
        exportable(name)


class Grumpy(layers.ReLU):
    """Cannot be made from its configuration."""

    @classmethod
    def from_config(cls, config):
        raise ValueError("two\nlines")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.Lambda(lambda x: 2 * x), "keras-parc export MODULE:FUNCTION"),
        (layers.Dense(2, activation=lambda x: 2 * x), "keras-parc export MODULE:FUNCTION"),
        (Grumpy(), "Keras cannot load 'm.keras': two lines$"),
    ],
)
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_what_keras_does_not_load_is_told_in_one_line(folder, layer, message):
    image = keras.Input((8, 8, 3))
    keras.Model(image, layer(image)).save("m.keras")
    known = keras.saving.custom_object_scope({"Grumpy": Grumpy})
    with known, pytest.raises(ValueError, match=message) as caught:
        exportable("m.keras")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_model_without_weights_is_warned_of(folder, caplog):
    model = keras.Sequential([layers.Dense(2)])
    model.save("m.keras")
    assert exportable("m.keras").name
    assert "was saved before it was built" in caplog.text
    caplog.clear()
    model(np.ones((1, 3)))
    model.save("m.keras")
    assert exportable("m.keras").name
    assert not caplog.text


def test_a_saved_model(folder):
    image, vector = keras.Input((8, 8, 3), name="z_image"), keras.Input((4,), name="age")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    x = layers.Concatenate()([x, vector])
    outputs = {"z": layers.Dense(2)(x), "a": layers.Dense(3)(x)}
    model = keras.Model({"z_image": image, "age": vector}, outputs)
    model.export(str(folder / "saved"), verbose=False)
    loaded = exportable(folder / "saved")
    generator = np.random.default_rng(0)
    given = {
        "z_image": generator.random((2, 8, 8, 3), "float32"),
        "age": generator.random((2, 4), "float32"),
    }
    found = keras_parc.TFLiteModel(keras_parc.to_tflite(loaded, folder / "m.tflite"))(given)
    expected = model(given)
    for name in outputs:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def _signature(shape, kind="float32"):
    import tensorflow as tf

    spec = tf.TensorSpec(shape, kind, name="x")
    return lambda call: tf.function(call, input_signature=[spec])


def _doubled_often(x):
    """Frozen, it does not know the shape of its output."""
    import tensorflow as tf

    return {"y": tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y + y), [0, x])[1]}


def _saved(folder, **signatures):
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(folder), signatures=signatures or None)


@pytest.mark.parametrize(
    ("shape", "kind", "call", "message"),
    [
        ((), "string", lambda x: {"y": x}, "takes text as 'x'"),
        (None, "float32", lambda x: {"y": x}, "takes <unknown> as 'x': its first side must be"),
        ((8, 4), "float32", lambda x: {"y": x}, r"takes \(8, 4\) as 'x': its first side must be"),
        ((None, 4), "float64", lambda x: {"y": x}, "takes float64 as 'x': save it with float32"),
        ((None, 4), "float32", _doubled_often, "cannot be called: as_list.. is not defined on an"),
        ((None, 4), "float32", lambda x: {"y": x[0, 0]}, r"returns \(\) as 'y': its first side"),
    ],
)
def test_a_signature_that_is_no_model(folder, shape, kind, call, message):
    _saved(folder / "saved", serving_default=_signature(shape, kind)(call))
    with pytest.raises(ValueError, match=message):
        exportable(folder / "saved")


def test_a_saved_model_of_images_of_bytes(folder, caplog):
    import tensorflow as tf

    _saved(
        folder / "saved",
        serving_default=_signature((None, 4, 4, 3), "uint8")(
            lambda x: {"y": tf.reduce_mean(tf.cast(x, "float32"), [1, 2])}
        ),
    )
    path = keras_parc.to_tflite(exportable(folder / "saved"), folder / "m.tflite")
    assert "Please report it" not in caplog.text
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("float32")
    np.testing.assert_allclose(keras_parc.TFLiteModel(path)(x), x.mean((1, 2)), rtol=1e-5)


def test_the_signature_of_a_saved_model(folder, caplog):
    twice = _signature((1, 3))(lambda x: {"y": x + x})
    _saved(folder / "two", plain=twice, odd=_signature((1, 3))(lambda x: {"y": x}))
    assert exportable(folder / "two")(np.ones((1, 3)))[0, 0] in (1, 2)
    assert "has no 'serving_default': its signature " in caplog.text
    caplog.clear()
    _saved(folder / "one", plain=twice)
    assert exportable(folder / "one")(np.ones((1, 3)))[0, 0] == 2
    assert not caplog.text
    _saved(folder / "none")
    with pytest.raises(ValueError, match=r"no signature to export: save it with `model\.export`"):
        exportable(folder / "none")


def test_a_saved_model_with_a_table(folder):
    import tensorflow as tf

    module = tf.Module()
    first = tf.lookup.KeyValueTensorInitializer([1], [2], "int64", "int64")
    module.table = tf.lookup.StaticHashTable(first, 0)
    found = _signature((None, 3), "int64")(lambda x: {"y": module.table.lookup(x)})
    tf.saved_model.save(module, str(folder / "saved"), signatures=found)
    with pytest.raises(ValueError, match="looks up a table, which TensorFlow Lite does not have"):
        exportable(folder / "saved")


def test_a_saved_model_that_is_broken(folder):
    (folder / "broken").mkdir()
    (folder / "broken/saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="TensorFlow cannot load"):
        exportable(folder / "broken")


def test_the_command(folder):
    answer = CliRunner().invoke(app, ["export", "own_layers:build", "m.tflite", "--strict"])
    assert answer.exit_code == 0, answer.output
    assert keras_parc.inspect(folder / "m.tflite").input_shape == (1, 8, 8, 3)
    assert "operations" in answer.output


def test_labels_of_a_subclassed_model(folder):
    """Such a model does not say how many classes it has: the export finds out."""
    (folder / "two.txt").write_text("cat\ndog\n")
    (folder / "three.txt").write_text("cat\ndog\nhen\n")
    arguments = ["export", "own_layers:subclassed", "m.tflite", "--input-range", "0..1"]
    failed = CliRunner().invoke(app, [*arguments, "--labels", "two.txt"])
    assert "has 2 labels, but 'pooled' has 3 classes" in str(failed.exception)
    assert not (folder / "m.tflite").exists()
    done = CliRunner().invoke(app, [*arguments, "--labels", "three.txt"])
    assert done.exit_code == 0, done.output
    assert read_metadata("m.tflite").labels == ("cat", "dog", "hen")


def test_int8_says_how_close_it_is(folder):
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(image))
    keras.Model(image, layers.Dense(4)(x)).save("m.keras")
    pictures = folder / "photos"
    pictures.mkdir()
    from PIL import Image

    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), "uint8")
        Image.fromarray(pixels).save(pictures / f"{number}.png")
    arguments = ["export", "m.keras", "m.tflite", "--quantize", "int8", "--input-range", "0..255"]
    wide = {"COLUMNS": "200"}
    answer = CliRunner().invoke(app, [*arguments, "--calibration", "photos"], env=wide)
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    assert "2 calibration images held out" in said
    assert "dB" in said


def test_for_an_npu(folder):
    """int8 from end to end; another format is refused."""
    (folder / "photos").mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), 80 * number, "uint8")).save(f"photos/{number}.png")
    arguments = ["own_layers:build", "a.tflite", "--calibration", "photos", "--target", "npu"]
    arguments += ["--input-range", "0..255"]
    done = CliRunner().invoke(app, ["export", *arguments, "--quantize", "int8"])
    assert done.exit_code == 0, done.output
    assert keras_parc.inspect("a.tflite").input_dtype == "int8"
    with pytest.raises(ValueError, match="`quantize` must be 'int8', got 'float16'"):
        CliRunner().invoke(
            app,
            ["export", "own_layers:build", "b.tflite", "--target", "npu", "--quantize", "float16"],
            catch_exceptions=False,
        )
    assert not (folder / "b.tflite").exists()
