"""Folders in PASCAL VOC's format: VOCdevkit, labelImg's, Roboflow's, CVAT's; wrong files."""

import numpy as np
import pytest

from box_sets import scene
from keras_parc.data.sets.recognise import open_folder
from keras_parc.tasks.detection.data import class_names, open_detection_source
from labelled_boxes import check_boxes, objects, read_boxes, truth, write_image


def xml(index, name=None, size=True, form=str, more=""):
    """An annotation as labelImg writes it, without `difficult`."""
    image = scene(index)[0]
    text = f"<annotation>\n<filename>{name or f'{index}.jpg'}</filename>\n"
    if size:
        text += f"<size><width>{image.width}</width><height>{image.height}</height></size>\n"
    for label, (x, y, w, h) in zip(*objects(index), strict=True):
        corners = {"xmin": x, "ymin": y, "xmax": x + w, "ymax": y + h}
        corners = "".join(f"<{key}>{form(value)}</{key}>" for key, value in corners.items())
        part = "<part><name>head</name><bndbox><xmin>0</xmin></bndbox></part>"
        text += f"<object>{part}<name>{label}</name><bndbox>{corners}</bndbox></object>\n"
    return text + more + "</annotation>\n"


def write(root, indices, images="JPEGImages", labels="Annotations", **options):
    for index in indices:
        write_image(root / images / f"{index}.jpg", index)
        (root / labels).mkdir(parents=True, exist_ok=True)
        (root / labels / f"{index}.xml").write_text(xml(index, **options))


def write_list(root, name, indices):
    path = root / "ImageSets" / "Main" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{index}\n" for index in indices))


@pytest.mark.parametrize("top", ["", "VOCdevkit/VOC2012"])
def test_vocdevkit(top, tmp_path):
    """The lists of single classes and the two splits together are no more images."""
    root = tmp_path / top
    write(root, range(1, 9))
    write_list(root, "train", (1, 2, 3, 5))
    write_list(root, "val", (4, 6, 7))
    write_list(root, "trainval", range(1, 8))
    write_list(root, "dog_train", ("1  1", "2 -1"))
    check_boxes(tmp_path, (1, 2, 3, 5), "train")
    check_boxes(tmp_path, (4, 6, 7), "val")
    builder = open_detection_source(tmp_path)
    assert class_names(builder) == ["bird", "cat", "dog"]
    unused = "Annotations/8.xml" if not top else f"{top}/Annotations/8.xml"
    assert builder.report.notes["label files that no list names"] == [unused]


def test_voc_2007_has_trainval(tmp_path):
    write(tmp_path, range(1, 4))
    write_list(tmp_path, "trainval", (1, 2, 9))
    write_list(tmp_path, "test", (3,))
    report = open_detection_source(tmp_path).report
    assert report.splits == {"train": 2, "test": 1}
    assert report.notes == {"names in lists without a label file": ["Annotations/9"]}


def test_folders_of_splits_without_lists(tmp_path):
    """As Roboflow writes them: everything of a split in its folder."""
    for split, indices in {"train": (1, 2), "valid": (3, 5)}.items():
        write(tmp_path, indices, split, split)
    check_boxes(tmp_path, (1, 2), "train")
    check_boxes(tmp_path, (3, 5), "valid")


