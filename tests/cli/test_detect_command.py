"""`keras-parc predict` and `evaluate` with detectors, and the pictures they draw."""

import json

import numpy as np
import pytest
from PIL import Image

import squares
from keras_parc import TFLiteDetector
from keras_parc.tasks.detection.predicting import detector_of, draw


@pytest.fixture(scope="module")
def folder(tmp_path_factory, found_by_keras):
    """The model as a Keras file, a picture with a square and one without."""
    folder = tmp_path_factory.mktemp("predict")
    images, expected = found_by_keras
    squares.detector()[0].save(folder / "model.keras")
    (folder / "labels.txt").write_text("dark\nbright\n")
    empty = next(number for number, each in enumerate(expected) if not len(each["labels"]))
    for name, number in (("square", 1), ("empty", empty)):
        Image.fromarray(images[number].astype("uint8")).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize("kind", ["keras", "fp32", "int8"])
def test_predict(folder, detector_files, found_by_keras, run_cli, kind):
    path = folder / "model.keras"
    if kind != "keras":
        path = detector_files["int8" if kind == "int8" else None, False]
    pictures = folder / f"pictures_{kind}"
    arguments = (path, folder / "square.png", folder / "empty.png", "--threshold", 0.5)
    code, printed, _ = run_cli("predict", *arguments, "--json", "--draw", pictures)
    assert code == 0
    square, empty = json.loads(printed)
    assert empty["boxes"] == []
    best = found_by_keras[1][1]
    assert square["boxes"][0]["class"] == squares.LABELS[best["labels"][0]]
    box = np.float32([square["boxes"][0]["box"]])
    assert squares.overlap(box, best["boxes"][:1])[0] > (0.9 if kind == "int8" else 0.999)
    drawn, plain = (
        np.asarray(Image.open(each / "square.png").convert("RGB")) for each in (pictures, folder)
    )
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()
    unchanged = np.asarray(Image.open(pictures / "empty.png"))
    np.testing.assert_array_equal(unchanged, np.asarray(Image.open(folder / "empty.png")))
    code, printed, _ = run_cli("predict", *arguments)
    assert code == 0
    assert "nothing found" in printed


def test_evaluate(folder, run_cli):
    """Squares are no digits: a model of other classes is refused, not measured."""
    code, _, errors = run_cli(
        "evaluate", folder / "model.keras", "--dataset", "digit_scenes/tiny", "--split", "test[:8]"
    )
    assert code == 2
    assert "has 2 classes, but 'digit_scenes/tiny' has 10" in errors


def test_boxes_are_drawn_where_they_are():
    picture = Image.new("RGB", (200, 100), "white")
    found = {
        "boxes": np.float32([[0.5, 0.25, 2.0, 0.75], [0, 0, 0, 0]]),
        "scores": np.float32([0.9, 0.5]),
        "labels": np.array([1, 0]),
    }
    drawn = np.asarray(draw(picture, found, ["a", "b"]))
    ink = (drawn[60:] != 255).any(-1)
    columns = np.flatnonzero(ink.any(0))
    np.testing.assert_allclose(columns[[0, -1]], [0.25 * 199, 0.75 * 199], atol=1)
    assert np.asarray(picture).min() == 255


def test_a_file_takes_limits_too(detector_files, found_by_keras):
    images, _ = found_by_keras
    file = TFLiteDetector(detector_files[None, False])
    assert all(
        len(each["labels"]) <= 1 and (each["scores"] >= 0.8).all()
        for each in detector_of(file, score_threshold=0.8, max_boxes=1)(images[:4])
    )
    # A threshold among what the file finds, which has one of its own inside.
    scores = np.concatenate([each["scores"] for each in file(images)])
    threshold = float(np.median(scores))
    limited = detector_of(file, score_threshold=threshold)(images)
    assert 0 < sum(len(each["labels"]) for each in limited) == (scores >= threshold).sum()
    assert (scores < threshold).any()


def test_wrong_input(folder, detector_files, run_cli, tmp_path):
    (tmp_path / "one.txt").write_text("dark\n")
    model, image = folder / "model.keras", folder / "square.png"
    for arguments, message in (
        ((model, tmp_path / "none.png"), "There is no image file"),
        ((model, model), "is not an image file"),
        ((detector_files[None, True], image), "A file of one image and one output is needed"),
        ((model, image, "--labels", tmp_path / "none.txt"), "There is no label file"),
        ((model, image, "--labels", tmp_path / "one.txt"), "has 1 lines, but the model has 2"),
    ):
        code, _, errors = run_cli("predict", *arguments)
        assert code == 2
        assert message in errors
