"""Folders in YOLO's format: the ways to write data.yaml, label files and lists; wrong lines."""

import numpy as np
import pytest

from box_sets import scene
from keras_parc.data.sets.recognise import open_folder
from keras_parc.tasks.detection.data import category_ids, class_names, open_detection_source
from labelled_boxes import NAMES, check_boxes, objects, read_boxes, truth, write_image

LIST = "names: [dog, cat, bird]\nnc: 3\n"
DICTIONARY = "names:\n  0: dog\n  1: cat\n  2: bird\n"


def lines(index):
    image = scene(index)[0]
    text = ""
    for name, (x, y, w, h) in zip(*objects(index), strict=True):
        centre = (x + w / 2) / image.width, (y + h / 2) / image.height
        numbers = (*centre, w / image.width, h / image.height)
        text += " ".join([str(NAMES.index(name)), *(f"{each:.6f}" for each in numbers)]) + "\n"
    return text


def write(root, place, indices):
    """Images in a folder, labels in the one of the same place; none for an empty image."""
    for index in indices:
        write_image(root / place / f"{index}.jpg", index)
        labels = root / place.replace("images", "labels") / f"{index}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        if index % 5:
            labels.write_text(lines(index))


@pytest.mark.parametrize(
    ("places", "text"),
    [
        (("images/train", "images/val"), "path: .\ntrain: images/train\nval: images/val\n" + LIST),
        (
            ("images/train", "images/val"),
            "path: ../datasets/x\ntrain: images/train\nval: images/val\n" + DICTIONARY,
        ),
        (("train/images", "valid/images"), "train: ../train/images\nval: ../valid/images\n" + LIST),
        (
            ("train/images", "valid/images"),
            "train: ROOT/train/images\nval: ROOT/valid/images\n" + LIST,
        ),
        (("a/images", "b/images"), "path: ROOT\ntrain:\n  - a/images\nval: [b/images]\n" + LIST),
        (("images", "more/images"), "train: one.txt\nval: two.txt\n" + DICTIONARY),
        (("images/train", "images/val"), LIST),
    ],
    ids=["folders", "moved", "roboflow", "absolute", "lists", "files", "no entries"],
)
def test_every_way_to_name_the_splits(places, text, tmp_path):
    splits = dict(zip(places, ((1, 2, 5), (3, 10)), strict=True))
    for place, indices in splits.items():
        write(tmp_path, place, indices)
    for file, place in zip(("one.txt", "two.txt"), places, strict=True):
        if file in text:
            start = "./" if file == "one.txt" else f"{tmp_path}/"
            names = [f"{start}{place}/{index}.jpg" for index in splits[place]]
            (tmp_path / file).write_text("\n".join(names) + "\n")
    (tmp_path / "data.yaml").write_text(text.replace("ROOT", str(tmp_path)))
    builder = open_detection_source(tmp_path)
    check_boxes(builder, splits[places[0]], "train", tolerance=2e-6)
    expected = sorted(str(tmp_path / places[1] / f"{index}.jpg") for index in (3, 10))
    assert sorted(builder.paths["validation"]) == expected
    assert (class_names(builder), category_ids(builder)) == (list(NAMES), [1, 2, 3])
    (note,) = builder.report.notes.values()
    assert sorted(note) == sorted([f"{places[0]}/5.jpg", f"{places[1]}/10.jpg"])


def test_classes_txt_and_labels_beside_the_images(tmp_path):
    """As labelImg exports; a polygon is the box around it."""
    for index in range(1, 5):
        write_image(tmp_path / f"{index}.jpg", index)
        (tmp_path / f"{index}.txt").write_text(lines(index))
    (tmp_path / "4.txt").write_text("2 0.1 0.2 0.5 0.3 0.4 0.9\n")
    (tmp_path / "classes.txt").write_text("dog\ncat\nbird\n")
    found = read_boxes(open_folder(tmp_path, "detection", validation=0), "train")
    np.testing.assert_allclose(found["1"][1], truth(1)[1], atol=2e-6)
    assert found["4"][0] == ["bird"]
    np.testing.assert_allclose(found["4"][1], [[0.2, 0.1, 0.9, 0.5]], atol=1e-6)


