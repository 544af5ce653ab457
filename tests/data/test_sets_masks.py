"""Folders of images and masks: palette, grey, colours; VOCdevkit, CVAT's; wrong masks."""

import io

import numpy as np
import pytest
from PIL import Image

from image_files import encoded, exif_of
from keras_parc.data.sets.recognise import open_folder
from keras_parc.data.sets.voc_segmentation import CLASSES
from keras_parc.support.class_maps import palette
from keras_parc.tasks.segmentation.data import (
    class_names,
    dataset,
    evaluation_dataset,
    open_segmentation_source,
)

COLOURS = [(0, 0, 0), (200, 10, 10), (10, 200, 10)]
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:200,10,10::\ndog:10,200,10::\n"


def numbers(index):
    """Class numbers 0 to 2 and 255 in tiles, of another size for each image."""
    rng = np.random.default_rng(index)
    height, width = rng.integers(20, 40, 2)
    tiles = rng.choice(np.array([0, 1, 2, 255], "uint8"), (5, 5))
    tiles[:2, 0] = 0, 1 + index % 2
    return tiles.repeat(8, 0).repeat(8, 1)[:height, :width]


def grey(labels):
    return Image.fromarray(labels)


def indexed(labels):
    image = Image.fromarray(labels).convert("P")
    image.putpalette(palette(256).ravel().tolist())
    image.frombytes(labels.tobytes())
    return image


def coloured(labels):
    colours = np.zeros((256, 3), "uint8")
    colours[:3], colours[255] = COLOURS, (224, 224, 192)
    return Image.fromarray(colours[labels])


