"""`keras-parc predict` with folders and patterns, and its answers as files, for all three tasks."""

import csv
import json

import keras
import masks
import numpy as np
import pytest
from PIL import Image

import squares


def three():
    """A classifier by colour: as bright as each channel."""
    image = keras.Input((64, 64, 3))
    pixels = keras.layers.Rescaling(1 / 255)(image)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(pixels))


MODELS = {
    "classification": (three, ["red", "green", "blue"], {"image", "class", "score"}),
    "detection": (
        squares.new_detector,
        squares.LABELS,
        {"image", "class", "score", "ymin", "xmin", "ymax", "xmax"},
    ),
    "segmentation": (masks.new_segmenter, masks.LABELS, {"image", "class"}),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def folder(request, tmp_path_factory):
    """A model, and a folder of two images of equal name, a damaged one and a note."""
    build, labels, columns = MODELS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    build().save(folder / "model.keras")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in labels))
    for name, colour in (("a", (250, 0, 0)), ("b", (0, 250, 0))):
        (folder / "images" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64), colour).save(folder / "images" / name / "x.png")
    (folder / "images" / "a" / "damaged.png").write_bytes(b"no picture")
    (folder / "images" / "notes.txt").write_text("not an image")
    return folder, columns


def predict(run_cli, folder, *arguments):
    """The answers as JSON and as CSV say them, and what was said of errors."""
    found = []
    extra = ("--threshold", 0) if folder.name.startswith("detection") else ()
    for ending in ("json", "csv"):
        out = folder / "answers" / f"all.{ending}"
        code, printed, errors = run_cli(
            "predict", folder / "model.keras", *arguments, *extra, "--out", out
        )
        assert (code, printed) == (0, ""), errors
        found.append(out)
    with found[1].open(newline="") as file:
        table = csv.DictReader(file)
        return json.loads(found[0].read_text()), list(table), set(table.fieldnames), errors


def test_a_folder_with_a_damaged_file(run_cli, folder):
    folder, columns = folder
    answers, rows, names, errors = predict(run_cli, folder, folder / "images")
    images = [str(folder / "images" / each) for each in ("a/x.png", "b/x.png", "a/damaged.png")]
    assert [each["image"] for each in answers] == images
    assert "error" in answers[2]
    assert errors.count("keras-parc: skipped:") == 1
    assert columns | {"error"} <= names
    assert list(dict.fromkeys(row["image"] for row in rows)) == images
    assert [row["image"] for row in rows if row["error"]] == images[2:]
    for answer in answers[:2]:
        (found,) = [value for key, value in answer.items() if key != "image"]
        own = [row for row in rows if row["image"] == answer["image"]]
        assert [row["class"] for row in own] == [str(each["class"]) for each in found]


def test_a_pattern_and_pictures_of_equal_names(run_cli, folder):
    folder, _ = folder
    arguments = (folder / "images" / "*" / "x.png", "--draw", folder / "drawn")
    answers, _, names, errors = predict(run_cli, folder, *arguments)
    assert len(answers) == 2
    assert "error" not in names
    assert "skipped" not in errors
    assert sorted(path.name for path in (folder / "drawn").iterdir()) == ["x.png", "x_2.png"]


@pytest.fixture
def classifier(tmp_path):
    three().save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_more_images_than_fit_at_once_and_one_damaged_in_each_part(run_cli, classifier, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(70):
        path = tmp_path / "many" / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        if number % 33 == 5:
            path.write_bytes(b"")
        else:
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), "uint8")).save(path)
    code, printed, errors = run_cli("predict", classifier, tmp_path / "many", "--json")
    assert code == 0, errors
    answers = json.loads(printed)
    assert len(answers) == 70
    assert [each["image"][-6:-4] for each in answers if "error" in each] == ["05", "38"]
    images = [each["image"] for each in answers if "error" not in each]
    assert images == sorted(images)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (["empty"], [], "There are no image files in"),
        (["*.gif"], [], "There are no image files in"),
        (["nowhere.png"], [], "None of 1 image files can be used."),
        (["good.png"], ["--out", "answers.txt"], "--out must end in .json or .csv"),
    ],
)
def test_what_cannot_be_answered(
    run_cli, classifier, tmp_path, monkeypatch, images, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (8, 8)).save("good.png")
    before = sorted(tmp_path.rglob("*"))
    code, printed, errors = run_cli("predict", classifier, *images, *options)
    assert (code, printed) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert sorted(tmp_path.rglob("*")) == before