def test_what_is_wrong_with_labels_is_counted(tmp_path):
    write(tmp_path, "images", (1, 2))
    text = "0 0.1 0.5 0.4 0.2\n0 0.1 0.5 0.4 0.2\n1 1.5 0.5 0.2 0.2\n1 0.5 0.5 0 0.2\n"
    (tmp_path / "labels/1.txt").write_text(text)
    (tmp_path / "labels/7.txt").write_text(lines(7))
    write_image(tmp_path / "extra/9.jpg", 9)
    (tmp_path / "data.yaml").write_text("train: images\ntest: elsewhere\n" + LIST)
    assert open_detection_source(tmp_path).report.notes == {
        "annotations there twice": ["labels/1.txt, line 2"],
        "boxes clipped to their image": ["labels/1.txt, line 1"],
        "boxes without area or outside their image, left out": [
            "labels/1.txt, line 3",
            "labels/1.txt, line 4",
        ],
        "entries of data.yaml that are not in the folder": ["elsewhere"],
        "images that no label file names": ["extra/9.jpg"],
        "label files without an image": ["labels/7.txt"],
    }


def test_nothing_outside_the_folder_is_read(tmp_path):
    write(tmp_path / "outside", "images", (1,))
    write(tmp_path / "set", "images", (2,))
    (tmp_path / "set" / "data.yaml").write_text(
        f"train: [{tmp_path}/outside/images, images]\n" + LIST
    )
    assert open_detection_source(tmp_path / "set").paths == {
        "train": [str(tmp_path / "set/images/2.jpg")]
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 0.5 0.5 0.1 0.1", r"labels/1\.txt, line 1: there is no class 3; expected 0 to 2"),
        ("-1 0.5 0.5 0.1 0.1", "there is no class -1"),
        ("dog 0.5 0.5 0.1 0.1", "there is no class dog"),
        ("0.5 0.5 0.5 0.1 0.1", "there is no class 0.5"),
        ("1 0.5 0.5 0.1", "got 3 numbers"),
        ("1 0.5 0.5 0.1 0.1 0.9 0.9 0.9", "got 7 numbers"),
        ("1 0.5 nan 0.1 0.1", "not all are numbers"),
        ("1 0.5 inf 0.1 0.1", "a box of four numbers"),
    ],
)
def test_a_wrong_line_is_named(line, message, tmp_path):
    write(tmp_path, "images", (1,))
    (tmp_path / "labels/1.txt").write_text(line + "\n")
    (tmp_path / "data.yaml").write_text(LIST)
    with pytest.raises(ValueError, match=message):
        open_detection_source(tmp_path)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [dog\n", "line 2: not YAML"),
        (BOMB, r"data\.yaml, line 2: not YAML: an alias, refused here"),
        ("names: " + "[" * 5000, "nested too deep"),
        ("names: {0: dog, 2: cat}", r"the numbers \[0, 2\]; expected 0 to 1"),
        ("names: 3", "must be a list or a dictionary"),
        ("names: [a, a]", "two classes have the name 'a'"),
        ("names: [[a]]", "is no text"),
        (
            "names: !!python/object/apply:os.getcwd []",
            "not YAML: could not determine a constructor",
        ),
        ("names: [a]\ntrain: 3", "`train` must be a folder"),
        ("# names\nfoo: 1", "no YAML file here is a dictionary with `names`"),
        ("names: [d\udce9]", "line 1: not UTF-8"),
    ],
    ids=range(11),
)
def test_wrong_settings_are_refused_in_a_line(text, message, tmp_path):
    write(tmp_path, "images", (1,))
    (tmp_path / "data.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as error:
        open_detection_source(tmp_path)
    assert "\n" not in str(error.value)


def test_two_formats_in_a_folder_must_be_told_apart(tmp_path):
    write(tmp_path, "images", (1,))
    (tmp_path / "data.yaml").write_text(LIST)
    (tmp_path / "table.csv").write_text("file,label\nimages/1.jpg,dog\n")
    message = "read as detection in the format 'yolo' or as classification in the format 'table'"
    with pytest.raises(ValueError, match=message) as error:
        open_folder(tmp_path)
    assert "with `format`" in str(error.value)
    assert open_folder(tmp_path, format="yolo").report.task == "detection"
    assert open_folder(tmp_path, "classification").report.format == "table"
    with pytest.raises(ValueError, match="`format` must be one of coco, yolo"):
        open_folder(tmp_path, format="xml")
