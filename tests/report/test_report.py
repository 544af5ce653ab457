"""The report of a run: its page, its JSON and the command that renews them."""

import csv
import dataclasses
import json
import shutil
from html.parser import HTMLParser

import keras
import masks
import numpy as np
import pytest
from PIL import Image

import keras_parc
import squares
from keras_parc.lite.file.inspection import inspect
from keras_parc.report.page import html
from keras_parc.report.report import make_report, measured_split, plain
from keras_parc.report.run import Run
from keras_parc.report.sections import result_sentence
from keras_parc.tasks.analysis import Analysis, Gallery, Matrix, Picture, Section, Table
from keras_parc.tasks.classification.options import ClassificationOptions
from keras_parc.tasks.detection.options import DetectionOptions
from keras_parc.tasks.segmentation.options import SegmentationOptions
from keras_parc.tasks.task import find_task
from keras_parc.training.recipes import Recipe
from keras_parc.training.train import open_data

NASTY = "<script>alert(1)</script>"
CLASSES = [NASTY, "green", "red"]  # in the order of a folder
COMMON = ["Result", "Classes", "The worst mistakes of the int8 file", "Answers that int8 changed"]
COMMON += ["Training", "Size and speed", "Data", "To go on"]
OPTIONS = {
    "classification": ClassificationOptions(short_side=32),
    "detection": DetectionOptions(),
    "segmentation": SegmentationOptions(),
}


class Page(HTMLParser):
    """What a page holds: headings, and the elements with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.elements, self.text, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open[-1:] == ["h2"]:
            self.headings.append(data)
        if self._open[-1:] != ["style"]:
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def check_page(text, headings):
    """Nothing outside is asked for, and whoever cannot see it is told."""
    page = Page(text)
    assert page.headings == headings
    assert not page.all("script") + page.all("link") + page.all("iframe")
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "srcset", "href"):
                assert value.startswith("data:image/"), value[:60]
    assert "url(" not in text
    assert "@import" not in text
    assert all(each["alt"] for each in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert all("scope" in each for each in page.all("th"))
    assert "width=device-width" in text
    assert "prefers-color-scheme: dark" in text
    return page


def colour_model():
    """Says which of red, green and blue is strongest in an image; the first class is blue."""
    image = keras.Input((32, 32, 3))
    rate = keras.layers.Conv2D(3, 1, name="colour")
    x = keras.layers.GlobalAveragePooling2D()(rate(keras.layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, keras.layers.Softmax()(x), name="colours")
    order = np.eye(3)[[2, 1, 0]].T  # blue, green, red
    rate.set_weights([8 * order.reshape(1, 1, 3, 3), np.zeros(3)])
    return model


def write_run(folder, task, data, labels):
    recipe = Recipe(
        "made", "small", options=OPTIONS[task], data=str(data), size=32, sizes=(32,), epochs=2
    )
    if task != "classification":
        recipe = dataclasses.replace(recipe, size=64, sizes=(64,))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(recipe.to_json())
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in labels))
    score = find_task(task).learner.score
    with open(folder / "history.csv", "w", newline="") as file:
        rows = [["epoch", "loss", f"val_{score}"], [1, 2.5, 0.25], [2, 1.5, 0.75]]
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A finished run of a classifier, and its images: ten of each class, some of another colour."""
    root = tmp_path_factory.mktemp("colours")
    shades, rng = {NASTY: 2, "green": 1, "red": 0}, np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 10)):
        for name, channel in shades.items():
            # "/" is in no file's name.
            place = root / "data" / split / name.replace("/", "\N{DIVISION SLASH}")
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 60, (40, 48, 3))
                pixels[..., channel if number < 9 else (channel + 1) % 3] += 150
                file = f'{number}"><img src=x onerror=alert(1)>.png'
                Image.fromarray(pixels.astype("uint8")).save(place / file.replace("/", ""))
    labels = [name.replace("/", "\N{DIVISION SLASH}") for name in CLASSES]
    run = root / "run"
    write_run(run, "classification", root / "data", labels)
    model = colour_model()
    model.save(run / "model.keras")
    images = rng.integers(0, 256, (16, 32, 32, 3)).astype("float32")
    for name, quantize in (("float32", None), ("int8", "int8")):
        path = run / f"model_{name}.tflite"
        keras_parc.to_tflite(model, path, quantize=quantize, calibration=images)
    return root


@pytest.fixture(scope="module")
def report(colours):
    found = {"weights": "imagenet", "licence": "Apache-2.0", "source": "a package"}
    (colours / "run/weights.json").write_text(json.dumps(found))
    return make_report(Run(colours / "run"))


