"""Images with masks: aligned, repeatable, resumable; VOC and COCO folders; flawed masks."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from image_files import encoded
from keras_parc.data.augment.masks import flaw, resize_mask, training_pair
from keras_parc.data.augment.settings import MaskAugmentation
from keras_parc.data.sets.voc_segmentation import CLASSES, COCO_IDS, VocSegmentation
from keras_parc.data.skipped import SkippedImages
from keras_parc.data.sources import num_examples
from keras_parc.tasks.segmentation.data import (
    class_names,
    dataset,
    evaluation_dataset,
    open_segmentation_source,
)


def tiles(height, width, seed=0):
    """An image of tiles of one colour each, and the class of every colour."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, (-(-height // 16), -(-width // 16)), dtype="uint8")
    labels = labels.repeat(16, 0).repeat(16, 1)[:height, :width]
    return COLOURS[labels], labels


COLOURS = np.random.default_rng(7).integers(0, 256, (6, 3), dtype="uint8")


def misplaced(image, mask):
    """Share of the pixels whose colour is that of another class than the mask says."""
    distances = np.abs(image.astype("float32")[..., None, :] - COLOURS).sum(-1)
    pure = distances.min(-1) < 8  # between two tiles the colours mix
    assert pure.mean() > 0.4
    return float((distances.argmin(-1) != mask)[pure].mean())


@pytest.mark.parametrize("shape", [(100, 140), (96, 64), (40, 200)])
def test_image_and_mask_stay_aligned(shape):
    image, labels = tiles(*shape)
    seen = set()
    for seed in range(30):
        pair = training_pair(image, labels[..., None], (64, 80), (3, seed))
        out, mask = (np.asarray(each) for each in pair)
        assert (out.shape, mask.shape) == ((64, 80, 3), (64, 80))
        assert set(np.unique(mask)) <= set(range(6))
        assert misplaced(out, mask) == 0
        seen.add(mask.tobytes())
    assert len(seen) > 20  # places are drawn, and where there is room sizes
    shifted = np.roll(mask, 5, 1)
    assert misplaced(out, shifted) > 0.05


def test_mirror_images_and_sizes():
    image, labels = tiles(64, 64)
    same = MaskAugmentation(scale=(1.0, 1.0), flip=0.0)
    out, mask = training_pair(image, labels[..., None], (64, 64), (0, 0), same)
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(mask, labels)
    mirror = MaskAugmentation(scale=(1.0, 1.0), flip=1.0)
    out, mask = training_pair(image, labels[..., None], (64, 64), (0, 0), mirror)
    np.testing.assert_array_equal(out, image[:, ::-1])
    np.testing.assert_array_equal(mask, labels[:, ::-1])
    # Twice the short side: the crop shows a quarter of the picture, in tiles of 32 pixels.
    large = MaskAugmentation(scale=(2.0, 2.0), flip=0.0)
    _, mask = training_pair(image, labels[..., None], (64, 64), (0, 0), large)
    edges = np.flatnonzero((np.diff(np.asarray(mask).astype(int), axis=1) != 0).any(0))
    assert len(edges) <= 3
    assert set(np.diff(edges)) <= {32, 64}


def test_masks_are_resized_to_the_nearest():
    mask = np.array([[0, 20, 255]], "uint8")[..., None]
    assert np.unique(resize_mask(mask, (5, 50))).tolist() == [0, 20, 255]
    assert resize_mask(mask, (1, 6))[0, :, 0].numpy().tolist() == [0, 0, 20, 20, 255, 255]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": (0.0, 1.0)}, "`scale`"),
        ({"scale": (2.0, 1.0)}, "`scale`"),
        ({"flip": 2}, "`flip`"),
    ],
)
def test_augmentation_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        MaskAugmentation(**arguments)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Folder of TFDS sets: the manual folders of VOC and COCO, with a few images."""
    root = tmp_path_factory.mktemp("tfds")
    manual = root / "downloads" / "manual"
    voc = manual / "VOCdevkit" / "VOC2012"
    sizes = [(60 + 4 * i, 80 - 2 * i) for i in range(6)]
    for i, size in enumerate(sizes):
        image, labels = tiles(*size, seed=i)
        labels = np.where(labels == 5, 255, labels).astype("uint8")
        for folder, name, data in (
            ("JPEGImages", f"{i}.jpg", encoded(Image.fromarray(image), "JPEG", quality=95)),
            ("SegmentationClass", f"{i}.png", palette_png(labels)),
            ("SegmentationClassAug", f"{i}.png", encoded(Image.fromarray(labels), "PNG")),
        ):
            path = voc / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    lists = voc / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n")
    (lists / "val.txt").write_text("4\n5\n")
    line = "/JPEGImages/{0}.jpg /SegmentationClassAug/{0}.png\n"
    (lists / "trainaug.txt").write_text("".join(line.format(i) for i in range(4)))
    write_coco(manual / "coco")
    return root


def palette_png(labels):
    """As VOC's own: the index of a colour is the class."""
    image = Image.fromarray(labels).convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette([value % 256 for value in range(0, 3 * 256 * 7, 7)][: 3 * 256])
    return encoded(image, "PNG")


