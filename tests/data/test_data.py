"""Image-classification data: order, resuming, sharding, damaged files, ImageNet, speed."""

import itertools
import json
import logging

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from image_files import UNREADABLE, UNUSUAL, encoded, odd_files, picture
from keras_parc.data.augment.settings import Augmentation
from keras_parc.data.images import decode, evaluation_image
from keras_parc.data.records import training_records
from keras_parc.data.skipped import SkippedImages
from keras_parc.data.sources import num_examples, open_source
from keras_parc.tasks.classification.data import class_names, dataset
from keras_parc.training.input_rate import input_rate


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """60 sound images of two classes to train on, 10 to evaluate."""
    root = tmp_path_factory.mktemp("folder")
    for split, count in (("train", 60), ("validation", 10)):
        for index in range(count):
            path = root / split / ("even" if index % 2 == 0 else "odd") / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture(index)))
    return root


@pytest.fixture(scope="session")
def damaged(folder, tmp_path_factory):
    """The same, with the odd files among them."""
    root = tmp_path_factory.mktemp("damaged")
    for path in folder.rglob("*.jpg"):
        target = root / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for name, data in odd_files().items():
        (root / "train" / "odd" / name).write_bytes(data)
    return root


def batches(*args, **kwargs):
    settings = {"batch": 8, "size": 32, "training": True, **kwargs}
    return list(dataset(*args, **settings).as_numpy_iterator())


def assert_equal_batches(ours, theirs):
    for (images, labels), (other, other_labels) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(images, other)
        np.testing.assert_array_equal(labels, other_labels)


# --- order, resuming, shards ------------------------------------------------------------------