def test_report_of_a_classifier(colours, report):
    text = (colours / "run/report.json").read_text()
    stored = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    assert stored == report == Run(colours / "run").report
    assert (stored["split"], stored["images"], stored["task"]) == (
        "validation",
        30,
        "classification",
    )
    for name in ("keras", "float32", "int8"):  # the tenth of each class is of another colour
        assert stored["measures"][name] == {"top1": pytest.approx(0.9)}
        assert stored["bytes"][name] > 0
        assert stored["latency"][name]["median_ms"] > 0
    assert stored["int8_cost"]["top1"] == {"difference": 0, "interval": [0, 0]}
    assert stored["result"].startswith(
        "The int8 file names the right class for 90.0 % of 30 images that it was not trained on"
    )
    assert stored["result"].endswith(", the same as the Keras model.")
    assert len(stored["mistakes"]) == 3
    assert all(each["image"].startswith("val/") for each in stored["mistakes"])
    assert stored["partitions"] == {"float32": 1, "int8": 1}
    assert stored["data"]["splits"] == {"train": 12, "validation": 30}
    assert not list((colours / "run").glob(".*"))


def test_page_of_a_classifier(colours, report):
    text = (colours / "run/report.html").read_text()
    headings = [*COMMON[:4], "Can the scores be trusted?", *COMMON[4:7], "Licence", COMMON[7]]
    page = check_page(text, headings)
    assert "<script>" not in text
    assert "onerror=alert(1)>" not in text
    assert any("script>alert(1)" in each for each in page.text)  # its name is to be read
    assert len([each for each in page.all("img") if "onerror" in each["alt"]]) == 3
    whole = " ".join(page.text)
    assert report["result"] in whole
    assert "licence: Apache-2.0" in whole
    assert "keras-parc predict" in whole


def test_the_numbers_of_charts_and_marks_are_those_of_the_history(colours, report):
    text = (colours / "run/report.html").read_text()
    assert "The last: validation 0.750." in text
    assert "The last: training 1.500." in text


def test_the_memory_is_what_the_device_tool_says(colours, monkeypatch, report):
    from clients import TOOLS

    monkeypatch.syspath_prepend(str(TOOLS))
    import memory

    path = colours / "run/model_int8.tflite"
    assert inspect(path).arena == report["memory"]["int8"]
    assert inspect(path).arena / 2**20 == pytest.approx(memory.arena(str(path)), abs=0.01)


def test_images_that_chose_nothing_come_first(colours, tmp_path):
    shutil.copytree(colours / "data", tmp_path / "data")
    shutil.copytree(tmp_path / "data/val", tmp_path / "data/test")
    recipe = Run(colours / "run").recipe
    task = find_task("classification")
    for data, split in ((colours / "data", "validation"), (tmp_path / "data", "test")):
        recipe = dataclasses.replace(recipe, data=str(data))
        assert measured_split(recipe, task, open_data(recipe)) == split
    recipe = dataclasses.replace(recipe, validation_split="test[:50%]")
    assert measured_split(recipe, task, open_data(recipe)) == "test[:50%]"


def test_command(colours, report, run_cli, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(colours / "run", run)
    before = (run / "report.json").read_text()
    (run / "report.json").unlink()
    code, output, errors = run_cli("report", run)
    assert code == 0, errors
    assert output.splitlines() == [report["result"], f"The report is {run / 'report.html'}"]
    assert (
        json.loads((run / "report.json").read_text())["mistakes"] == json.loads(before)["mistakes"]
    )


def test_data_that_has_moved(colours, run_cli, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(colours / "run", run)
    recipe = dataclasses.replace(Run(run).recipe, data=str(tmp_path / "gone"))
    (run / "recipe.json").write_text(recipe.to_json())
    before = (run / "report.html").stat().st_mtime_ns if (run / "report.html").exists() else None
    code, _, errors = run_cli("report", run)
    assert code == 2
    assert errors.count("\n") == 1
    assert f"no folder '{tmp_path / 'gone'}'" in errors
    assert f"keras-parc report {run} --data FOLDER" in errors
    if before is not None:
        assert (run / "report.html").stat().st_mtime_ns == before
    code, _, errors = run_cli("report", run, "--data", colours / "data")
    assert code == 0, errors
    assert Run(run).report["images"] == 30


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("recipe.json", "There is no training run in"),
        ("model.keras", "There is no model.keras yet in"),
        ("model_int8.tflite", "There is no model_int8.tflite yet in"),
        ("labels.txt", "There is no labels.txt yet in"),
        ("history.csv", "There is no history.csv yet in"),
    ],
)
def test_a_run_that_is_not_finished(colours, run_cli, tmp_path, missing, message):
    run = tmp_path / "run"
    shutil.copytree(colours / "run", run, ignore=shutil.ignore_patterns("report.*", missing))
    code, _, errors = run_cli("report", run)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not list(run.glob("*report*"))


