"""Object-detection data: from the files of COCO and VOC to batches, order, damage, evaluation."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from box_sets import (
    CROWD_ONLY,
    DEGENERATE,
    EMPTY,
    coco_annotations,
    prepare_coco,
    prepare_voc,
    relative,
    scene,
)
from image_files import UNREADABLE, encoded, odd_files
from keras_parc.data.augment.settings import BoxAugmentation
from keras_parc.data.images import decode, resize
from keras_parc.data.skipped import SkippedImages
from keras_parc.data.sources import num_examples
from keras_parc.tasks.detection.data import (
    category_ids,
    class_names,
    dataset,
    evaluation_dataset,
)

PLAIN = BoxAugmentation(overlaps=(0.0,), distortion=0.0, flip=0.0)


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    return prepare_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="session")
def voc(tmp_path_factory):
    return prepare_voc(tmp_path_factory.mktemp("voc"))


def batches(source, split, **kwargs):
    settings = {"batch": 4, "size": 32, "training": True, "max_boxes": 6, **kwargs}
    return list(dataset(source, split, **settings).as_numpy_iterator())


def assert_equal_batches(ours, theirs):
    for (images, targets), (others, other_targets) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(images, others)
        for key in ("boxes", "labels"):
            np.testing.assert_array_equal(targets[key], other_targets[key])


def real(target, number):
    """Boxes and labels of an image of a batch, without the padding."""
    boxes, labels = target["boxes"][number], target["labels"][number]
    count = int((labels >= 0).sum())
    assert (labels[count:] == -1).all()
    assert (boxes[count:] == 0).all()
    return boxes[:count], labels[:count]


def learnable(index):
    """What is to be learned of an image of COCO's train split: boxes and labels."""
    image, objects = coco_annotations(index, training=True)
    kept = [
        (each["bbox"], (index + number) % 80)
        for number, each in enumerate(objects)
        if not each["iscrowd"] and min(each["bbox"][2:]) > 0
    ]
    if not kept:
        return np.zeros((0, 4), "float32"), np.zeros(0, int)
    boxes, labels = zip(*kept, strict=True)
    return relative(boxes, image), np.array(labels)


# --- what is in a batch -----------------------------------------------------------------------


def test_coco_from_its_files_to_batches(coco):
    """Without augmentation: crowds and flat boxes are gone, every other one is as in the file."""
    assert num_examples("coco/2017", "train", coco) == 44
    expected = {index: learnable(index) for index in range(44)}
    seen = []
    for images, targets in batches("coco/2017", "train", augmentation=PLAIN, data_dir=coco):
        assert (images.shape, images.dtype) == ((4, 32, 32, 3), "float32")
        assert (targets["boxes"].dtype, targets["labels"].dtype) == ("float32", "int32")
        for number in range(4):
            boxes, labels = real(targets, number)
            index = next(
                index
                for index, (others, _) in expected.items()
                if others.shape == boxes.shape and len(boxes) and np.allclose(others, boxes)
            )
            np.testing.assert_array_equal(labels, expected[index][1])
            expected_image = resize(decode(encoded(scene(index)[0])), (32, 32))
            np.testing.assert_array_equal(images[number], expected_image)
            seen.append(index)
    without = {EMPTY, CROWD_ONLY, DEGENERATE}
    assert set(seen) == set(range(44)) - without
    assert len(seen) == 44  # others stand in for those without boxes


def test_images_without_objects_are_kept_to_validate(coco):
    result = batches("coco/2017", "train", training=False, batch=10, data_dir=coco)
    assert [len(images) for images, _ in result] == [10, 10, 10, 10, 4]
    counts = np.concatenate([(targets["labels"] >= 0).sum(1) for _, targets in result])
    assert (counts == 0).sum() == 3
    assert sorted(counts) == sorted(len(learnable(index)[1]) for index in range(44))


def test_a_split_without_any_object(coco):
    (images, targets), *rest = batches("coco/2017", "test", training=False, data_dir=coco)
    assert (images.shape, rest) == ((1, 32, 32, 3), [])
    assert (targets["labels"] == -1).all()
    with pytest.raises(ValueError, match="None of the first"):
        batches("coco/2017", "test", batch=1, data_dir=coco)


def test_further_boxes_than_fit_are_left_out(coco):
    result = batches("coco/2017", "train", max_boxes=2, data_dir=coco)
    assert all(targets["boxes"].shape == (4, 2, 4) for _, targets in result)


