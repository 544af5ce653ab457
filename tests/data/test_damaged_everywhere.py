"""One damaged file ends no command: it is skipped, named and counted wherever images are read."""

import json
import logging
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from image_files import encoded, picture
from keras_parc.lite.quantize.calibration import calibration_images
from keras_parc.lite.rewrite.signature import model_inputs
from keras_parc.tasks.classification.measuring import evaluate_classifier

BROKEN = encoded(picture(1))[:300]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes, black and white, and in each split a damaged file among the white."""
    folder = tmp_path_factory.mktemp("folder")
    for split, count in (("train", 16), ("validation", 5)):
        for name in ("black", "white"):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 40), name).save(place / f"{number}.png")
        (folder / split / "white" / "broken.jpg").write_bytes(BROKEN)
    return folder


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """A model that tells black from white."""
    image = keras.Input((32, 32, 3))
    grey = keras.layers.Rescaling(1 / 255)(image)
    grey = keras.layers.GlobalAveragePooling2D()(grey)[:, :1]
    model = keras.Model(image, keras.layers.Concatenate()([1 - grey, grey]))
    path = tmp_path_factory.mktemp("light") / "light.keras"
    model.save(path)
    return path


def test_evaluate(folder, light, run_cli, caplog):
    with caplog.at_level(logging.WARNING, "keras_parc"):
        result = evaluate_classifier(light, folder)
    assert (result["top1"], result["images"], result["skipped"]) == (1.0, 10, 1)
    assert "broken.jpg" in caplog.text


def test_validation_in_training(folder, run_cli, tmp_path, caplog):
    """And a run does not go on with other classes."""
    import small_training  # noqa: F401 (registers the model "small")

    options = ("model=small", "epochs=1", "size=32", "sizes=32", "batch=4", "warm_up_steps=1")
    data, out = shutil.copytree(folder, tmp_path / "data"), tmp_path / "run"
    settings = [word for each in (*options, f"data={data}") for word in ("--set", each)]
    command = ("train", "--recipe", "digit_scenes", *settings, "--no-export", "--out", out)
    code, _, errors = run_cli(*command)
    assert code == 0, errors
    (row,) = json.loads((out / "result.json").read_text())["history"]
    assert np.isfinite(row["val_loss"])
    assert (out / "labels.txt").read_text() == "black\nwhite\n"
    assert "state --short-side 48 where it is used" in caplog.text  # small has no ImageInput

    for split in ("train", "validation"):
        (data / split / "white").rename(data / split / "grey")
    (out / "result.json").unlink()  # a finished run is left as it is
    code, _, errors = run_cli(*command)
    assert code == 2
    assert "began with the classes 'black', 'white'; the data now has 'black', 'grey'" in errors


def test_predict(folder, light, run_cli):
    code, printed, errors = run_cli("predict", light, folder / "validation", "--json")
    assert code == 0
    answers = json.loads(printed)
    assert len(answers) == 11
    (wrong,) = [each for each in answers if "error" in each]
    assert wrong["image"].endswith("broken.jpg")
    assert "damaged" in wrong["error"]
    assert "skipped: The file" in errors
    code, _, errors = run_cli("predict", light, folder / "validation/white/broken.jpg")
    assert (code, errors.count("\n")) == (2, 1)
    sound = folder / "train/black/0.png"
    code, _, errors = run_cli("predict", light, folder / "nowhere.jpg", sound)
    assert code == 0
    assert "There is no image file" in errors


def test_calibration(folder, light, caplog):
    model = keras.models.load_model(light)
    images = calibration_images(folder / "train", model_inputs(model), model)
    assert len(images) == 32
    assert "broken.jpg" in caplog.text
