"""Folders in COCO's format, as COCO, CVAT and Roboflow write them; wrong labels."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from box_sets import scene
from image_files import encoded, exif_of
from keras_parc.data.records import Annotation, training_records
from keras_parc.data.sets.recognise import open_folder
from keras_parc.data.skipped import SkippedImages
from keras_parc.tasks.detection.data import (
    category_ids,
    class_names,
    dataset,
    evaluation_dataset,
    open_detection_source,
)
from labelled_boxes import NAMES, check_boxes, coco_json, read_boxes, truth, write_image, write_json


def test_coco_s_own_folders(tmp_path):
    """Ids with gaps; a crowd; images whose names are in both splits; captions beside."""
    for split, indices in {"train2017": range(1, 8), "val2017": range(6, 9)}.items():
        content = coco_json(indices, (5, 1, 90), "{}.jpg")
        crowd = {"id": 77, "image_id": 106, "category_id": 1, "iscrowd": 1, "bbox": [1, 1, 9, 9]}
        content["annotations"].append(crowd | {"area": 50})
        write_json(tmp_path / "annotations" / f"instances_{split}.json", content)
        write_json(tmp_path / "annotations" / f"captions_{split}.json", {"images": []})
        for index in indices:
            write_image(tmp_path / split / f"{index}.jpg", index)
    assert class_names(tmp_path) == ["cat", "dog", "bird"]
    assert category_ids(tmp_path) == [1, 5, 90]
    found = read_boxes(tmp_path, "train")
    names, boxes, target = found.pop("6")
    assert (names[-1], target["crowd"].tolist()) == ("cat", [False] * (len(names) - 1) + [True])
    assert (target["id"], target["area"].tolist()[-2:]) == (106, [7.5, 50])
    np.testing.assert_allclose(boxes[-1, 0], 1 / scene(6)[0].height)
    builder = open_detection_source(tmp_path)
    assert builder.report.splits == {"train": 7, "validation": 3}
    assert builder.report.notes == {}
    images, targets = next(
        dataset(tmp_path, "train", batch=7, size=32, training=True).as_numpy_iterator()
    )
    assert images.shape == (7, 32, 32, 3)
    assert (targets["labels"][:, 0] >= 0).all()  # the empty image 5 was replaced


def test_coco_folders_are_read_to_the_truth(tmp_path):
    write_json(tmp_path / "annotations/instances_val.json", coco_json(range(1, 8), (3, 1, 2)))
    for index in range(1, 8):
        write_image(tmp_path / f"images/val/{index}.jpg", index)
    check_boxes(tmp_path, range(1, 8), "val")


@pytest.mark.parametrize("place", ["images", "images/default"])
def test_cvat_s_folder(place, tmp_path):
    """One file without a split, categories from 1; a validation split is made."""
    write_json(tmp_path / "annotations/instances_default.json", coco_json(range(12), (1, 2, 3)))
    for index in range(12):
        write_image(tmp_path / place / f"{index}.jpg", index)
    report = open_detection_source(tmp_path).report
    assert report.splits == {"train": 10, "validation": 2}
    assert report.classes == {"dog": 6, "cat": 6, "bird": 6}
    found = read_boxes(tmp_path, "train") | read_boxes(tmp_path, "validation")
    assert len(found) == 12


def test_roboflow_s_folder(tmp_path):
    """Beside the images of each split; ids from 0, which is the set's own name and no class."""
    splits = {"train": range(1, 5), "valid": (6, 7), "test": (8,)}
    for split, indices in splits.items():
        content = coco_json(indices, (1, 2, 3), extra={"user_tags": []})
        content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
        write_json(tmp_path / split / "_annotations.coco.json", content)
        for index in indices:
            write_image(tmp_path / split / f"{index}.jpg", index)
    for split, indices in splits.items():
        check_boxes(tmp_path, indices, split)
    assert (class_names(tmp_path), category_ids(tmp_path)) == (list(NAMES), [1, 2, 3])