def test_an_origin_that_cannot_be_read_is_none(colours, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(colours / "run", run, ignore=shutil.ignore_patterns("report.*"))
    (run / "weights.json").write_text("[]")
    assert make_report(Run(run))["weights"] is None


def scenes_folder(root, kind):
    """Squares as a folder of YOLO's labels, or with masks."""
    images, boxes, labels = squares.scenes(16, 5)
    _, classes = masks.images_and_masks(16, 5)
    for place in ("images/val", "labels/val", "images/train", "labels/train", "masks"):
        (root / place).mkdir(parents=True)
    for number, image in enumerate(images):
        split = "train" if number < 4 else "val"
        name = f"{split}/{number}" if kind == "detection" else f"{number}"
        Image.fromarray(image.astype("uint8")).save(root / f"images/{name}.png")
        if kind == "segmentation":
            Image.fromarray(classes[number].astype("uint8")).save(root / f"masks/{number}.png")
            continue
        lines = [
            f"{label} {(left + right) / 2} {(top + bottom) / 2} {right - left} {bottom - top}\n"
            for (top, left, bottom, right), label in zip(boxes[number], labels[number], strict=True)
        ]
        (root / f"labels/{name}.txt").write_text("".join(lines))
    (root / "data.yaml").write_text("names: [dark, bright]\ntrain: images/train\nval: images/val\n")
    if kind == "segmentation":
        shutil.rmtree(root / "labels")
        (root / "data.yaml").unlink()


def test_report_of_a_detector(tmp_path, detector_files):
    scenes_folder(tmp_path / "data", "detection")
    run = tmp_path / "run"
    write_run(run, "detection", tmp_path / "data", squares.LABELS)
    squares.detector()[0].save(run / "model.keras")
    for name, quantize in (("float32", None), ("int8", "int8")):
        shutil.copy(detector_files[quantize, False], run / f"model_{name}.tflite")
    report = make_report(Run(run))
    assert report["images"] == 12
    assert report["measures"]["int8"]["map50"] > 0.6
    low, high = report["intervals"]["int8"]["map50"]
    assert low <= report["measures"]["int8"]["map50"] <= high
    assert 0 < report["threshold"] < 1
    text = (run / "report.html").read_text()
    page = check_page(text, [*COMMON[:2], "Which score threshold?", *COMMON[2:]])
    assert f"F1 is best at {report['threshold']:.2f}" in " ".join(page.text)
    for each in report["mistakes"][:1]:
        assert any(each["image"] in img["alt"] for img in page.all("img"))


def test_report_of_a_segmenter(tmp_path, segmenter_files):
    scenes_folder(tmp_path / "data", "segmentation")
    run = tmp_path / "run"
    write_run(run, "segmentation", tmp_path / "data", ["background", "1", "2"])
    masks.segmenter().save(run / "model.keras")
    files = {"float32": (None, "float32"), "int8": ("int8", "float32")}
    for name, key in files.items():
        shutil.copy(segmenter_files[key], run / f"model_{name}.tflite")
    report = make_report(Run(run))
    assert report["images"] == report["data"]["splits"]["validation"]
    assert report["measures"]["int8"]["miou"] > 0.6
    assert report["int8_cost"]["agreement"] > 0.9
    page = check_page((run / "report.html").read_text(), COMMON)
    worst = report["mistakes"][0]["image"]
    assert {
        each["alt"].split(":")[0] for each in page.all("img") if each["alt"].startswith(worst)
    } >= {f"{worst}, {view}" for view in ("picture", "truth", "int8")}


def test_text_of_others_is_escaped_wherever_it_stands():
    bad = "<b onmouseover=x>\u202e&"
    picture = Picture(bad, bad, {bad: Image.new("RGB", (4, 4))})
    parts = [
        bad,
        Table(bad, [bad, bad], [[bad, bad]]),
        Matrix(bad, [bad], np.ones((1, 1), int)),
        Gallery(bad, [picture]),
    ]
    text = html(bad, bad, [bad], [Section(bad, parts)], bad)
    page = Page(text)
    assert not page.all("b")
    assert not any("onmouseover" in attributes for _, attributes in page.elements)
    assert "\u202e" not in text  # would turn the line around
    assert " ".join(page.text).count("<b onmouseover=x>?&") >= 12


@pytest.mark.parametrize(
    ("difference", "end"),
    [
        (-0.0204, "so, 2.0 points less than the Keras model."),
        (0.01, "so, 1.0 points more than the Keras model."),
        (-0.0001, "so, the same as the Keras model."),
        (None, "so."),
    ],
)
def test_a_loss_is_called_a_loss(difference, end):
    analysis = Analysis(1, {}, "so", {}, "top1", {}, {}, {}, {}, [])
    assert result_sentence(analysis, {"int8_cost": {"top1": {"difference": difference}}}) == end


def test_json_has_no_numbers_that_are_none():
    value = {"a": np.float32("nan"), "b": [np.inf, np.int64(3)], 1: np.array([0.5])}
    assert plain(value) == {"a": None, "b": [None, 3], "1": [0.5]}