def test_epochs_and_seeds_change_the_order_and_nothing_else_does(folder):
    first = batches(folder, "train", seed=1, epoch=2)
    assert_equal_batches(first, batches(folder, "train", seed=1, epoch=2))
    for other in ({"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 2}):
        assert not np.array_equal(first[0][0], batches(folder, "train", **other)[0][0])
    images, labels = first[0]
    assert len(first) == 60 // 8
    assert (images.shape, images.dtype, labels.dtype) == ((8, 32, 32, 3), "float32", "int64")
    assert 0 <= images.min() < 100 < images.max() <= 255


def without_crop(**kwargs):
    return {
        "augmentation": Augmentation(scale=(1, 1), ratio=(1, 1), flip=0.0),
        "size": 64,
        **kwargs,
    }


@pytest.mark.parametrize("source", ["folder", "imagenet"])
def test_an_epoch_has_every_image_once(source, request):
    root = request.getfixturevalue(source)
    name, data_dir = (root, None) if source == "folder" else ("imagenet2012", root)
    if source == "folder":
        expected = {decode(path.read_bytes()).numpy().tobytes() for path in root.glob("train/*/*")}
    else:
        expected = {
            decode(encoded(picture(20 * number + index))).numpy().tobytes()
            for number, index in itertools.product(range(3), range(14))
        }
    settings = without_crop(batch=1, data_dir=data_dir)
    seen = [x[0].astype("uint8").tobytes() for x, _ in batches(name, "train", **settings)]
    assert set(seen) == expected
    assert len(seen) == num_examples(name, "train", data_dir)


@pytest.mark.parametrize(
    ("source", "steps"),
    [
        ("damaged", (5,)),
        ("imagenet", (13,)),
        pytest.param("damaged", (1, 13), marks=pytest.mark.slow),
        pytest.param("imagenet", (1, 5), marks=pytest.mark.slow),
    ],
)
def test_any_step_can_be_resumed(source, steps, request):
    root = request.getfixturevalue(source)
    name, data_dir = (root, None) if source == "damaged" else ("imagenet2012", root)
    settings = {"seed": 3, "epoch": 1, "data_dir": data_dir}
    schedule = [(32, 6), (48, 4), (64, 3), (32, 6), (48, 4)] * 3  # more than one epoch of imagenet
    whole = batches(name, "train", schedule=schedule, **settings)
    assert [x.shape for x, _ in whole] == [(b, side, side, 3) for side, b in schedule]
    for step in steps:
        rest = batches(name, "train", schedule=schedule, start_step=step, **settings)
        assert_equal_batches(whole[step:], rest)


@pytest.mark.parametrize(
    ("source", "shards"),
    [("damaged", 3), pytest.param("imagenet", 2, marks=pytest.mark.slow)],
)
def test_shards_together_are_the_whole_batch(source, shards, request):
    root = request.getfixturevalue(source)
    name, data_dir = (root, None) if source == "damaged" else ("imagenet2012", root)
    whole = batches(name, "train", batch=4 * shards, data_dir=data_dir)
    parts = [
        batches(name, "train", batch=4, shard=(index, shards), data_dir=data_dir)
        for index in range(shards)
    ]
    for (images, labels), *pieces in zip(whole, *parts, strict=True):
        for index, (piece, piece_labels) in enumerate(pieces):
            np.testing.assert_array_equal(piece, images[index::shards])
            np.testing.assert_array_equal(piece_labels, labels[index::shards])


def test_evaluation_has_every_image_once_in_shards_too(folder):
    settings = {"training": False, "batch": 4, "short_side": 40}
    whole = batches(folder, "validation", **settings)
    assert [len(labels) for _, labels in whole] == [4, 4, 2]
    parts = [batches(folder, "validation", shard=(index, 3), **settings) for index in range(3)]
    joined = np.concatenate([images for part in parts for images, _ in part])
    np.testing.assert_array_equal(joined, np.concatenate([images for images, _ in whole]))
    path = open_source(folder).paths["validation"][0]
    expected = evaluation_image(tf.io.read_file(path), (32, 32), 40)
    np.testing.assert_array_equal(whole[0][0][0], expected)


# --- damaged files ----------------------------------------------------------------------------


def test_damaged_files_are_skipped_counted_and_named(folder, damaged, caplog):
    caplog.set_level(logging.INFO)
    skipped = SkippedImages()
    for epoch in range(2):  # a file counts once
        result = batches(damaged, "train", **without_crop(batch=7, epoch=epoch, skipped=skipped))
        assert len(result) == (60 + 10) // 7
    assert {name.rsplit("/")[-1] for name in skipped.skipped} == set(UNREADABLE)
    kinds = {name.rsplit("/")[-1]: kind for name, kind in skipped.converted.items()}
    assert kinds == UNUSUAL
    assert str(skipped) == "5 skipped, 1 16-bit converted, 1 CMYK converted, 2 greyscale converted"
    for name in (*UNREADABLE, *UNUSUAL):
        assert f"/odd/{name}: " in caplog.text
    reasons = {name.rsplit("/")[-1]: reason for name, reason in skipped.skipped.items()}
    assert reasons["empty.jpg"] == "empty"
    assert "truncated" in reasons["truncated.jpg"]
    # Sound images stand in, with their own labels.
    label_of = {
        decode(path.read_bytes()).numpy().tobytes(): int(path.parent.name == "odd")
        for path in damaged.glob("train/*/*")
        if path.name not in UNREADABLE
    }
    for images, labels in result:
        for image, label in zip(images.astype("uint8"), labels, strict=True):
            assert label_of[image.tobytes()] == label


def test_damaged_files_move_no_other_image(folder, damaged):
    """The same files, some made unreadable: all other images stay, crop for crop."""
    paths = sorted(damaged.glob("train/*/*.jpg"))
    before = batches(damaged, "train", batch=1)
    victim = next(path for path in paths if path.name == "7.jpg")
    data = victim.read_bytes()
    try:
        victim.write_bytes(b"")
        after = batches(damaged, "train", batch=1)
    finally:
        victim.write_bytes(data)
    changed = [
        i for i, (a, b) in enumerate(zip(before, after, strict=True)) if (a[0] != b[0]).any()
    ]
    # Its place, and at most those of the six others skipped, whose stand-ins may be others now.
    assert 1 <= len(changed) <= 1 + len(UNREADABLE)


def test_unusual_files_can_be_skipped_too(damaged):
    skipped = SkippedImages()
    batches(damaged, "train", batch=7, skipped=skipped, skip_unusual=True)
    assert {name.rsplit("/")[-1] for name in skipped.skipped} == {*UNREADABLE, *UNUSUAL}
    assert skipped.converted == {}


def test_too_many_damaged_files_fail_the_run(damaged):
    skipped = SkippedImages(limit=3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="4 images of the data set"):
        batches(damaged, "train", batch=7, skipped=skipped)
    assert "the limit is 3" in skipped.failure
    assert sum(name in skipped.failure for name in UNREADABLE) == 4
    assert len(batches(damaged, "train", batch=7, skipped=SkippedImages(limit=6))) == 10


def test_the_limit_is_the_last_number_that_is_skipped():
    images = SkippedImages(limit=2)
    for name in ("a.jpg", "b.jpg", "a.jpg"):  # a file counts once
        images.skip(name, b"")
    with pytest.raises(ValueError, match=r"^3 images .* the limit is 2: a\.jpg"):
        images.skip("c.jpg", b"")
    with pytest.raises(ValueError, match="must be at least 0"):
        SkippedImages(limit=-1)


@pytest.mark.slow
def test_every_epoch_and_seed_has_an_order_of_its_own(tiny_scenes):
    """Of the records themselves: crops and flips, which are drawn too, do not hide it."""
    builder = open_source("digit_scenes/tiny", tiny_scenes)

    def order(seed, epoch):
        records = training_records(builder, "train", seed=seed, epoch=epoch, count=64)
        return [name for name, _, _ in records.as_numpy_iterator()]

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert order(1, 0) == orders[-1]
    assert len({tuple(each) for each in orders}) == 3


def test_only_damaged_files(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"None of the first .* can be used"):
        batches(tmp_path, "train", batch=1)


def test_a_damaged_file_in_evaluation_is_an_error(damaged, tmp_path):
    with pytest.raises(tf.errors.InvalidArgumentError, match="the limit is 0"):
        batches(damaged, "train", training=False)


# --- TFDS -------------------------------------------------------------------------------------


def test_imagenet_from_archives_to_batches(imagenet):
    assert num_examples("imagenet2012", "train", imagenet) == 44
    assert num_examples("imagenet2012", "validation[:50%]", imagenet) == 3
    assert class_names("imagenet2012", imagenet)[:2] == ["n01440764", "n01443537"]
    skipped = SkippedImages()
    result = batches("imagenet2012", "train", batch=4, skipped=skipped, data_dir=imagenet)
    assert len(result) == 11
    assert {label for _, labels in result for label in labels} == {0, 1, 999}
    assert set(skipped.skipped) == {"n01443537_100.JPEG", "n01443537_101.JPEG"}
    (images, labels), *_ = batches(
        "imagenet2012", "validation", training=False, one_hot=True, size=64, data_dir=imagenet
    )
    assert images.shape == (6, 64, 64, 3)
    assert labels.shape == (6, 1000)
    assert (labels.sum(axis=1) == 1).all()


def test_imagenet_through_mock_data(mocked_imagenet):
    (images, labels), *rest = batches("imagenet2012", "train", batch=4, size=48)
    assert images.shape == (4, 48, 48, 3)
    assert len(rest) == 10
    assert images.std() > 10
    assert ((labels >= 0) & (labels < 1000)).all()


def test_damaged_records_of_mock_data_are_skipped(imagenet):
    files = odd_files()
    files.update({f"{index}.jpg": encoded(picture(index)) for index in range(34)})

    def as_dataset(self, split, decoders=None, read_config=None, **kwargs):
        records = {
            "image": list(files.values()),
            "label": np.zeros(len(files), "int64"),
            "file_name": list(files),
            "tfds_id": list(files),
        }
        return tf.data.Dataset.from_tensor_slices(records)

    skipped = SkippedImages()
    with tfds.testing.mock_data(as_dataset_fn=as_dataset, data_dir=str(imagenet)):
        result = batches("imagenet2012", "train", skipped=skipped)
    assert len(result) == 44 // 8
    assert set(skipped.skipped) <= set(UNREADABLE)
    assert len(skipped.skipped) > 3


@pytest.mark.parametrize(
    ("source", "data_dir", "error", "words"),
    [
        (
            "imagenet2012",
            "empty",
            FileNotFoundError,
            ["ILSVRC2012_img_train.tar", "downloads/manual", "tfds.builder('imagenet2012', "],
        ),
        ("cifar10", "empty", FileNotFoundError, ["cifar10", "tfds.builder('cifar10', data_dir="]),
        ("no_such_set", None, ValueError, ["no_such_set", "catalog"]),
        ("./no_such_folder", None, FileNotFoundError, ["no folder 'no_such_folder'"]),
        ("empty", None, ValueError, ["no images", "split/class/image"]),
    ],
)  # fmt: skip
def test_a_missing_set_says_what_to_do(source, data_dir, error, words, tmp_path):
    data_dir = tmp_path if data_dir else None
    with pytest.raises(error) as raised:
        open_source(tmp_path if source == "empty" else source, data_dir)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "test"}, "There is no split 'test'"),
        ({"split": "train[50:20]"}, "train"),
        ({"batch": 0}, "`batch` must be at least 1"),
        ({"size": 0}, "`size` must be at least 1"),
        ({"batch": 61}, "fewer than a step takes: 61"),
        ({"start_step": 7}, "0 to 6"),
        ({"shard": (2, 2)}, "index < count"),
        ({"training": False, "short_side": 16}, "`short_side` must be at least 32"),
        ({"augmentation": Augmentation(mixup=0.2)}, "one_hot=True"),
    ],
)
def test_wrong_arguments(folder, change, words):
    settings = {"split": "train", **change}
    with pytest.raises(ValueError, match=words):
        batches(folder, settings.pop("split"), **settings)


