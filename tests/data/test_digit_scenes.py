"""Digit scenes: the pictures, their annotations, and the TFDS data set made of them."""

import dataclasses
import pathlib
import socket
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from scipy import ndimage
from sklearn.svm import SVC

from keras_parc.data import DigitScenesConfig, SceneConfig, digit_scene, digit_scenes
from keras_parc.data.sets import scenes as module
from keras_parc.data.sets.scenes import SPLITS, VARIANTS, _load_digits, _split_indices

CROWD = SceneConfig(image_size=(90, 141), digits=(2, 5), scale=(0.25, 0.6), rotation=(-40, 40))
LUMA = np.array([0.299, 0.587, 0.114])


def scenes_of(config, count=40, split="train"):
    return [digit_scene(index, split, config) for index in range(count)]


def in_pixels(boxes, image_size):
    return np.rint(boxes * np.tile(image_size, 2)).astype(int)


def areas(boxes):
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


def luminance(image):
    return image @ LUMA / 255


def test_splits_share_no_digit_and_have_all_classes_in_proportion():
    np.testing.assert_array_equal(np.sort(np.concatenate(_split_indices())), np.arange(1797))
    labels = _load_digits()[1]
    for part, share in zip(_split_indices(), (0.7, 0.1, 0.2), strict=True):
        np.testing.assert_allclose(
            np.bincount(labels[part]) / np.bincount(labels), share, atol=0.01
        )


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_draw_on_the_digits_of_their_split(split, monkeypatch):
    drawn, make = [], module._digit
    monkeypatch.setattr(module, "_digit", lambda i, angle: drawn.append(i) or make(i, angle))
    scenes_of("detect", 100, split)
    assert set(drawn) <= set(_split_indices()[SPLITS.index(split)])
    assert len(set(drawn)) > 80


def test_a_scene_depends_on_its_arguments_alone():
    stacked = digit_scenes("test", 6, CROWD, seed=3)
    for index in (5, 0, 3):
        scene = digit_scene(index, "test", CROWD, seed=3)
        count = len(scene.labels)
        np.testing.assert_array_equal(stacked.image[index], scene.image)
        np.testing.assert_array_equal(stacked.label[index], scene.label)
        np.testing.assert_array_equal(stacked.boxes[index, :count], scene.boxes)
        np.testing.assert_array_equal(stacked.labels[index, :count], scene.labels)
        np.testing.assert_array_equal(stacked.mask[index], scene.mask)
        assert (stacked.boxes[index, count:] == -1).all()
        assert (stacked.labels[index, count:] == -1).all()


def test_another_process_makes_the_same_scene_without_tensorflow():
    code = (
        "import sys, zlib; from scenes import digit_scene;"
        "image = digit_scene(7, 'train', 'detect').image; assert 'tensorflow' not in sys.modules;"
        "print(zlib.crc32(image.tobytes()))"
    )
    folder = pathlib.Path(module.__file__).parent
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert int(run.stdout) == zlib.crc32(digit_scene(7, "train", "detect").image.tobytes())


def test_index_split_and_seed_change_the_scene():
    keys = [(0, "train", 0), (1, "train", 0), (0, "test", 0), (0, "train", 1)]
    images = [digit_scene(index, split, seed=seed).image.astype(int) for index, split, seed in keys]
    for i, image in enumerate(images):
        for other in images[:i]:
            assert np.abs(image - other).mean() > 5


@pytest.mark.parametrize("config", [*VARIANTS.values(), CROWD])
def test_annotations_have_the_declared_form(config):
    counts = set()
    for scene in scenes_of(config):
        assert (scene.image.shape, scene.image.dtype) == ((*config.image_size, 3), np.uint8)
        assert (scene.mask.shape, scene.mask.dtype) == (config.image_size, np.uint8)
        assert (scene.boxes.shape, scene.boxes.dtype) == ((len(scene.labels), 4), np.float32)
        assert scene.labels.dtype == np.int64
        assert scene.boxes.min() >= 0
        assert scene.boxes.max() <= 1
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
        assert set(np.unique(scene.mask)) == {0, *(scene.labels + 1)}
        counts.add(len(scene.labels))
    assert counts == set(range(config.digits[0], config.digits[1] + 1))