def write_coco(folder):
    (folder / "train2017").mkdir(parents=True)
    (folder / "annotations").mkdir()

    def rectangle(number, image, category, box, crowd=0):
        x, y, w, h = box
        outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        mask = np.zeros((90, 120), int)
        mask[y : y + h, x : x + w] = 1
        runs = [
            len(run)
            for run in np.split(mask.T.ravel(), np.flatnonzero(np.diff(mask.T.ravel())) + 1)
        ]
        counts = {"counts": runs, "size": [90, 120]}
        return {
            **{"id": number, "image_id": image, "category_id": category, "bbox": box},
            **{"area": w * h, "iscrowd": crowd, "segmentation": counts if crowd else outline},
        }

    images = [
        {"id": i, "height": 90, "width": 120, "file_name": f"{i:012d}.jpg"} for i in (1, 2, 3)
    ]
    annotations = [
        rectangle(1, 1, 1, [10, 10, 50, 40]),  # a person
        rectangle(2, 1, 72, [70, 20, 30, 30]),  # a television
        rectangle(3, 1, 1, [0, 60, 120, 30], crowd=1),
        rectangle(4, 2, 28, [10, 10, 80, 60]),  # an umbrella, none of VOC's classes
        rectangle(5, 3, 1, [10, 10, 10, 10]),  # too small
    ]
    for image in images:
        data = encoded(Image.fromarray(np.full((90, 120, 3), 100, "uint8")))
        (folder / "train2017" / image["file_name"]).write_bytes(data)
    names = [{"id": i, "name": str(i)} for i in (*COCO_IDS, 28)]
    (folder / "annotations" / "instances_train2017.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": names})
    )


def prepare(root, config):
    builder = VocSegmentation(config=config, data_dir=root)
    builder.download_and_prepare()
    return builder


def examples(builder, split):
    loaded = builder.as_dataset(split=split).as_numpy_iterator()
    return {each["file_name"].decode(): each for each in loaded}


def test_voc_with_the_augmented_masks(prepared):
    builder = prepare(prepared, "trainaug")
    assert class_names(builder) == list(CLASSES)
    assert (num_examples(builder, "train"), num_examples(builder, "validation")) == (4, 2)
    found = examples(builder, "train") | examples(builder, "validation")
    for i in range(6):
        _, labels = tiles(60 + 4 * i, 80 - 2 * i, seed=i)
        labels = np.where(labels == 5, 255, labels)
        np.testing.assert_array_equal(found[f"{i}.jpg"]["segmentation_mask"][..., 0], labels)
    images, masks = next(iter(dataset(builder, "train", batch=4, size=48, training=True)))
    assert (images.shape, masks.shape) == ((4, 48, 48, 3), (4, 48, 48))
    assert (images.dtype, masks.dtype) == (tf.float32, tf.uint8)
    assert set(np.unique(masks)) <= {0, 1, 2, 3, 4, 255}
    assert 255 in np.unique(masks)


def test_coco_as_voc(prepared):
    pytest.importorskip("pycocotools")
    builder = prepare(prepared, "coco")
    assert num_examples(builder, "train") == 5
    mask = examples(builder, "train")["000000000001.jpg"]["segmentation_mask"][..., 0]
    expected = np.zeros((90, 120), "uint8")
    expected[10:50, 10:60] = CLASSES.index("person")
    expected[20:50, 70:100] = CLASSES.index("tvmonitor")
    expected[60:] = 255
    assert (mask != expected).mean() < 0.02  # outlines are rounded