# --- augmentation, rate -----------------------------------------------------------------------


SIZED = {"schedule": [(32, 8), (48, 6)], "one_hot": True}


@pytest.fixture(scope="module")
def plain(folder):
    """Batches that nothing changes."""
    return batches(folder, "train", **SIZED)


@pytest.mark.parametrize(
    "options",
    [
        {"rand_augment": 2},
        {"color_jitter": 0.4},
        {"random_erasing": 1.0},
        {"mixup": 0.8},
        {"cutmix": 1.0},
        {"mixup": 0.8, "cutmix": 1.0},
    ],
    ids=lambda options: "+".join(options),
)
def test_augmentation_changes_images_and_mixes_labels(folder, plain, options):
    augmented = batches(folder, "train", augmentation=Augmentation(**options), **SIZED)
    for (images, labels), (other, other_labels) in zip(plain, augmented, strict=True):
        assert other.shape == images.shape
        assert np.isfinite(other).all()
        assert other.min() >= 0
        assert other.max() <= 255
        assert not np.array_equal(other, images)
        np.testing.assert_allclose(other_labels.sum(axis=1), 1, rtol=1e-5)
        mixes = "mixup" in options or "cutmix" in options
        assert mixes or np.array_equal(labels, other_labels)
    if "mixup" in options or "cutmix" in options:
        assert any(((y > 0) & (y < 1)).any() for _, y in augmented)


def test_input_rate(folder):
    rates = input_rate(folder, batch=8, size=32, batches=3, rounds=1)
    assert rates["read"] > rates["pipeline"] > 0
    assert rates["pipeline_to_decode"] == pytest.approx(
        rates["pipeline"] / rates["read_and_decode"]
    )
    assert json.dumps(rates)