def test_label_is_the_class_of_the_largest_digit():
    for scene in scenes_of(CROWD):
        sizes = areas(in_pixels(scene.boxes, CROWD.image_size))
        assert (np.diff(sizes) <= 0).all()
        assert scene.label == scene.labels[0]


def test_boxes_are_tight_and_hold_all_ink_where_digits_do_not_overlap():
    config = dataclasses.replace(CROWD, max_overlap=0.0)
    for scene in scenes_of(config):
        outside = np.ones(config.image_size, bool)
        for box, label in zip(in_pixels(scene.boxes, config.image_size), scene.labels, strict=True):
            top, left, bottom, right = box
            assert outside[top:bottom, left:right].all(), "boxes overlap"
            outside[top:bottom, left:right] = False
            ink = scene.mask[top:bottom, left:right]
            assert set(np.unique(ink)) <= {0, label + 1}
            assert ink[0].any()
            assert ink[-1].any()
            assert ink[:, 0].any()
            assert ink[:, -1].any()
        assert not scene.mask[outside].any()


def test_overlap_is_allowed_up_to_the_limit():
    config = dataclasses.replace(CROWD, max_overlap=0.3)
    worst = 0.0
    for scene in scenes_of(config, 100):
        low = np.maximum(scene.boxes[:, None, :2], scene.boxes[None, :, :2])
        high = np.minimum(scene.boxes[:, None, 2:], scene.boxes[None, :, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=2).sum(axis=1)
        worst = max(worst, (shared / areas(scene.boxes)).max() - 1)
    assert 0.15 < worst < 0.35


@pytest.mark.parametrize("scale", [0.3, 0.6, 0.98])
def test_scale_is_the_longer_side_of_a_digit_by_the_shorter_side_of_the_image(scale):
    config = SceneConfig(image_size=(100, 140), scale=(scale, scale))
    for scene in scenes_of(config):
        top, left, bottom, right = in_pixels(scene.boxes, config.image_size)[0]
        longest = max(bottom - top, right - left)
        assert 94 * scale - 1 <= longest <= 100 * scale + 1


def test_scales_fill_their_range():
    lengths = [
        (scene.boxes[0, 2:] - scene.boxes[0, :2]).max() for scene in scenes_of("classify", 100)
    ]
    low, high = VARIANTS["classify"].scale
    assert low - 0.05 < min(lengths) < low + 0.05
    assert high - 0.05 < max(lengths) < high + 0.02
    assert low + 0.1 < np.median(lengths) < high - 0.1


def test_rotation_is_counter_clockwise_in_degrees():
    for index in range(10):
        upright, turned = (
            digit_scene(index, "train", SceneConfig(image_size=(200, 200), rotation=(a, a)))
            for a in (0, 90)
        )
        crops = []
        for scene in (upright, turned):
            top, left, bottom, right = in_pixels(scene.boxes, (200, 200))[0]
            crops.append(Image.fromarray(scene.mask[top:bottom, left:right]))
        wanted = np.rot90(np.array(crops[0].resize((99, 99), Image.Resampling.NEAREST)))
        got = np.array(crops[1].resize((99, 99), Image.Resampling.NEAREST))
        assert (wanted == got).mean() > 0.97


@pytest.mark.parametrize(
    ("contrast", "texture"), [(0.1, 0.8), (0.25, 0.3), (0.25, 0.5), (0.4, 0.2)]
)
def test_digits_contrast_with_all_of_the_background_around_them(contrast, texture):
    config = SceneConfig(image_size=(128, 128), contrast=contrast, texture=texture)
    spans = []
    for scene in scenes_of(config):
        grey = luminance(scene.image)
        inside = ndimage.binary_erosion(scene.mask, iterations=3)
        outside = ~ndimage.binary_dilation(scene.mask, iterations=3)
        spans.append(np.ptp(grey[outside]))
        top, left, bottom, right = in_pixels(scene.boxes, config.image_size)[0]
        around = grey[top:bottom, left:right][outside[top:bottom, left:right]]
        colour = np.median(grey[inside])
        assert np.abs(around - colour).min() > contrast - 0.01
    assert 0.7 * texture < max(spans) < texture + 0.01


def test_mask_is_where_the_digit_covers_half_of_a_pixel():
    for scene in scenes_of(SceneConfig(contrast=0.5, texture=0.0)):
        grey = luminance(scene.image)
        background = np.median(grey[~ndimage.binary_dilation(scene.mask, iterations=4)])
        inside = grey[scene.mask > 0]
        colour = inside[np.abs(inside - background).argmax()]
        opacity = (grey - background) / (colour - background)
        clear = np.abs(opacity - 0.5) > 0.03
        np.testing.assert_array_equal(scene.mask[clear] > 0, opacity[clear] > 0.5)


@pytest.mark.parametrize(
    "config",
    [
        SceneConfig(image_size=(15, 15), scale=(0.8, 1.0)),
        SceneConfig(image_size=(33, 257), digits=(1, 3), scale=(0.4, 1.0)),
        SceneConfig(image_size=(301, 40), digits=(6, 6), scale=(0.5, 1.0), max_overlap=0.0),
        SceneConfig(digits=(4, 4), scale=(30 / 64, 1.0), max_overlap=0.0),  # exactly fills the grid
        SceneConfig(image_size=(500, 700), rotation=(-180, 180)),
    ],
)
def test_extreme_configurations_make_whole_digits(config):
    for scene in scenes_of(config, 10):
        assert scene.image.shape == (*config.image_size, 3)
        assert config.digits[0] <= len(scene.labels) <= config.digits[1]
        sizes = in_pixels(scene.boxes, config.image_size)
        longest = (sizes[:, 2:] - sizes[:, :2]).max(axis=1)
        assert (longest >= 0.94 * config.scale[0] * min(config.image_size) - 2).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 64}, "image_size must be two ints, got 64"),
        ({"image_size": (64.5, 64)}, "image_size must be two ints"),
        ({"image_size": (64, 20)}, "12 pixels or more.* = 11.0. Enlarge"),
        ({"image_size": (0, 64)}, "Enlarge image_size"),
        ({"digits": (0, 1)}, "digits must lie in .1, inf. with min <= max, got .0, 1."),
        ({"digits": (3, 2)}, "min <= max"),
        ({"digits": (1, 4)}, "4 digits of 35.2 pixels may not fit into .64, 64."),
        ({"scale": (0.6, 1.1)}, "scale must lie in .0, 1."),
        ({"rotation": (-200, 0)}, "rotation must lie in"),
        ({"contrast": 0.6}, "contrast must lie in .0, 0.5., got 0.6"),
        ({"contrast": 0.4}, "texture must lie in .0, 0.2., got 0.3"),
        ({"max_overlap": 0.9}, "max_overlap must lie in"),
    ],
)
def test_impossible_configurations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SceneConfig(**arguments)


