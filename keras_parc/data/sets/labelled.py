"""What the readers of formats find in a folder of labelled images, as a builder of TFDS."""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_parc.data.sets.found import Found, Item, Report
from keras_parc.data.sets.splits import known_split, validation_part
from keras_parc.support.text import one_line

log = logging.getLogger(__name__)


class LabelledFolder(tfds.core.DatasetBuilder):
    """The labelled images of a folder; the files are read where they are.

    Args:
        folder: Where they are.
        found: What a reader of a format made of it.
        validation: Where there is no validation split, the part of "train" that becomes one, 0 to
            1; 0: none.
        seed: By which it is chosen; see `keras_parc.data.sets.splits.validation_part`.
        split_by: As for `validation_part`.

    Attributes:
        found: What the reader made of the folder.
        report: What was understood, a `Report`.
        paths: The image files of each split, in the order of the set.
        category_ids: The numbers of the classes in COCO's files; None: 1, 2, 3 ...

    Raises:
        ValueError: There are no images, or an argument is out of range.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        folder: Path,
        found: Found,
        *,
        validation: float = 0.2,
        seed: int = 0,
        split_by: str | None = None,
    ):
        if not 0 <= validation < 1:
            raise ValueError(f"`validation` must be at least 0 and below 1, got {validation}.")
        if split_by not in (None, "folder"):
            raise ValueError(f'`split_by` must be None or "folder", got {split_by!r}.')
        notes = dict(found.notes)
        if not found.items:
            faults = Report(found.task, found.format, {}, "", {}, notes).faults()
            raise ValueError(
                f"There are no images to use in {str(folder)!r}, read as {found.task} in the "
                f"format {found.format!r}" + (f": {faults}." if faults else ".")
            )
        _check_names(folder, found)
        self.found, self.category_ids = found, found.ids
        super().__init__(data_dir=str(folder))
        self._data_dir = self.name = str(folder)  # the name that messages call it by
        splits, made = _splits(found.items, validation, seed, split_by)
        self.report = Report(
            found.task,
            found.format,
            {split: len(items) for split, items in splits.items()},
            made,
            _counts(found.names, found.items),
            notes,
            {split: _counts(found.names, items) for split, items in splits.items()},
        )
        self.paths = {split: [item.path for item in items] for split, items in splits.items()}
        columns = {"classification": _labels, "detection": _objects, "segmentation": _masks}
        self._columns = {
            split: columns[found.task](items) | _files(items) for split, items in splits.items()
        }
        self.info.set_splits(
            tfds.core.SplitDict(
                [
                    tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=0)
                    for split, count in self.report.splits.items()
                ]
            )
        )
        if notes:
            log.warning("%s (%s): %s", folder, found.task, self.report.faults())

    def records(self, split: str, numbers: np.ndarray, features: Sequence[str]) -> tf.data.Dataset:
        """Examples as dictionaries of `image/filename` and the features wanted.

        Args:
            split: One whole split.
            numbers: Of the examples, in the order wanted.
            features: Names; those that the set lacks are left out. The image itself is none.
        """
        columns = self._columns[split]
        wanted = {key: columns[key] for key in ("image/filename", *features) if key in columns}

        def record(number):
            return {key: column(number) for key, column in wanted.items()}

        examples = tf.data.Dataset.from_tensor_slices(np.asarray(numbers, "int64"))
        return examples.map(record, num_parallel_calls=tf.data.AUTOTUNE)

    def _info(self) -> tfds.core.DatasetInfo:
        names = self.found.names
        features = {
            "image": tfds.features.Image(),
            "image/filename": tfds.features.Text(),
        }
        if self.found.task == "classification":
            features["label"] = tfds.features.ClassLabel(names=names)
        elif self.found.task == "detection":
            features["image/id"] = tfds.features.Scalar(tf.int64)
            features["objects"] = tfds.features.Sequence(
                {
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=names),
                    "is_crowd": tf.bool,
                    "is_difficult": tf.bool,
                    "area": tf.float32,
                }
            )
        else:
            features["segmentation_mask"] = tfds.features.LabeledImage(
                labels=names, shape=(None, None, 1)
            )
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _download_and_prepare(self, **_) -> None:
        """Nothing is prepared: the files are read where they are."""

    def _as_dataset(self, split: str, **_) -> tf.data.Dataset:
        raise NotImplementedError("A folder is read by `keras_parc.data`.")


def _check_names(folder: Path, found: Found) -> None:
    """Names that are written down, one a line, and read again."""
    if not found.names:
        raise ValueError(f"{folder}: there is no class in it, read as {found.task}.")
    for name in found.names:
        if not name or name != name.strip() or len(name.splitlines()) > 1:
            raise ValueError(
                f"{folder}: {one_line(repr(name), 80)} is no name for a class; expected a line of "
                "text without space around it."
            )


def _counts(names, items) -> dict[str, int]:
    """How often each class is there."""
    counts = Counter(number for item in items for number in item.labels())
    return {name: counts[number] for number, name in enumerate(names)}


def _splits(items, share, seed, split_by) -> tuple[dict[str, list[Item]], str]:
    """The images of each split, and where the validation split comes from."""
    splits: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        split = item.split or "train"
        splits[known_split(split) or split].append(item)
    made = "its own" if "validation" in splits else "none"
    if made == "none" and share and "train" in splits:
        train = splits["train"]
        chosen = set(
            validation_part(
                [item.path for item in train],
                [item.labels() for item in train],
                share=share,
                seed=seed,
                split_by=split_by,
            )
        )
        if chosen:
            made = f"{share:g} of train, by {split_by or 'class'}, seed {seed}"
            splits["validation"] = [train[number] for number in sorted(chosen)]
            splits["train"] = [each for number, each in enumerate(train) if number not in chosen]
    for split, each in splits.items():
        random.Random(split).shuffle(each)  # The same order on every machine.
    return dict(splits), made


# Each makes of a split's images a function of the number of one for every feature.


def _files(items):
    paths = tf.constant([item.path for item in items])
    return {"image/filename": lambda number: paths[number]}


def _labels(items):
    labels = tf.constant([item.label for item in items], tf.int64)
    return {"label": lambda number: labels[number]}


def _objects(items):
    boxes = [box for item in items for box in item.boxes]
    edges = np.cumsum([0, *(len(item.boxes) for item in items)])
    edges = tf.constant(edges, tf.int64)
    flat = {
        "bbox": np.array([box[1:5] for box in boxes], "float32").reshape(-1, 4),
        "label": np.array([box.label for box in boxes], "int64"),
        "is_crowd": np.array([box.crowd for box in boxes], bool),
        "is_difficult": np.array([box.difficult for box in boxes], bool),
        "area": np.array([box.area for box in boxes], "float32"),
    }
    flat = {key: tf.constant(each) for key, each in flat.items()}
    numbers = [item.number for item in items]
    if len(set(numbers)) < len(numbers):  # of two files: no image is told by its own
        numbers = [-1] * len(numbers)
    ids = tf.constant(numbers, tf.int64)

    def objects(number):
        return {key: each[edges[number] : edges[number + 1]] for key, each in flat.items()}

    return {"objects": objects, "image/id": lambda number: ids[number]}


def _masks(items):
    masks = [item.mask for item in items]

    def mask(number):
        content = tf.numpy_function(lambda number: masks[number](), [number], tf.string)
        return tf.ensure_shape(content, ())

    return {"segmentation_mask": mask}
