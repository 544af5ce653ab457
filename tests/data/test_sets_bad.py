"""What people name by mistake, and files that break: one line each, nothing silently lost."""

import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from keras_parc.data.sources import num_examples, open_source

LABEL = "0 0.5 0.5 0.2 0.2\n"


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), "uint8")
    Image.fromarray(pixels).save(path)
    return path


def refused(source, message, **options):
    with pytest.raises((OSError, ValueError), match=message) as caught:
        open_source(source, check=None, **options)
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(tmp_path):
    refused(str(picture(tmp_path / "a.jpg")), r"a.jpg' is a file, expected .* the folder it is in")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "a.jpg")
    refused(tmp_path / "set.zip", r"is a file, expected a folder of images: unpack it first")
    refused("~/there/is/none", r"no folder '~/there/is/none'")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """Also one in the set; os.walk passes over it by default."""
    for name in "ab":
        picture(tmp_path / f"{name}/1.jpg")
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    refused(tmp_path, "Permission denied: .*/b")


def test_links(tmp_path):
    """To files outside; one to a folder above ends; one that leads nowhere is an image damaged."""
    for number in range(3):
        picture(tmp_path / f"set/cat/{number}.jpg", number)
    outside = picture(tmp_path / "outside.jpg", 9)
    (tmp_path / "set/cat/out.jpg").symlink_to(outside)
    (tmp_path / "set/cat/loop").symlink_to(tmp_path / "set")
    (tmp_path / "set/cat/gone.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "set/cat/self.jpg").symlink_to(tmp_path / "set/cat/self.jpg")
    assert sum(open_source(tmp_path / "set").report.splits.values()) == 6


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.yaml", "names: [caf\xe9]\n"),
        ("labels.json", '{"images": [], "annotations": [], "categories": [{"name": "caf\xe9"}]}'),
        ("labels.csv", "file,label\na.jpg,caf\xe9\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_labels_in_another_encoding(name, content, encoding, tmp_path):
    """Never taken for a folder of classes."""
    picture(tmp_path / "images/a.jpg")
    (tmp_path / name).write_bytes(content.encode(encoding))
    refused(tmp_path, f"{name}, line [12]: not UTF-8")


def test_xml_in_another_encoding(tmp_path):
    """Of UTF-16 its first bytes tell; of another one it says so, or is refused."""
    picture(tmp_path / "a.jpg")
    corners = "".join(f"<{each}>9</{each}>" for each in ("xmin", "ymin"))
    corners += "".join(f"<{each}>20</{each}>" for each in ("xmax", "ymax"))
    text = f"<object><name>caf\xe9</name><bndbox>{corners}</bndbox></object>"
    text = f"<annotation>{text}</annotation>"
    for content in (
        text.encode("utf-16"),
        b'<?xml version="1.0" encoding="latin-1"?>' + text.encode("latin-1"),
    ):
        (tmp_path / "a.xml").write_bytes(content)
        assert open_source(tmp_path, check=None).report.classes == {"caf\xe9": 1}
    (tmp_path / "a.xml").write_bytes(text.encode("latin-1"))
    refused(tmp_path, "a.xml, line 1: not XML")


def test_names_of_any_kind(tmp_path):
    names = ("with space", "<script>", "ansi\x1b[31m")
    for number, name in enumerate(names):
        picture(tmp_path / name / "a\nb \x1b[2J.jpg", number)
    assert list(open_source(tmp_path).report.classes) == sorted(names)


def test_many_classes(tmp_path):
    picture(tmp_path / "a.jpg")
    rows = "".join(f"{n}.jpg,class{n}\n" for n in range(50_000))
    (tmp_path / "labels.csv").write_text(f"file,label\n{rows}a.jpg,last\n")
    assert len(open_source(tmp_path).report.classes) == 50_001


def test_labels_for_two_tasks(tmp_path):
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "data.yaml").write_text("names: [one]\ntrain: images\n")
    (tmp_path / "images/a.txt").write_text("0 .1 .1 .2 .2 .3 .1\n")
    refused(tmp_path, "say which one with `task`")
    assert num_examples(tmp_path, "train", task="detection") == 1


@pytest.mark.parametrize("prefix", ["data/", ""])
def test_yolo_as_cvat_exports_it(prefix, tmp_path):
    """Two images of one name; the paths are those of Darknet's folder `data`."""
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    lines = [f"{s} = {prefix}{s}.txt\n" for s in ("train", "valid")]
    (tmp_path / "obj.data").write_text(
        f"classes = 2\n{''.join(lines)}names = {prefix}obj.names\nbackup = backup/\n"
    )
    for split, names in (("train", "ab"), ("valid", "a")):
        folder = f"obj_{split}_data"
        (tmp_path / f"{split}.txt").write_text(
            "".join(f"{prefix}{folder}/{name}.jpg\n" for name in names)
        )
        for name in names:
            picture(tmp_path / folder / f"{name}.jpg", seed=len(names))
            (tmp_path / folder / f"{name}.txt").write_text(LABEL)
    report = open_source(tmp_path, check=None).report
    assert (report.splits, report.classes) == ({"train": 2, "validation": 1}, {"cat": 3, "dog": 0})
    assert report.notes == {}


@pytest.mark.parametrize("suffix", ["_mask", "_seg"])
def test_masks_beside_their_images(suffix, tmp_path):
    mask = np.zeros((40, 48), "uint16")
    mask[10:20] = 2
    for number in range(3):
        picture(tmp_path / f"train/{number}.jpg", number)
        Image.fromarray(mask).save(tmp_path / f"train/{number}{suffix}.png")
    picture(tmp_path / "train/alone.jpg")
    report = open_source(tmp_path, check=None, validation=0.0).report
    assert (report.task, report.splits) == ("segmentation", {"train": 3})
    assert report.classes == {"background": 3, "1": 0, "2": 3}
    assert report.notes == {"images without a mask": ["train/alone.jpg"]}
    mask[0] = 300  # 16 bits have room for it
    Image.fromarray(mask).save(tmp_path / f"train/0{suffix}.png")
    refused(tmp_path, "it has the number 300")


def test_masks_that_are_no_png_files(tmp_path):
    for place in ("images", "masks"):
        picture(tmp_path / place / "a.jpg")
    refused(tmp_path, "masks must be PNG files; compression as JPEG's changes", task="segmentation")
    Image.fromarray(np.eye(48, dtype="uint8")[:40]).save(tmp_path / "masks/a.png")
    report = open_source(tmp_path, check=None, task="segmentation").report
    assert report.notes == {"masks that are no PNG files, left out": ["masks/a.jpg"]}


def test_labels_without_images_and_the_reverse(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(LABEL)
    (tmp_path / "data.yaml").write_text("names: [one]\n")
    refused(tmp_path, "no images to use .*label files without an image: 1")
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "one"}]}
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "instances_train.json").write_text(json.dumps(coco))
    for name in "ab":  # of one name, and listed nowhere
        picture(tmp_path / name / "1.jpg")
    refused(tmp_path, r"images that no label file names: 2 \(a/1.jpg, b/1.jpg\)")