def test_impossible_scenes_are_refused():
    with pytest.raises(ValueError, match=r"split must be one of .* got 'val'"):
        digit_scene(0, "val")
    with pytest.raises(
        ValueError, match=r"config must be a SceneConfig or one of .* got 'detection'"
    ):
        digit_scene(0, "train", "detection")
    with pytest.raises(ValueError, match=r"index must be an integer in .* got -1"):
        digit_scene(-1, "train")
    with pytest.raises(ValueError, match="seed must be an integer in"):
        digit_scene(0, "train", seed=2**32)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        digit_scenes("train", 0)
    with pytest.raises(ValueError, match="test must be at least 1 scene, got 0"):
        DigitScenesConfig(test=0)


def test_labels_and_boxes_let_a_simple_classifier_read_the_digits():
    def crops(split, count):
        scenes = digit_scenes(split, count)
        features = []
        for image, boxes in zip(scenes.image, in_pixels(scenes.boxes, (64, 64)), strict=True):
            top, left, bottom, right = boxes[0]
            grey = luminance(image)
            background = np.median(np.delete(grey, np.s_[top:bottom], axis=0))
            crop = Image.fromarray(
                np.abs(grey - background).astype(np.float32)[top:bottom, left:right]
            )
            crop = np.array(crop.resize((8, 8), Image.Resampling.BOX))
            features.append((crop / crop.max()).ravel())
        return np.array(features), scenes.label

    accuracy = SVC(C=10).fit(*crops("train", 1500)).score(*crops("test", 400))
    assert accuracy > 0.9