def test_cvat_s_folder(tmp_path):
    """With a list called default, colours of the classes, and names in other folders."""
    write(tmp_path, range(1, 6), "JPEGImages/a", "Annotations/a")
    write_list(tmp_path, "default", [f"a/{index}" for index in range(1, 6)])
    classes = "background:0,0,0::\ndog:1,0,0::\ncat:2,0,0::\nbird:3,0,0::\n"
    (tmp_path / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{classes}")
    builder = open_folder(tmp_path, validation=0)
    assert (class_names(builder), builder.report.splits) == (["dog", "cat", "bird"], {"train": 5})
    np.testing.assert_allclose(read_boxes(builder, "train")["1"][1], truth(1)[1], atol=1e-6)


def test_labelimg_s_flat_folder(tmp_path):
    """Renamed files, sizes left out or 0, numbers as text with spaces; one not labelled."""
    write(tmp_path, (1, 2), ".", ".", name="IMG_77.JPG", form=lambda value: f" {value:.6f} ")
    write(tmp_path, (3,), ".", ".", size=False)
    write_image(tmp_path / "4.jpg", 4)
    write_image(tmp_path / "other.jpg", 6)
    (tmp_path / "6.xml").write_text(xml(6, name="C:\\photos\\other.jpg"))
    builder = open_folder(tmp_path, validation=0)
    assert builder.report.notes == {
        "label files that name another image than that of their own name": ["1.xml", "2.xml"],
        "images that no label file names": ["4.jpg"],
    }
    found = read_boxes(builder, "train")
    for name, index in {"1": 1, "2": 2, "3": 3, "other": 6}.items():
        np.testing.assert_allclose(found[name][1], truth(index)[1], atol=1e-4)


def test_difficult_objects_are_not_counted(tmp_path):
    write(tmp_path, (1,), ".", ".")
    text = (
        xml(1)
        .replace("<bndbox><xmin>0", "<x><xmin>0")
        .replace("</xmin></bndbox></p", "</xmin></x></p")
    )
    text = text.replace("<bndbox>", "<difficult>1</difficult><bndbox>", 1)
    (tmp_path / "1.xml").write_text(text)
    assert read_boxes(tmp_path, "train")["1"][2]["crowd"].tolist() == [True, False]


def test_what_is_wrong_with_labels_is_counted(tmp_path):
    write(tmp_path, (1, 2), ".", ".")
    width, height = scene(2)[0].size
    corners = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    box = f"<object><name>cat</name><bndbox>{corners}</bndbox></object>"
    boxes = [(-3, 0, 5, 5), (-3, 0, 5, 5), (4, 4, 4, 9), (9, 9, 1, 1)]
    (tmp_path / "2.xml").write_text(
        "<annotation><size><width>7</width><height>8</height></size>"
        + "".join(box.format(*each) for each in boxes)
        + "</annotation>"
    )
    (tmp_path / "3.xml").write_text(xml(3))
    assert open_detection_source(tmp_path).report.notes == {
        "images of another size than their labels say, theirs was taken": [
            f"2.jpg: {width}x{height}, not 7x8"
        ],
        "boxes clipped to their image": ["2.xml, object 1"],
        "annotations there twice": ["2.xml, object 2"],
        "boxes without area or outside their image, left out": [
            "2.xml, object 3",
            "2.xml, object 4",
        ],
        "images named that do not exist": ["3.xml"],
    }


ENTITIES = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>\n<object></annotation>", r"1\.xml, line 2: not XML: mismatched tag"),
        (ENTITIES, r"1\.xml: it defines entities"),
        (OUTSIDE, r"1\.xml: it defines entities"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "not XML"),
        ("<annotation><name>\udcff</name></annotation>", "line 1: not XML"),
        ("<annotation><object/></annotation>", r"1\.xml, object 1: it has no name"),
        (xml(1).replace("<ymin>", "<ymin>x"), r"1\.xml, object 1: expected a box of four numbers"),
        (
            xml(1).replace(">dog<", ">horse<").replace(">cat<", ">horse<"),
            "'horse' is not in labelmap",
        ),
    ],
    ids=range(8),
)
def test_wrong_files_are_refused_in_a_line(text, message, tmp_path):
    write(tmp_path, (1,), ".", ".")
    (tmp_path / "labelmap.txt").write_text("dog:1,2,3::\ncat:4,5,6::\nbird:7,8,9::\n")
    (tmp_path / "1.xml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as error:
        open_detection_source(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line", ["dog", "dog:1,2::", "dog:1,2,300::", "dog:1,2,3::\ndog:4,5,6::", "#"]
)
def test_a_wrong_labelmap_is_refused(line, tmp_path):
    write(tmp_path, (1,), ".", ".")
    (tmp_path / "labelmap.txt").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"labelmap\.txt"):
        open_detection_source(tmp_path)
