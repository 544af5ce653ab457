"""What a command is told arrives; an option that would do nothing is a mistake."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_parc
import squares


def test_the_threshold_is_heard(run_cli, tmp_path):
    """A detector that is sure of nothing: at 0 it shows boxes, at 0.9 none."""
    squares.new_detector().save(tmp_path / "unsure.keras")
    Image.fromarray(np.zeros((32, 32, 3), "uint8")).save(tmp_path / "a.png")
    counts = []
    for threshold in (0, 0.9):
        code, printed, errors = run_cli(
            *("predict", tmp_path / "unsure.keras", tmp_path / "a.png", "--json"),
            *("--threshold", threshold),
        )
        assert code == 0, errors
        counts.append(len(json.loads(printed)[0]["boxes"]))
    assert counts[0] > 0
    assert counts[1] == 0


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A classifier of three classes and a detector, and a picture."""
    folder = tmp_path_factory.mktemp("models")
    image = keras.Input((32, 32, 3))
    pixels = keras.layers.Rescaling(1 / 255)(image)
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(pixels)).save(folder / "three.keras")
    squares.new_detector().save(folder / "boxes.keras")
    Image.fromarray(np.zeros((32, 32, 3), "uint8")).save(folder / "a.png")
    return folder


USELESS = [
    ("predict three.keras a.png --threshold 0.5", "--threshold has no meaning for"),
    ("predict boxes.keras a.png --top 2", "--top has no meaning for"),
    ("predict three.keras a.png --top 99", "--top must be at most 3, the number of classes, got 9"),
    ("evaluate three.keras --dataset x --size 64", "--size is for models of any size"),
    ("evaluate three.keras --dataset x --protocol native", "--protocol has no meaning for"),
    ("evaluate boxes.keras --dataset x --short-side 64", "--short-side has no meaning for"),
    ("export three.keras b.tflite --calibration .", "--calibration is for --quantize int8"),
    ("train --recipe digit_scenes", "--out is missing"),
]


@pytest.mark.parametrize(("line", "message"), USELESS)
def test_an_option_that_would_do_nothing_is_a_mistake(line, message, models, run_cli, monkeypatch):
    monkeypatch.chdir(models)
    before = sorted(models.iterdir())
    code, printed, errors = run_cli(*line.split())
    assert (code, printed) == (2, "")
    assert message in errors
    assert errors.count("\n") == 1
    assert sorted(models.iterdir()) == before


def test_top_of_all_classes_and_a_recipe_without_a_folder(models, run_cli):
    code, printed, _ = run_cli(
        "predict", models / "three.keras", models / "a.png", "--top", 3, "--json"
    )
    assert (code, len(json.loads(printed)[0]["guesses"])) == (0, 3)
    code, printed, _ = run_cli("train", "--recipe", "digit_scenes", "--show")
    assert (code, json.loads(printed)["model"]) == (0, "parc_net_xs")


def test_one_class_is_no_softmax():
    options = {"input_shape": (32, 32, 3), "classes": 1}
    for softmax in ("softmax", keras.activations.softmax):
        with pytest.raises(ValueError, match="softmax of one class is 1 for every image"):
            keras_parc.ParCNetTiny(**options, classifier_activation=softmax)
    assert keras_parc.ParCNetTiny(**options, classifier_activation="sigmoid").output_shape[1] == 1
    assert keras_parc.ParCNetTiny(**options, include_top=False).output_shape[-1] == 320


def test_names_are_shown_as_they_are_and_never_raw(models, run_cli, tmp_path, monkeypatch):
    """Square brackets are no markup, and escapes do not reach the terminal."""
    (tmp_path / "[bold]a.png").write_bytes((models / "a.png").read_bytes())
    (tmp_path / "names.txt").write_text("[red]apple\n\x1b[2Jb\nc\n")
    monkeypatch.chdir(tmp_path)
    arguments = ("predict", models / "three.keras", "[bold]a.png", "--labels", "names.txt")
    code, printed, errors = run_cli(*arguments)
    assert code == 0, errors
    assert "[bold]a.png" in printed
    assert "[red]apple" in printed
    assert "\x1b[2J" not in printed
    code, _, errors = run_cli("predict", models / "three.keras", tmp_path / "\x1b[2Jno.png")
    assert (code, "\x1b" in errors) == (2, False)