SMALL = {"train": 7, "validation": 3, "test": 4}


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"touched the network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("tensorflow_datasets.core.utils.gcs_utils.exists", refuse)


def records(folder):
    return [file.read_bytes() for file in sorted(folder.rglob("*.tfrecord*"))]


def test_tfds_gives_the_same_scenes_offline(tmp_path, offline):
    for folder in (tmp_path / "one", tmp_path / "two"):
        config = DigitScenesConfig(scenes=CROWD, seed=5, **SMALL)
        data, info = tfds.load(
            "digit_scenes", data_dir=folder, builder_kwargs={"config": config}, with_info=True
        )
    assert len(records(tmp_path / "one")) == 3
    assert records(tmp_path / "one") == records(tmp_path / "two")

    assert info.features["image"].shape == (90, 141, 3)
    assert info.features["segmentation_mask"].shape == (90, 141, 1)
    assert info.features["label"].num_classes == 10
    assert info.features["objects"]["bbox"].shape == (4,)
    assert {split: info.splits[split].num_examples for split in SPLITS} == SMALL
    for split, count in SMALL.items():
        examples = list(tfds.as_numpy(data[split]))
        assert len(examples) == count
        for index, example in enumerate(examples):
            scene = digit_scene(index, split, CROWD, seed=5)
            np.testing.assert_array_equal(example["image"], scene.image)
            np.testing.assert_array_equal(example["label"], scene.label)
            np.testing.assert_array_equal(example["objects"]["bbox"], scene.boxes)
            np.testing.assert_array_equal(example["objects"]["label"], scene.labels)
            np.testing.assert_array_equal(example["segmentation_mask"][..., 0], scene.mask)


def test_tfds_knows_the_variants_by_name(tmp_path, offline):
    assert tfds.builder("digit_scenes", data_dir=tmp_path).builder_config.name == "classify"
    for name, scenes in VARIANTS.items():
        builder = tfds.builder(f"digit_scenes/{name}", data_dir=tmp_path)
        assert builder.builder_config.scenes == scenes
        assert builder.info.features["image"].shape == (*scenes.image_size, 3)
    with pytest.raises(ValueError, match="Change the name"):
        tfds.builder("digit_scenes", config=DigitScenesConfig(name="detect", seed=1))


def test_different_custom_configurations_have_different_folders(tmp_path):
    different = [
        DigitScenesConfig(),
        DigitScenesConfig(seed=1),
        DigitScenesConfig(test=999),
        DigitScenesConfig(train=999),
        DigitScenesConfig(scenes=CROWD),
        DigitScenesConfig(scenes=dataclasses.replace(CROWD, texture=0.2)),
        DigitScenesConfig(name="mine"),
    ]
    folders = {
        tfds.builder("digit_scenes", data_dir=tmp_path, config=config).data_dir
        for config in different
    }
    assert len(folders) == len(different)
    same = DigitScenesConfig(scenes=SceneConfig(image_size=[64, 64], scale=np.array([0.55, 0.9])))
    assert same.name == DigitScenesConfig().name == dataclasses.replace(same).name


def test_a_set_that_another_process_makes_meanwhile(tmp_path):
    """A builder that was opened before does not know its splits."""
    from keras_parc.data import sources

    waiting, making = (tfds.builder("digit_scenes/tiny", data_dir=tmp_path) for _ in range(2))
    sources._generate(making)
    assert not waiting.info.splits
    sources._generate(waiting)
    assert waiting.info.splits["test"].num_examples == making.info.splits["test"].num_examples
