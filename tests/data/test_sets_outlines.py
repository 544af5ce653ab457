"""Outlines of objects as masks: COCO's polygons and runs of pixels, YOLO's polygons."""

import io

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from image_files import encoded, exif_of
from keras_parc.data.sets.recognise import open_folder
from keras_parc.tasks.segmentation.data import (
    class_names,
    dataset,
    evaluation_dataset,
    open_segmentation_source,
)
from labelled_boxes import write_json

SIZE = 30, 50
# Rectangles: class, top, left, bottom, right; the small one lies in the large one.
LARGE, SMALL, OTHER = ("cat", 5, 10, 25, 40), ("dog", 8, 12, 12, 20), ("cat", 26, 1, 30, 9)
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
IDS = {"cat": 3, "dog": 8}


def corners(rectangle):
    _, top, left, bottom, right = rectangle
    return [left, top, right, top, right, bottom, left, bottom]


def filled(rectangle, value=1, mask=None):
    mask = np.zeros(SIZE, "uint8") if mask is None else mask
    _, top, left, bottom, right = rectangle
    mask[top:bottom, left:right] = value
    return mask


def expected():
    return filled(OTHER, 1, filled(SMALL, 2, filled(LARGE, 1)))


def runs(rectangle, compressed):
    pixels = np.asfortranarray(filled(rectangle))
    if compressed:
        found = coco_mask.encode(pixels)
        return {"size": list(SIZE), "counts": found["counts"].decode()}
    flat = pixels.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    return {"size": list(SIZE), "counts": np.diff([0, *edges, flat.size]).tolist()}


def write_images(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], "red").save(root / name)


def coco(root, shapes, **more):
    """One image; `shapes` are class and segmentation of its objects."""
    write_images(root, ["images/1.png"])
    annotations = [
        {
            "id": n,
            "image_id": 7,
            "category_id": IDS[name],
            "bbox": [1, 1, 2, 2],
            "segmentation": each,
        }
        for n, (name, each) in enumerate(shapes)
    ]
    images = [{"id": 7, "file_name": "1.png", "height": SIZE[0], "width": SIZE[1]}]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    annotations[-1] |= more
    write_json(root / "annotations" / "instances_train.json", content)


def masks(root, split="train"):
    builder = open_segmentation_source(root)
    return [
        np.asarray(Image.open(io.BytesIO(mask)))
        for _, found in evaluation_dataset(builder, split, batch=2, size=32)
        for mask in found.numpy()
    ]


def test_polygons_of_coco(tmp_path):
    """Of several parts; the small object is seen whatever the order; a crowd is ignored."""
    parts = [corners(LARGE), corners(OTHER)]
    crowd = ("crowd", 0, 0, 30, 3)
    shapes = [("dog", [corners(SMALL)]), ("cat", parts), ("dog", runs(crowd, True))]
    coco(tmp_path, shapes, iscrowd=1)
    assert class_names(tmp_path) == ["background", "cat", "dog"]
    wanted = filled(crowd, 255)
    wanted = np.where(expected() > 0, expected(), wanted)
    np.testing.assert_array_equal(masks(tmp_path)[0], wanted)
    batches = dataset(tmp_path, "train", batch=1, size=32, training=True)
    assert next(batches.as_numpy_iterator())[1].max() == 255
    with pytest.raises(ValueError, match=r"as detection .* or as segmentation .* with `task`"):
        open_folder(tmp_path)


@pytest.mark.parametrize("compressed", [True, False])
def test_runs_of_pixels(compressed, tmp_path):
    coco(tmp_path, [(each[0], runs(each, compressed)) for each in (LARGE, SMALL, OTHER)])
    np.testing.assert_array_equal(masks(tmp_path)[0], expected())


def test_outlines_are_those_of_the_upright_image(tmp_path):
    coco(tmp_path, [(each[0], [corners(each)]) for each in (LARGE, SMALL, OTHER)])
    turned = Image.new("RGB", SIZE, "red")
    (tmp_path / "images/1.png").write_bytes(encoded(turned, "JPEG", exif=exif_of(6)))
    np.testing.assert_array_equal(masks(tmp_path)[0], expected())


def test_polygons_of_yolo(tmp_path):
    relative = np.array(SIZE[::-1] * 4)
    lines = []
    for each in (SMALL, LARGE, OTHER):
        numbers = " ".join(f"{value:.6f}" for value in np.array(corners(each)) / relative)
        lines.append(f"{('cat', 'dog').index(each[0])} {numbers}")
    write_images(tmp_path, ["images/train/1.png", "images/val/2.png"])
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/1.txt").write_text("\n".join([*lines, "1 0.5 0.5 0.1 0.1"]))
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\nval: images/val\n")
    np.testing.assert_array_equal(masks(tmp_path)[0], expected())
    assert not masks(tmp_path, "validation")[0].any()
    report = open_segmentation_source(tmp_path).report
    assert report.classes == {"background": 2, "cat": 1, "dog": 1}
    assert report.notes == {
        "objects without an outline, left out": ["labels/train/1.txt, line 4"],
        "images without a label file, taken as empty": ["images/val/2.png"],
    }


def test_what_is_wrong_with_outlines_is_counted(tmp_path):
    outside = [-20, 5, 10, 5, 10, 25, -20, 25]
    far = [-1e30, 28, 1e30, 28, 1e30, 1e30]
    shapes = [outside, [1, 1, 5, 5], [], far]
    coco(tmp_path, [("cat", [each] if each else []) for each in shapes])
    found = masks(tmp_path)[0]
    np.testing.assert_array_equal(found[:27], filled(("cat", 5, 0, 25, 10))[:27])
    file = "instances_train.json, annotation"
    assert open_segmentation_source(tmp_path).report.notes == {
        "outlines clipped to their image": [f"{file} 0", f"{file} 3"],
        "outlines of fewer than three corners, left out": [f"{file} 1"],
        "objects without an outline, left out": [f"{file} 2"],
    }


def test_runs_of_another_size_are_left_out(tmp_path):
    coco(tmp_path, [("cat", {**runs(LARGE, True), "size": [50, 30]})])
    with pytest.raises(
        ValueError, match=r"no images to use .* of another size, left out: 1 \(images/1"
    ):
        open_segmentation_source(tmp_path)


@pytest.mark.parametrize(
    "shape",
    [
        {"size": list(SIZE), "counts": [5, 5]},
        {"size": list(SIZE), "counts": [-5, 1505]},
        {"size": list(SIZE), "counts": ["a"]},
        {"size": list(SIZE), "counts": "~~~~~~~~~~~~"},
        {"size": list(SIZE), "counts": ""},
        {"size": list(SIZE)},
        [[1, 2, "x", 4, 5, 6]],
        [[1, 2, float("nan"), 4, 5, 6]],
        "polygon",
    ],
    ids=range(9),
)
def test_an_outline_that_is_none_is_refused(shape, tmp_path):
    coco(tmp_path, [("cat", [corners(LARGE)]), ("dog", shape)])
    with pytest.raises(ValueError, match=r"instances_train\.json, annotation 1: its ") as error:
        open_segmentation_source(tmp_path)
    assert "\n" not in str(error.value)


def test_more_classes_than_a_mask_has_room_for(tmp_path):
    write_images(tmp_path, ["images/1.png"])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/1.txt").write_text("0 0 0 1 0 1 1\n")
    (tmp_path / "data.yaml").write_text("names: [" + ", ".join(f"c{n}" for n in range(255)) + "]")
    with pytest.raises(ValueError, match="room for 254 classes; there are 255"):
        open_segmentation_source(tmp_path)
