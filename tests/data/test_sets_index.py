"""The index of a folder of labels: what was read once is what reading again would find."""

import json
import logging
import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from keras_parc.data.sets import recognise
from keras_parc.data.sets.found import Box, Found, Item
from keras_parc.data.sets.index import read_index
from keras_parc.data.sets.labelled import LabelledFolder
from keras_parc.data.sets.recognise import open_folder
from keras_parc.data.sources import open_source

NAMES = [f"ä {number}.png" for number in range(4)]
CLASSES = "names: [dog, cat]\n"


def write_images(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        pixels = np.full((6, 8, 3), 40 * number, "uint8")
        Image.fromarray(pixels).save(folder / name)


def coco(root, **shape):
    write_images(root)
    images = [
        {"id": 7 + number, "file_name": name, "height": 6, "width": 8}
        for number, name in enumerate(NAMES)
    ]
    annotations = [
        {"id": n, "image_id": 7 + n, "category_id": 3 + n % 2, "bbox": [n, 1, 3, 2], "area": 1.3}
        | {"iscrowd": n % 2}
        | shape
        for n in range(3)
    ]
    categories = [{"id": 3, "name": "dog"}, {"id": 4, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "_annotations.coco.json").write_text(json.dumps(content))


def coco_polygons(root):
    coco(root, segmentation=[[1.1, 1, 6, 1.7, 6, 4.3], [0, 0, 2, 0, 2, 2]])


def coco_runs(root):
    mask = np.zeros((6, 8), "uint8", order="F")
    mask[1:4, 2:7] = 1
    coco(root, segmentation={"size": [6, 8], "counts": coco_mask.encode(mask)["counts"].decode()})


def yolo(root, line="1 .5 .5 .25 .3\n0 .2 .2 .1 .1\n"):
    write_images(root / "images/train")
    labels = root / "labels/train"
    labels.mkdir(parents=True)
    for name in NAMES[1:]:
        (labels / name).with_suffix(".txt").write_text(line)
    (root / "data.yaml").write_text(CLASSES)


def yolo_polygons(root):
    yolo(root, "1 .1 .1 .9 .1 .9 .9 .13 .7\n")


def voc(root):
    write_images(root)
    for name in NAMES:
        (root / name).with_suffix(".xml").write_text(
            "<annotation><object><name>dog</name><difficult>1</difficult><bndbox><xmin>2</xmin>"
            "<ymin>1</ymin><xmax>6.5</xmax><ymax>5</ymax></bndbox></object></annotation>"
        )


def masks(root, value=1):
    write_images(root / "images")
    (root / "masks").mkdir()
    for number, name in enumerate(NAMES):
        Image.fromarray(np.full((6, 8), value * (number % 3), "uint8")).save(root / "masks" / name)


def coloured_masks(root):
    masks(root, value=10)
    (root / "labelmap.txt").write_text("dog:10,10,10::\ncat:20,20,20::\n")


def table(root):
    write_images(root)
    rows = "".join(f"{name},{'dog' if name < NAMES[2] else 'cat'}\n" for name in NAMES)
    (root / "labels.csv").write_text(f"file,label\n{rows}", encoding="utf-8")


def folders(root):
    write_images(root / "train/dog")
    write_images(root / "val/cat")


SETS = (coco, coco_polygons, coco_runs, yolo, yolo_polygons, voc, masks, coloured_masks)
SETS += (table, folders)


def kept(folder, place, task=None, **options):
    """Open a folder with its index, and write it as a folder of prepared sets has it."""
    return open_source(folder, place, None, task, **options)


def content(builder):
    """All that is in a set, the masks as they are drawn."""
    found = builder.found
    items = [
        [x.path, x.split, x.label, list(map(tuple, x.boxes)), x.classes, x.mask and x.mask()]
        for x in found.items
    ]
    numbers = [x.number for x in found.items]
    return found.task, found.format, found.names, found.ids, dict(found.notes), items, numbers


def unread(monkeypatch):
    """No reader may be asked."""

    def asked(*_):
        raise AssertionError("The folder was read.")

    monkeypatch.setattr(recognise, "_reading", asked)


@pytest.mark.parametrize("write", SETS, ids=lambda write: write.__name__)
def test_an_index_has_all_that_was_read(write, tmp_path, monkeypatch):
    folder, place = tmp_path / "set", tmp_path / "index"
    write(folder)
    place.mkdir()
    task = "segmentation" if write in (coco_polygons, coco_runs, yolo_polygons) else None
    expected = open_folder(folder, task)
    assert content(kept(folder, place, task)) == content(expected)
    unread(monkeypatch)
    again = kept(folder, place, task)
    assert content(again) == content(expected)
    assert again.paths == expected.paths
    assert again.report == expected.report
    assert kept(folder, place, expected.report.task).paths == expected.paths
    assert kept(folder, place, task, seed=3, validation=0.5).report.format
    with pytest.raises(AssertionError, match="was read"):
        open_folder(folder, task, index=tmp_path)


@pytest.mark.parametrize("change", ["a label", "a time", "a new image", "one less"])
def test_a_change_in_the_folder_is_seen(change, tmp_path):
    folder, place = tmp_path / "set", tmp_path / "index"
    yolo(folder)
    place.mkdir()
    kept(folder, place)
    label = (folder / "labels/train" / NAMES[1]).with_suffix(".txt")
    if change == "a label":
        label.write_text("0 .5 .5 .25 .3\n")
    elif change == "a time":
        before = label.stat()
        label.write_text(label.read_text().replace("1 .5", "0 .5"))
        os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    elif change == "a new image":
        Image.new("RGB", (8, 6)).save(folder / "images/train/new.png")
    else:
        (folder / "images/train" / NAMES[3]).unlink()
    expected = content(open_folder(folder))
    assert content(kept(folder, place)) == expected
    assert len(list(place.iterdir())) == 1  # the new one took the old one's place


def test_what_was_asked_for_counts(tmp_path):
    """A folder of two tasks is not answered by the index of one of them."""
    folder, place = tmp_path / "set", tmp_path / "index"
    yolo(folder)
    table(folder)
    place.mkdir()
    assert kept(folder, place, "detection").report.task == "detection"
    assert kept(folder, place, "classification").report.task == "classification"
    with pytest.raises(ValueError, match="say which one"):
        kept(folder, place)


@pytest.mark.parametrize("damage", ["", "{", "[]", "no text \udcff", '{"key": 1', "null"])
def test_a_damaged_index_is_read_anew(damage, tmp_path, caplog):
    folder, place = tmp_path / "set", tmp_path / "index"
    masks(folder)
    place.mkdir()
    expected = content(kept(folder, place))
    [file] = place.iterdir()
    whole = file.read_text()
    file.write_text(damage, errors="surrogateescape")
    assert content(kept(folder, place)) == expected
    assert "cannot be used" in caplog.text
    assert file.read_text() == whole
    damaged = json.loads(whole)
    del damaged["items"][1][3:]
    file.write_text(json.dumps(damaged))
    assert content(kept(folder, place)) == expected


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    folder, place = tmp_path / "set", tmp_path / "index"
    yolo(folder)
    place.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert kept(folder, place).report.task == "detection"
    assert "is not written" in caplog.text
    assert not list(place.iterdir())


def test_it_waits_for_the_folder_of_a_run(tmp_path):
    folder, place = tmp_path / "set", tmp_path / "run"
    yolo(folder)
    found = open_folder(folder, index=place).found
    assert not place.exists()
    place.mkdir()
    found.keep()
    assert len(list(place.iterdir())) == 1
    assert found.keep is None


def test_many_thousand_images(tmp_path, caplog):
    """Of generated records: all of them, and little memory for each."""
    caplog.set_level(logging.ERROR)
    folder, place = tmp_path / "set", tmp_path / "index"
    folder.mkdir()
    place.mkdir()
    count = 20_000

    def found():
        items = [
            Item(
                f"{folder}/images/{n:06d}.jpg", number=n, boxes=[Box(n % 5, 0.1, 0.2, 0.3, n / 1e6)]
            )
            for n in range(count)
        ]
        return Found("detection", "coco", list("abcde"), items, {})

    expected = found()
    read_index(place, folder, None, None, found).keep()
    tracemalloc.start()
    again = read_index(place, folder, None, None, lambda: pytest.fail("read"))
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert again.items == expected.items
    assert memory < 2000 * count
    builder = LabelledFolder(folder, again, validation=0.1)
    assert builder.report.splits == {"train": 18_000, "validation": 2_000}
    last = next(iter(builder.records("train", np.array([17_999]), ["image/id", "objects"])))
    number = int(last["image/id"])
    assert last["image/filename"].numpy().decode() == f"{folder}/images/{number:06d}.jpg"
    assert last["objects"]["bbox"].numpy()[0, 3] == np.float32(number / 1e6)
