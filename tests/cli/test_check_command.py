"""`keras-parc check`: what a set is understood as, and what is wrong with it."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from image_files import encoded
from keras_parc.data.scan import scan
from keras_parc.data.sets.advice import warnings_of
from keras_parc.data.sets.found import Report
from keras_parc.data.sources import open_source
from keras_parc.report.data_check import print_report

BAD_NAME = "b\x1b[31m[red]<script>"


def noise(seed, side=40, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), "uint8")
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve good images of one class, eight of another, and one of each kind of fault."""
    root = tmp_path_factory.mktemp("photos")
    for name, count in (("cat", 12), (BAD_NAME, 8)):
        (root / "train" / name).mkdir(parents=True)
        for number in range(count):
            file = root / "train" / name / f"{number}.jpg"
            file.write_bytes(encoded(noise(count + 100 * number), "JPEG"))
    cats, held_out = root / "train/cat", root / "val/cat"
    held_out.mkdir(parents=True)
    shutil.copy(cats / "0.jpg", held_out / "again.jpg")
    (cats / "cut.jpg").write_bytes((cats / "1.jpg").read_bytes()[:600])
    (cats / "empty.jpg").touch()
    (cats / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (cats / "cmyk.jpg").write_bytes(encoded(noise(1, mode="CMYK"), "JPEG"))
    (cats / "small.png").write_bytes(encoded(noise(2, side=8), "PNG"))
    grey = Image.fromarray(np.arange(1600, dtype="uint16").reshape(40, 40))
    (cats / "sixteen.png").write_bytes(encoded(grey, "PNG"))
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(3).save(cats / "turned.jpg", exif=exif)
    (root / "notes.txt").write_text("mine")
    return root


def test_a_folder_is_checked(photos, run_cli, tmp_path):
    code, printed, _ = run_cli("check", photos, "--out", tmp_path)
    assert code == 0
    lines = printed.splitlines()
    first = (
        "classification, format folders: 28 images (train 27, validation 1; validation: its own)"
    )
    assert lines[0] == first
    assert "files that are no images of a class: 1 (notes.txt)" in lines
    assert any(
        each.startswith("Warning: Classes without images in validation: b?[31m") for each in lines
    )
    assert any(
        each.startswith("Warning: Classes of fewer than 10 images: b?[31m") for each in lines
    )
    assert any("images that cannot be read, left out in training: 3 (" in each for each in lines)
    assert "\x1b" not in printed
    found = json.loads((tmp_path / "check.json").read_text())
    assert found["classes"] == {BAD_NAME: 8, "cat": 20}
    assert found["by_split"]["validation"] == {BAD_NAME: 0, "cat": 1}
    damaged = {
        name.rpartition("/")[2]: why for name, why in found["images"]["damaged"]["first"].items()
    }
    assert damaged["empty.jpg"] == "empty"
    assert damaged["cut.jpg"].startswith("damaged: ")
    assert damaged["gone.jpg"] == "cannot be read: No such file or directory"
    assert found["images"]["kinds"] == {"CMYK": 1, "16-bit": 1}
    assert (found["images"]["turned"], found["images"]["readable"]) == (1, 25)
    assert [name.rpartition("/")[2] for name in found["images"]["small"]["first"]] == ["small.png"]
    assert len(found["in_two_splits"]["first"][0]) == 2
    sheet = np.asarray(Image.open(tmp_path / "samples.png"))
    assert sheet.shape == (4 * 262, 5 * 240, 3)
    assert sheet.std() > 50  # noise, not an empty page
    assert np.asarray(Image.open(tmp_path / "histograms.png")).std() > 20


def test_quick_reads_no_image(photos, run_cli, monkeypatch):
    monkeypatch.setattr("keras_parc.data.scan.decode", None)
    code, printed, _ = run_cli("check", photos, "--quick", "--json")
    found = json.loads(printed)
    assert (code, found["splits"], "images" in found) == (0, {"train": 27, "validation": 1}, False)


def test_boxes_and_masks_are_drawn(run_cli, tmp_path):
    """Squares of one colour at the places that the labels say."""
    root = tmp_path / "set"
    for place in ("images", "labels", "masks"):
        (root / place).mkdir(parents=True)
    black = np.zeros((60, 80, 3), "uint8")
    mask = np.zeros((60, 80), "uint8")
    mask[15:45, 20:60] = 1
    for number in range(12):
        black[0, 0] = number
        Image.fromarray(black).save(root / f"images/{number}.png")
        Image.fromarray(mask).save(root / f"masks/{number}.png")
        (root / f"labels/{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("names: [square]\ntrain: images\n")
    for task, inside in (("detection", (0, 0, 0)), ("segmentation", (76, 0, 0))):
        out = tmp_path / task
        code, printed, _ = run_cli("check", root, "--task", task, "--out", out)
        assert code == 0
        assert f"{task}, format" in printed
        sheet = np.asarray(Image.open(out / "samples.png"))
        # The picture of 60x80 is 176x234 below a caption of 22, its middle inside the square.
        assert tuple(sheet[22 + 88, 120]) == inside
        assert sheet[22 + 44 : 22 + 132, 3 + 58 : 3 + 176].max() > 70


def test_a_set_of_tfds_is_checked(run_cli):
    code, printed, _ = run_cli("check", "digit_scenes/tiny", "--task", "detection", "--json")
    found = json.loads(printed)
    assert (code, found["splits"]) == (0, {"train": 320, "validation": 80, "test": 100})
    assert sum(found["classes"].values()) == 500
    assert found["images"]["readable"] == 500
    code, _, errors = run_cli("check", "digit_scenes/tiny")
    assert code == 2
    assert "say --task" in errors


def test_a_set_without_a_sound_image_is_refused(tmp_path, run_cli):
    for name in ("a/1.jpg", "b/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"no image")
    code, _, errors = run_cli("check", tmp_path)
    assert code == 2
    assert errors.splitlines()[-1].startswith("keras-parc: None of the 2 images can be read")


def test_damaged_images_of_a_set_are_named_whatever_the_order(photos):
    builder = open_source(photos)
    found = scan(builder, "classification")
    assert found.images + len(found.damaged) == 28
    assert len(found.sizes) == 25
    assert [48, 40] in found.sizes.tolist()  # turned: upright


def test_many_classes_are_shortened():
    classes = {f"class{number}": number for number in range(1, 50_000)} | {"[red]x[/]": 50_000}
    report = Report(
        "classification", "folders", {"train": sum(classes.values())}, "none", classes, {}
    )
    console = Console(width=100, record=True)
    print_report(report, console)
    printed = console.export_text()
    assert "and 49988 more" in printed
    assert "│ [red]x[/] " in printed
    assert "class1 " in printed
    assert len(printed.splitlines()) < 30


@pytest.mark.parametrize(
    ("task", "classes", "validation", "expected"),
    [
        ("classification", {"a": 50}, {"a": 10}, ["one class only, 'a'"]),
        ("detection", {"a": 50}, {"a": 10}, []),
        ("detection", {"a": 50, "b": 0}, {"a": 10}, ["without objects: b"]),
        ("classification", {"a": 50, "b": 9}, {"a": 5, "b": 2}, ["fewer than 10 images: b (9)"]),
        ("classification", {"a": 50, "b": 50}, {"a": 5}, ["without images in validation: b"]),
        (
            "classification",
            {"a": 500, "b": 50},
            {"a": 5, "b": 5},
            ["uneven: 500 images of 'a', 50"],
        ),
        ("segmentation", {"background": 900, "b": 50}, {"background": 9, "b": 5}, []),
        ("classification", {"a": 50, "b": 50}, None, ["no validation split"]),
    ],
)
def test_warnings(task, classes, validation, expected):
    splits = {"train": 100} | ({} if validation is None else {"validation": 10})
    by_split = {"train": classes} | ({} if validation is None else {"validation": validation})
    found = warnings_of(Report(task, "folders", splits, "its own", classes, {}, by_split))
    assert len(found) == len(expected)
    for sentence, part in zip(found, expected, strict=True):
        assert part in sentence


def test_a_folder_is_measured_as_stated(run_cli, tmp_path):
    for number in range(20):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(number).save(path)
    model = tmp_path / "model.keras"
    layers = [keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255)]
    layers += [keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    keras.Sequential(layers).save(model)
    options = ["--dataset", tmp_path / "set", "--json", "--validation", "0.5"]
    code, printed, _ = run_cli("evaluate", model, *options, "--format", "folders")
    assert (code, json.loads(printed)["images"]) == (0, 10)
    code, _, errors = run_cli("evaluate", model, *options, "--format", "yolo")
    assert (code, "expected" in errors) == (2, True)
    code, _, errors = run_cli("evaluate", model, "--format", "yolo")
    assert (code, "--format and --split-by are for folders" in errors) == (2, True)