def test_images_of_two_files_may_have_the_same_number(tmp_path):
    """Then they have their places in the split, so that no two are counted as one."""
    for name, index in {"a": 1, "b": 2}.items():
        content = coco_json((index,), (1, 2, 3), f"{name}/{{}}.jpg")
        content["images"][0]["id"] = 1
        for each in content["annotations"]:
            each["image_id"] = 1
        write_json(tmp_path / "annotations" / f"instances_{name}.json", content)
        write_image(tmp_path / name / f"{index}.jpg", index)
    found = check_boxes(tmp_path, (1, 2), "train")
    assert [target["id"] for *_, target in found.values()] == [-1, -1]


def test_no_class_at_all_is_refused(tmp_path):
    content = coco_json((5,), (1, 2, 3))
    write_json(tmp_path / "instances_train.json", content | {"categories": []})
    write_image(tmp_path / "5.jpg", 5)
    with pytest.raises(ValueError, match="there is no class in it"):
        open_detection_source(tmp_path)


def test_an_id_may_be_0(tmp_path):
    write_json(tmp_path / "labels.json", coco_json((1, 2), (0, 7, 9)))
    for index in (1, 2):
        write_image(tmp_path / f"{index}.jpg", index)
    check_boxes(tmp_path, (1, 2), "train")
    assert category_ids(tmp_path) == [0, 7, 9]


def test_boxes_are_those_of_the_upright_image(tmp_path):
    """Whatever the label file says of its size; the boxes fit what the tool showed."""
    turned = scene(1)[0].transpose(Image.Transpose.ROTATE_90)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.jpg").write_bytes(encoded(turned, exif=exif_of(6)))
    (tmp_path / "images/2.png").write_bytes(encoded(turned, "PNG", exif=exif_of(6)))
    content = coco_json((1, 1), (1, 2, 3))
    content["images"][0] |= {"width": turned.width, "height": turned.height}
    content["images"][1] |= {"file_name": "2.png", "id": 5}
    content["annotations"][-1]["image_id"] = content["annotations"][-2]["image_id"] = 5
    write_json(tmp_path / "annotations/instances_train.json", content)
    found = read_boxes(tmp_path, "train")
    for name in "12":
        np.testing.assert_allclose(found[name][1], truth(1)[1], atol=1e-6)
    (note,) = open_detection_source(tmp_path).report.notes.values()
    assert len(note) == 1
    assert "1.jpg" in note[0]
    assert "upright" in note[0]


def test_what_is_wrong_with_labels_is_counted(tmp_path, caplog):
    content = coco_json((1, 2, 3), (1, 2, 3))
    height, width = scene(1)[0].height, scene(1)[0].width
    for box in ([-5, 2, 15, 8], [width - 4, 0, 30, height], [3, 3, 0, 5], [width + 1, 1, 4, 4]):
        number = len(content["annotations"]) + 1
        each = {"id": number, "image_id": 101, "category_id": 2, "bbox": box}
        content["annotations"].append(each)
    content["annotations"].append({**content["annotations"][0], "id": 50})
    content["annotations"].append({**content["annotations"][0], "id": 51, "image_id": 999})
    content["images"].append({"id": 9, "file_name": "../outside.jpg"})
    content["images"].append({**content["images"][1], "id": 10})
    write_json(tmp_path / "_annotations.coco.json", content)
    for name in (1, 2, 3, 4):
        write_image(tmp_path / f"{name}.jpg", name)
    write_image(tmp_path.parent / "outside.jpg", 1)
    builder = open_detection_source(tmp_path)
    file = "_annotations.coco.json, annotation"
    first = len(coco_json((1, 2, 3), (1, 2, 3))["annotations"]) + 1
    assert builder.report.notes == {
        "annotations of images that are not listed": [f"{file} 51"],
        "annotations there twice": [f"{file} 50"],
        "boxes clipped to their image": [f"{file} {first}", f"{file} {first + 1}"],
        "boxes without area or outside their image, left out": [
            f"{file} {first + 2}",
            f"{file} {first + 3}",
        ],
        "images named that do not exist": ["../outside.jpg"],
        "images listed twice": ["2.jpg"],
        "images that no label file names": ["4.jpg"],
    }
    assert len(caplog.records) == 1
    assert "boxes clipped to their image: 2 (" in caplog.text
    boxes = read_boxes(tmp_path, "train")["1"][1][-2:]
    expected = [[2 / height, 0, 10 / height, 10 / width], [0, (width - 4) / width, 1, 1]]
    np.testing.assert_allclose(boxes, expected, atol=1e-6)


