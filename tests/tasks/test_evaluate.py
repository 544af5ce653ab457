"""`keras-parc evaluate` and `benchmark-data`: the figures, the files, and a user's mistakes."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_parc
from keras_parc.tasks.classification.measuring import evaluate_classifier

COLOURS = np.linspace(0, 255, 8).round().astype(int)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight classes, told apart by how red an image is; two images of each."""
    root = tmp_path_factory.mktemp("colours")
    for number, red in enumerate(COLOURS):
        path = root / "validation" / f"class_{number}"
        path.mkdir(parents=True)
        for index, size in enumerate([(70, 90), (90, 60)]):
            pixels = np.full((*size, 3), (red, 128, 10), "uint8")
            Image.fromarray(pixels).save(path / f"{index}.png")
    return root


def reds(classes, shift=0):
    """A model whose class is the nearest of COLOURS, `shift` classes further: of the last, 0."""
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    dense = keras.layers.Dense(classes, use_bias=True)
    model = keras.Model(inputs, dense(x))
    centres = np.roll(np.resize(COLOURS / 255, classes), shift)
    # -(x - c)^2 = 2cx - c^2 - x^2, and the last is the same for all classes.
    kernel = np.zeros((3, classes))
    kernel[0] = 2 * centres
    dense.set_weights([kernel, -(centres**2)])
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, model in {"right": reds(8), "shifted": reds(8, 1), "ten": reds(10)}.items():
        model.save(root / f"{name}.keras")
    keras_parc.to_tflite(reds(8), root / "right.tflite")
    return root


@pytest.mark.parametrize(
    ("name", "top1", "top5"),
    [("right.keras", 1.0, 1.0), ("right.tflite", 1.0, 1.0), ("shifted.keras", 0.0, 0.875)],
)
def test_accuracy(folder, files, run_cli, name, top1, top5):
    code, output, errors = run_cli(
        "evaluate", files / name, "--dataset", folder, "--batch", 3, "--json"
    )
    assert code == 0, errors
    result = json.loads(output)
    assert (result["top1"], result["top5"]) == (top1, top5)
    assert (result["images"], result["classes"]) == (16, 8)
    assert result["images_per_second"] == pytest.approx(16 / result["seconds"])
    assert result["model_images_per_second"] > result["images_per_second"]


def test_table(folder, files, run_cli):
    code, output, _ = run_cli("evaluate", files / "shifted.keras", "--dataset", folder)
    assert code == 0
    assert "0.00 %" in output
    assert "87.50 %" in output


def test_a_model_without_preprocessing_gets_what_is_stated(folder):
    inputs = keras.Input((None, None, 3))
    dense = keras.layers.Dense(8)
    model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(inputs)))
    kernel = np.zeros((3, 8))
    kernel[2] = 2 * COLOURS / 255  # red is the last channel
    dense.set_weights([kernel, -((COLOURS / 255) ** 2)])
    with pytest.raises(ValueError, match=r"state it \(--input-range"):
        evaluate_classifier(model, folder, size=32)
    result = evaluate_classifier(model, folder, size=32, input_range="bgr-0..1")
    assert result["top1"] == 1.0


@pytest.mark.slow
def test_a_name_with_weights(folder, tmp_path, run_cli):
    model = keras_parc.ParCNetTiny(
        classes=8, input_shape=(None, None, 3), include_preprocessing=False
    )
    weights = tmp_path / "tiny.weights.h5"
    model.save_weights(weights)
    expected = evaluate_classifier(model, folder, size=32)
    arguments = ("evaluate", "ParCNetTiny", "--dataset", folder, "--size", 32, "--json")
    code, output, errors = run_cli(*arguments, "--weights", weights)
    assert code == 0, errors
    assert json.loads(output)["top5"] == expected["top5"]
    assert "--weights" in run_cli(*arguments)[2]


def test_mistakes(folder, files, run_cli, tmp_path):
    right = files / "right.keras"
    (tmp_path / "text.tflite").write_text("no model")
    (tmp_path / "validation" / "a").mkdir(parents=True)
    (tmp_path / "validation" / "a" / "1.jpg").write_bytes(b"")
    for arguments, words in [
        ((files / "ten.keras", "--dataset", folder), "8 classes"),
        ((right, "--dataset", folder, "--split", "test"), "no split 'test'"),
        ((right, "--dataset", folder / "none"), "no folder"),
        ((right, "--dataset", "imagenet2012", "--data-dir", tmp_path), "downloaded by hand"),
        ((tmp_path / "text.tflite", "--dataset", folder), "not a TensorFlow Lite model"),
        ((tmp_path / "none.keras", "--dataset", folder), "no model file"),
        (("ParCNetXL", "--weights", "x.h5", "--dataset", folder), "ParCNetXS"),
    ]:
        code, _, errors = run_cli("evaluate", *arguments)
        assert code == 2
        assert words in errors
        assert "Traceback" not in errors


def test_more_damaged_images_than_the_limit_are_an_error(files, tmp_path):
    for number in range(8):
        (tmp_path / "validation" / str(number)).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "validation" / str(number) / "a.png")
    for number in range(101):
        (tmp_path / "validation" / "3" / f"{number}.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"limit is 100: .*\.jpg \(not an image file that"):
        evaluate_classifier(keras.models.load_model(files / "right.keras"), tmp_path)


@pytest.mark.slow
def test_benchmark_data(folder, run_cli):
    arguments = ("benchmark-data", folder, "--split", "validation", "--size", 32)
    code, output, errors = run_cli(*arguments, "--batch", 8, "--batches", 1)
    assert code == 0, errors
    assert "pipeline to read and decode" in output
    code, _, errors = run_cli(*arguments, "--batch", 64)
    assert code == 2
    assert "16 images, fewer than a batch of 64" in errors