def test_augmented_boxes_are_inside_with_area_and_a_known_label(coco):
    labels_of_set = {label for index in range(44) for label in learnable(index)[1]}
    count = 0
    schedule = [(32, 11)] * 12  # three epochs
    for images, targets in batches("coco/2017", "train", schedule=schedule, data_dir=coco):
        assert 0 <= images.min() <= images.max() <= 255
        for number in range(len(images)):
            boxes, labels = real(targets, number)
            count += len(boxes)
            assert len(boxes)
            assert (boxes >= 0).all()
            assert (boxes <= 1).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
            assert set(labels) <= labels_of_set
    assert count > 150


def test_voc_from_its_files_to_batches(voc):
    assert class_names("voc/2007", voc)[:3] == ["aeroplane", "bicycle", "bird"]
    assert category_ids("voc/2007", voc) == list(range(1, 21))
    expected = [relative(boxes, image) for image, boxes in map(scene, range(20))]
    names = class_names("voc/2007", voc)
    numbers = [names.index(name) for name in ("dog", "cat", "bird")]
    result = batches("voc/2007", "train", augmentation=PLAIN, batch=5, data_dir=voc)
    for _, targets in result:
        for number in range(5):
            boxes, labels = real(targets, number)
            assert any(
                other.shape == boxes.shape and np.allclose(other, boxes) for other in expected
            )
            assert labels.tolist() == numbers[: len(labels)]  # the difficult ones too