def changed(part, key, value):
    content = coco_json((1,), (1, 2, 3))
    content[part][0][key] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("annotations", "category_id", 4), r"json, annotation 1: there is no category 4"),
        (changed("annotations", "category_id", "dog"), "'annotations' has no proper 'category_id'"),
        (changed("annotations", "bbox", [1, 2, 3]), "annotation 1: expected a bbox of 4 numbers"),
        (changed("annotations", "bbox", [1, float("nan"), 3, 4]), "a box of four numbers"),
        (changed("annotations", "bbox", [1, 10**400, 3, 4]), "a box of four numbers"),
        (changed("annotations", "bbox", ["x", 1, 3, 4]), "a box of four numbers"),
        (changed("images", "file_name", None), "number 0 of 'images' has no proper 'file_name'"),
        (changed("categories", "name", "cat"), "two categories have the name 'cat'"),
        ('{"images": [],\n "annotations": [}', r"instances\.json, line 2: not JSON"),
        ('{"images": 1}', "expected lists images, annotations, categories"),
        ("[" * 100_000, "nested too deep"),
        ("[" + "1" * 5000 + "]", "a number of too many digits"),
        ('{"images": [\n"\udcff"]}', "line 2: not UTF-8"),
    ],
    ids=range(13),
)
def test_wrong_files_are_refused_in_a_line(text, message, tmp_path):
    path = tmp_path / "annotations" / "instances.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    write_image(tmp_path / "images/1.jpg", 1)
    with pytest.raises(ValueError, match=message) as error:
        open_detection_source(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_damaged_images_are_skipped_as_in_every_set(tmp_path):
    write_json(tmp_path / "instances_train.json", coco_json((1, 2, 3, 4), (1, 2, 3)))
    for index in (1, 2, 3, 4):
        write_image(tmp_path / f"{index}.jpg", index)
    (tmp_path / "2.jpg").write_bytes(b"no image")
    builder = open_folder(tmp_path, validation=0)
    skipped = SkippedImages()
    batches = evaluation_dataset(builder, "train", batch=4, size=32, skipped=skipped)
    images, _ = next(iter(batches))
    assert (len(images), list(skipped.skipped)) == (3, [str(tmp_path / "2.jpg")])


def test_order_resume_and_shards_are_those_of_every_set(tmp_path):
    """Images without objects are replaced, and the others keep their places."""
    write_json(tmp_path / "instances_train.json", coco_json(range(20), (1, 2, 3)))
    for index in range(20):
        write_image(tmp_path / f"{index}.jpg", index)
    builder = open_folder(tmp_path, validation=0)

    counted = Annotation(
        ("objects",), lambda record: tf.size(record["objects"]["label"]), lambda count: count > 0
    )

    def names(**options):
        records = training_records(
            builder, "train", seed=3, epoch=1, annotation=counted, **options
        ).as_numpy_iterator()
        return [(name, count) for name, _, count in records]

    whole = names(count=20)
    empty = {str(tmp_path / f"{index}.jpg").encode() for index in (0, 5, 10, 15)}
    assert len({name for name, _ in whole}) == 16
    assert not empty & {name for name, _ in whole}
    assert all(count > 0 for _, count in whole)
    assert names(start=13, count=7) == whole[13:]
    assert names(shard=(1, 2), count=10) == whole[1::2]
    every = Annotation(("objects",), counted.target)
    kept = training_records(builder, "train", seed=3, epoch=1, annotation=every, count=20)
    same = [
        old == new
        for old, (new, *_) in zip([n for n, _ in whole], kept.as_numpy_iterator(), strict=True)
    ]
    assert same.count(False) == 4