def test_masks_at_the_size_of_their_images(prepared):
    builder = prepare(prepared, "trainaug")
    batches = evaluation_dataset(builder, "validation", batch=2, size=32)
    images, masks = next(batches.as_numpy_iterator())
    assert images.shape == (2, 32, 32, 3)
    shapes = [np.asarray(Image.open(io.BytesIO(mask))).shape for mask in masks]
    assert sorted(shapes) == [(76, 72), (80, 70)]


def test_what_to_put_where(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        dataset("voc_segmentation", "train", batch=1, size=32, training=True, data_dir=tmp_path)
    message = str(caught.value)
    assert "SegmentationClassAug" in message
    assert str(tmp_path / "downloads" / "manual") in message
    command = message.split('python -c "')[1].split('"')[0]
    (tmp_path / "downloads" / "manual" / "VOCdevkit").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"There is no .*JPEGImages"):
        exec(command, {})


class Plain(tfds.core.GeneratorBasedBuilder):
    """A set of images with a class each."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield "0", {"image": io.BytesIO(PICTURE), "label": 0}


def test_a_set_without_masks(tmp_path):
    builder = Plain(data_dir=tmp_path)
    builder.download_and_prepare()
    with pytest.raises(ValueError, match="'plain' is not a set of images with masks"):
        open_segmentation_source(builder)


PICTURE = encoded(Image.fromarray(tiles(40, 60)[0]), "PNG")
FLAWS = {
    "size": (np.zeros((40, 50), "uint8"), "the mask has 40x50 pixels, the image 40x60"),
    "label": (np.full((40, 60), 21, "uint8"), "the mask has the label 21; expected 0 to 20"),
    "ignored": (np.full((40, 60), 255, "uint8"), "the mask has no pixel with a class"),
    "channels": (np.zeros((40, 60, 3), "uint8"), "the mask has several channels"),
}


@pytest.mark.parametrize("kind", FLAWS)
def test_flaws_in_words(kind):
    mask, message = FLAWS[kind]
    assert message in flaw(PICTURE, encoded(Image.fromarray(mask), "PNG"), 21)
    assert flaw(PICTURE, encoded(Image.fromarray(tiles(40, 60)[1]), "PNG"), 21) is None


IN_A_SET = ("size", "label", "ignored")  # TFDS itself refuses several channels


class Flawed(tfds.core.GeneratorBasedBuilder):
    """A set of two sound masks and the flawed ones."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        mask = tfds.features.LabeledImage(labels=list(CLASSES), shape=(None, None, 1))
        features = {"image": tfds.features.Image(), "segmentation_mask": mask}
        features["file_name"] = tfds.features.Text()
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        masks = {f"{i}.png": tiles(40, 60, i)[1] for i in range(4)}
        for name, mask in (masks | {kind: FLAWS[kind][0] for kind in IN_A_SET}).items():
            data = io.BytesIO(encoded(Image.fromarray(mask), "PNG"))
            image = io.BytesIO(PICTURE)
            yield name, {"image": image, "segmentation_mask": data, "file_name": name}


def test_flawed_masks_are_skipped_and_named(tmp_path):
    builder = Flawed(data_dir=tmp_path)
    builder.download_and_prepare()
    skipped = SkippedImages()
    shared = {"batch": 4, "size": 32}
    for epoch in range(20):  # four of seven images each
        if set(skipped.skipped) == set(IN_A_SET):
            break
        for _, masks in dataset(
            builder, "train", training=True, epoch=epoch, skipped=skipped, **shared
        ):
            assert masks.numpy().max() < 6
    assert set(skipped.skipped) == set(IN_A_SET)
    for kind in IN_A_SET:
        assert FLAWS[kind][1] in skipped.skipped[kind]
    skipped = SkippedImages(limit=0)
    with pytest.raises(tf.errors.OpError):
        list(evaluation_dataset(builder, "train", skipped=skipped, **shared))
    assert "the mask has" in skipped.failure


def test_an_epoch_is_a_function_of_its_seed(tiny_scenes):
    shared = {"batch": 16, "size": 32, "training": True, "data_dir": tiny_scenes}
    source = "digit_scenes/tiny"
    assert class_names(source, tiny_scenes) == ["background", *map(str, range(10))]

    def epoch(**arguments):
        batches = dataset(source, "train[:64]", **shared | arguments)
        return [
            (images.tobytes(), masks.tobytes()) for images, masks in batches.as_numpy_iterator()
        ]

    whole = epoch()
    assert epoch(start_step=2) == whole[2:]
    assert epoch(epoch=1) != whole