def test_category_ids_of_coco(coco):
    """The numbers of COCO's paper's site: 80 of 1 to 90."""
    ids, names = category_ids("coco/2017", coco), class_names("coco/2017", coco)
    assert len(ids) == len(names) == len(set(names)) == 80
    assert set(range(1, 91)) - set(ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert ids == sorted(ids)
    points = {0: (1, "person"), 11: (13, "stop sign"), 62: (72, "tv"), 79: (90, "toothbrush")}
    assert {label: (ids[label], names[label]) for label in points} == points


# --- order, resuming, shards ------------------------------------------------------------------


@pytest.mark.slow  # test_data.py has the same of images, which boxes travel with.
def test_epochs_and_seeds_change_the_batches_and_nothing_else_does(coco):
    settings = {"source": "coco/2017", "split": "train", "data_dir": coco}
    first = batches(**settings, seed=1, epoch=2)
    assert_equal_batches(first, batches(**settings, seed=1, epoch=2))
    for other in ({"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 2}):
        assert not np.array_equal(first[0][0], batches(**settings, **other)[0][0])
    assert len(first) == 44 // 4


@pytest.mark.parametrize(
    ("source", "steps"),
    [
        ("coco/2017", (14,)),
        pytest.param("coco/2017", (1, 7), marks=pytest.mark.slow),
        pytest.param("digit_scenes/tiny", (8,), marks=pytest.mark.slow),
    ],
)
def test_any_step_can_be_resumed(source, steps, coco, tiny_scenes):
    data_dir = coco if source == "coco/2017" else tiny_scenes
    settings = {"seed": 3, "epoch": 1, "data_dir": data_dir}
    schedule = [(32, 6), (48, 4), (64, 3), (32, 6), (48, 4)] * 3  # more than one epoch of COCO here
    whole = batches(source, "train", schedule=schedule, **settings)
    assert [images.shape for images, _ in whole] == [(b, side, side, 3) for side, b in schedule]
    for step in steps:
        rest = batches(source, "train", schedule=schedule, start_step=step, **settings)
        assert_equal_batches(whole[step:], rest)


@pytest.mark.slow  # test_data.py has the same of images, which boxes travel with.
def test_shards_together_are_the_whole_batch(coco):
    whole = batches("coco/2017", "train", batch=8, data_dir=coco)
    parts = [
        batches("coco/2017", "train", batch=4, shard=(index, 2), data_dir=coco)
        for index in range(2)
    ]
    for (images, targets), *pieces in zip(whole, *parts, strict=True):
        for index, (piece, piece_targets) in enumerate(pieces):
            np.testing.assert_array_equal(piece, images[index::2])
            np.testing.assert_array_equal(piece_targets["boxes"], targets["boxes"][index::2])


# --- damaged files ----------------------------------------------------------------------------


@pytest.fixture
def damaged_coco(coco):
    """TFDS' mock data for COCO: sound and damaged files, each with a box of its own."""
    files = odd_files() | {f"{index}.jpg": encoded(scene(index)[0]) for index in range(34)}
    boxes = np.full((len(files), 1, 4), 0.25, "float32")
    boxes[:, 0, 2:] = 0.5 + 0.01 * np.arange(len(files))[:, None]

    def as_dataset(self, split, decoders=None, read_config=None, **kwargs):
        records = {
            "image": list(files.values()),
            "image/filename": list(files),
            "image/id": np.arange(len(files)),
            "objects": {
                "bbox": boxes,
                "label": np.arange(len(files))[:, None] % 80,
                "is_crowd": np.zeros((len(files), 1), bool),
                "area": np.ones((len(files), 1), "int64"),
            },
            "tfds_id": list(files),
        }
        return tf.data.Dataset.from_tensor_slices(records)

    with tfds.testing.mock_data(as_dataset_fn=as_dataset, data_dir=str(coco)):
        yield files


def test_damaged_images_are_skipped_and_counted(damaged_coco):
    """A sound image stands in, with its own boxes; the limit fails the run."""
    skipped = SkippedImages()
    result = batches("coco/2017", "train", augmentation=PLAIN, skipped=skipped)
    assert len(result) == 11
    assert skipped.skipped
    assert set(skipped.skipped) <= set(UNREADABLE)
    sound = [label for label, name in enumerate(damaged_coco) if name not in UNREADABLE]
    contents = list(damaged_coco.values())
    for images, targets in result:
        for number in range(4):
            boxes, (label,) = real(targets, number)
            assert label in sound
            np.testing.assert_array_equal(images[number], resize(decode(contents[label]), (32, 32)))
            np.testing.assert_allclose(boxes[0, 2:], 0.5 + 0.01 * label, rtol=1e-6)
    limited = SkippedImages(limit=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the limit is 1"):
        batches("coco/2017", "train", skipped=limited)


def test_a_damaged_image_in_evaluation_is_an_error(damaged_coco):
    with pytest.raises(tf.errors.InvalidArgumentError, match="the limit is 0"):
        batches("coco/2017", "train", training=False)


# --- evaluation -------------------------------------------------------------------------------


def test_evaluation_has_all_that_coco_counts(coco):
    result = list(evaluation_dataset("coco/2017", "validation", batch=4, size=48, data_dir=coco))
    assert [images.shape for images, _ in result] == [(4, 48, 48, 3), (2, 48, 48, 3)]
    rows = [
        {key: each[number].numpy() for key, each in targets.items()}
        for images, targets in result
        for number in range(len(images))
    ]
    assert sorted(row["id"] for row in rows) == list(range(1000, 1006))
    for row in rows:
        index = row["id"] - 1000
        image, objects = coco_annotations(index, training=False)
        assert row["size"].tolist() == [image.height, image.width]
        np.testing.assert_allclose(
            row["boxes"], relative([each["bbox"] for each in objects], image), atol=1e-6
        )
        assert row["crowd"].tolist() == [bool(each["iscrowd"]) for each in objects]
        np.testing.assert_allclose(row["area"], [int(each["area"]) for each in objects])
        assert [category_ids("coco/2017", coco)[label] for label in row["labels"]] == [
            each["category_id"] for each in objects
        ]


def test_difficult_objects_are_not_counted(voc):
    (_, targets), *_ = evaluation_dataset("voc/2007", "train", batch=20, size=32, data_dir=voc)
    for crowd, area in zip(targets["crowd"], targets["area"], strict=True):
        assert crowd.numpy().tolist() == [False, True, False][: len(crowd)]
        assert (area == -1).numpy().all()


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("coco/2017", FileNotFoundError, ["tfds.builder('coco/2017', data_dir=", "--data-dir"]),
        ("voc/2012", FileNotFoundError, ["tfds.builder('voc/2012', data_dir=", "voc/2012"]),
        ("no_such_set", ValueError, ["no_such_set", "catalog"]),
        ("./no_such_folder", FileNotFoundError, ["no folder 'no_such_folder'"]),
    ],
)
def test_a_missing_set_says_what_to_do(source, error, words, tmp_path):
    with pytest.raises(error) as raised:
        batches(source, "train", data_dir=tmp_path)
    for word in words:
        assert word in str(raised.value)


def test_a_set_without_boxes_is_refused(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "1.jpg").write_bytes(encoded(scene(0)[0]))
    message = "for detection, which can be read as classification in the format 'folders'"
    with pytest.raises(ValueError, match=message):
        batches(tmp_path, "train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "nothing"}, "There is no split 'nothing'"),
        ({"batch": 0}, "`batch` must be at least 1"),
        ({"size": 0}, "`size` must be at least 1"),
        ({"batch": 45}, "fewer than a step takes: 45"),
        ({"start_step": 11}, "0 to 10"),
        ({"max_boxes": 0}, "`max_boxes` must be at least 1"),
        ({"training": False, "start_step": 1}, "for training only"),
    ],
)
def test_wrong_arguments(coco, change, words):
    settings = {"split": "train", "data_dir": coco, **change}
    with pytest.raises(ValueError, match=words):
        batches("coco/2017", **settings)