def write(root, indices, images="images", masks="masks", kind=grey):
    for index in indices:
        labels = numbers(index)
        picture = Image.fromarray(np.repeat(labels[..., None] // 2 + index, 3, 2))
        for place, image, ending in ((images, picture, "jpg"), (masks, kind(labels), "png")):
            path = root / place / f"{index}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(image, "JPEG" if ending == "jpg" else "PNG"))


def read_masks(source, split):
    """The class numbers of each image, by its name."""
    builder = open_segmentation_source(source)
    found = [
        np.asarray(Image.open(io.BytesIO(mask)))
        for _, masks in evaluation_dataset(builder, split, batch=2, size=32)
        for mask in masks.numpy()
    ]
    names = [path.rpartition("/")[2].partition(".")[0] for path in builder.paths[split]]
    return dict(zip(names, found, strict=True))


def check(source, indices, split="train"):
    found = read_masks(source, split)
    assert sorted(found) == sorted(map(str, indices))
    for index in indices:
        np.testing.assert_array_equal(found[str(index)], numbers(index))


@pytest.mark.parametrize("kind", [grey, indexed, coloured])
@pytest.mark.parametrize("places", [("{}/images", "{}/masks"), ("images/{}", "masks/{}")])
def test_images_and_masks(kind, places, tmp_path):
    for split, indices in {"train": (1, 2, 3), "val": (4, 5)}.items():
        write(tmp_path, indices, *(place.format(split) for place in places), kind=kind)
    if kind is coloured:
        (tmp_path / "labelmap.txt").write_text(LABELMAP)
    check(tmp_path, (1, 2, 3))
    check(tmp_path, (4, 5), "validation")
    names = ["cat", "dog"] if kind is coloured else ["1", "2"]
    builder = open_segmentation_source(tmp_path)
    assert class_names(builder) == ["background", *names]
    assert builder.report.classes["background"] == 5
    assert builder.report.notes == {}


def test_a_step_of_training_gets_them(tmp_path):
    write(tmp_path, range(8))
    builder = open_folder(tmp_path)
    assert builder.report.splits == {"train": 6, "validation": 2}
    batches = dataset(builder, "train", batch=6, size=32, training=True)
    images, masks = next(batches.as_numpy_iterator())
    assert (images.shape, masks.shape) == ((6, 32, 32, 3), (6, 32, 32))
    assert set(np.unique(masks)) == {0, 1, 2, 255}


@pytest.mark.parametrize("kind", [indexed, coloured])
def test_vocdevkit_and_cvat_s_export(kind, tmp_path):
    root = tmp_path / "VOCdevkit/VOC2012" if kind is indexed else tmp_path
    write(root, range(1, 6), "JPEGImages", "SegmentationClass", kind)
    write(root, range(1, 6), "JPEGImages", "SegmentationObject", grey)
    lists = {"train": (1, 2), "val": (3, 4)} if kind is indexed else {"default": (1, 2, 3, 4)}
    for name, indices in lists.items():
        path = root / "ImageSets/Segmentation" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{index}\n" for index in indices))
    if kind is coloured:
        (root / "labelmap.txt").write_text(LABELMAP)
    builder = open_folder(tmp_path, "segmentation", validation=0)
    names = list(CLASSES) if kind is indexed else ["background", "cat", "dog"]
    assert class_names(builder) == names
    check(builder, lists["train" if kind is indexed else "default"])
    assert list(builder.report.notes) == ["masks that no list names"]


def test_a_binary_mask_says_what_255_is(tmp_path):
    write(tmp_path, (1, 2), kind=lambda labels: grey(255 * (labels == 1).astype("uint8")))
    with pytest.raises(ValueError, match="no class but 0, the background; 255 is ignored"):
        open_segmentation_source(tmp_path)
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nthing:255,255,255::\n")
    assert class_names(tmp_path) == ["background", "thing"]
    found = read_masks(open_folder(tmp_path, validation=0), "train")
    np.testing.assert_array_equal(found["1"], numbers(1) == 1)


def test_a_mask_is_that_of_the_upright_image(tmp_path):
    write(tmp_path, (1, 2))
    turned = Image.fromarray(numbers(1)).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    (tmp_path / "images/1.jpg").write_bytes(encoded(turned, exif=exif_of(6)))
    check(tmp_path, (1, 2))


def test_what_is_wrong_with_masks_is_counted(tmp_path):
    write(tmp_path, range(1, 6))
    (tmp_path / "masks/1.png").write_bytes(encoded(grey(numbers(1)[:, 1:]), "PNG"))
    (tmp_path / "masks/2.png").write_bytes(b"no image")
    (tmp_path / "images/3.jpg").unlink()
    (tmp_path / "masks/4.png").unlink()
    write(tmp_path, (6,), kind=lambda labels: grey(np.full_like(labels, 255)))
    height, width = numbers(1).shape
    builder = open_segmentation_source(tmp_path)
    assert builder.report.notes == {
        "masks of another size than their image, left out": [
            f"masks/1.png: {width - 1}x{height}, not {width}x{height}"
        ],
        "masks that cannot be read, left out": ["masks/2.png"],
        "masks without an image": ["masks/3.png"],
        "masks without a pixel that counts, left out": ["masks/6.png"],
        "images without a mask": ["images/4.jpg"],
    }
    assert builder.report.splits == {"train": 1}


@pytest.mark.parametrize(
    ("kind", "labelmap", "message"),
    [
        (coloured, None, r"1\.png: it has colours, whose classes labelmap\.txt must name"),
        (
            coloured,
            LABELMAP.replace("200,10,10", "1,2,3"),
            r"1\.png: the colour \(200, 10, 10\) is",
        ),
        (
            grey,
            LABELMAP.replace("dog:10,200,10::\n", ""),
            "1.png: it has the number 2; expected 0 to 1",
        ),
        (grey, "cat:0,0,0::\n", "black is the background, call it so: background:0,0,0::;"),
    ],
)
def test_unknown_classes_are_refused(kind, labelmap, message, tmp_path):
    write(tmp_path, (1, 2), kind=kind)
    if labelmap:
        (tmp_path / "labelmap.txt").write_text(labelmap)
    with pytest.raises(ValueError, match=message) as error:
        open_segmentation_source(tmp_path)
    assert "\n" not in str(error.value)
