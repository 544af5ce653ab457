"""Images with a class each as `tf.data` batches: repeatable, resumable, sharded, multi-scale."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_parc.data.augment import Augmentation, batch_augmentation
from keras_parc.data.images import (
    KINDS,
    RGB,
    decode,
    evaluation_image,
    kind_of,
    training_image,
)
from keras_parc.data.records import evaluation_records, training_records, usable
from keras_parc.data.skipped import SkippedImages
from keras_parc.data.sources import bounds, open_source

_SPARES = 8  # images that stand in for skipped ones
_PROBES = 64  # images looked at to find them


def num_examples(source, split: str, data_dir: str | os.PathLike | None = None) -> int:
    """How many images a split has.

    Args:
        source: Name of a TFDS set, folder of images or builder, as for `dataset`.
        split: `"train"`, or a part as `"train[:1000]"`.
        data_dir: Folder of prepared TFDS sets.

    Returns:
        The number. An epoch of `dataset(training=True)` has at most 15 fewer.

    Raises:
        FileNotFoundError: The set is not there.
        ValueError: There is no such set or split.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("train/cat/a.jpg", "train/dog/b.jpg"):
        ...     (folder / name).parent.mkdir(parents=True)
        ...     _ = (folder / name).write_bytes(b"")
        >>> num_examples(folder, "train"), num_examples(folder, "train[:50%]")
        (2, 1)
    """
    _, first, end = bounds(open_source(source, data_dir), split)
    return end - first


def class_names(source, data_dir: str | os.PathLike | None = None) -> list[str]:
    """The names of the classes, in the order of their numbers.

    Args:
        source: Name of a TFDS set, folder of images or builder, as for `dataset`.
        data_dir: Folder of prepared TFDS sets.

    Raises:
        FileNotFoundError: The set is not there.
        ValueError: There is no such set.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("train/dog/a.jpg", "train/cat/b.jpg"):
        ...     (folder / name).parent.mkdir(parents=True)
        ...     _ = (folder / name).write_bytes(b"")
        >>> class_names(folder)
        ['cat', 'dog']
    """
    return list(open_source(source, data_dir).info.features["label"].names)


def dataset(
    source,
    split: str,
    *,
    batch: int,
    size: int | tuple[int, int],
    training: bool,
    schedule: Sequence[tuple[int | tuple[int, int], int]] | None = None,
    augmentation: Augmentation | None = None,
    one_hot: bool = False,
    seed: int = 0,
    epoch: int = 0,
    start_step: int = 0,
    shard: tuple[int, int] = (0, 1),
    short_side: int | None = None,
    skipped: SkippedImages | None = None,
    skip_unusual: bool = False,
    data_dir: str | os.PathLike | None = None,
) -> tf.data.Dataset:
    """One epoch of an image-classification set as batches.

    In training, the order of the images, their crops and flips are a function of `seed`, `epoch`
    and the position in the epoch alone: `start_step=k` gives what step k and those after it would
    have been, on any machine, without decoding the steps before; and n shards with a batch of b
    each have at step k the images that one shard with a batch of n * b has (in another order).
    RandAugment, colour jitter, erasing, MixUp and CutMix are KerasCV layers, whose draws are *not*
    repeatable.

    An image that cannot be decoded is skipped: a sound one of the same split takes its place, with
    the crop of its position, so that no other image moves. Its name is logged and counted.

    Args:
        source: Name of a TensorFlow Datasets set (`"imagenet2012"`, `"digit_scenes/classify"`), a
            folder `split/class/image`, or a TFDS builder. Nothing is downloaded.
        split: `"train"`, or a part as `"train[:1000]"`.
        batch: Images of a step in this shard, at least 1.
        size: Side, or height and width, of the images in pixels.
        training: True: random order, crop and flip, whole batches only. False: the authors'
            evaluation rule, every image once, in the order of the set.
        schedule: Only in training: `(size, batch)` of every step of the epoch, in place of `size`
            and `batch` (multi-scale sampler).
        augmentation: Only in training; None: the authors' crop and flip.
        one_hot: Labels float32 `(b, classes)` rather than int64 `(b,)`. MixUp and CutMix need it.
        seed: At least 0.
        epoch: At least 0.
        start_step: Steps of the epoch to leave out at its beginning.
        shard: Number of this shard and number of shards (hosts or replicas). A TFDS set of 256
            images or more can be read in 1, 2, 4, 8 or 16.
        short_side: Only in evaluation: shorter side in pixels before the centre is cut out; None:
            32 more than the longer of `size`, as the authors do.
        skipped: What was skipped is counted here, and the limit is in it: by default 100 images in
            training, none in evaluation, where each counts.
        skip_unusual: Skip greyscale, CMYK and 16-bit images too, rather than convert them to 8-bit
            RGB as the authors do.
        data_dir: Folder of prepared TFDS sets; None: `~/tensorflow_datasets`.

    Returns:
        A data set of images float32 `(b, height, width, 3)`, RGB 0..255, and labels.

    Raises:
        FileNotFoundError: The set is not there; the message says how to get it.
        ValueError: There is no such set or split, an argument is out of range, or the first images
            are all damaged.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for number in range(8):
        ...     name = folder / "train" / ("cat", "dog")[number % 2] / f"{number}.jpg"
        ...     name.parent.mkdir(parents=True, exist_ok=True)
        ...     _ = name.write_bytes(tf.io.encode_jpeg(tf.zeros((60, 80, 3), tf.uint8)).numpy())
        >>> images, labels = next(iter(dataset(folder, "train", batch=4, size=32, training=True)))
        >>> images.shape, labels.shape
        (TensorShape([4, 32, 32, 3]), TensorShape([4]))
        >>> num_examples(folder, "train[:50%]"), class_names(folder)
        (4, ['cat', 'dog'])
    """
    builder = open_source(source, data_dir)
    classes = builder.info.features["label"].num_classes
    if skipped is None:
        skipped = SkippedImages(100 if training else 0)
    augmentation = augmentation or Augmentation()
    if augmentation.mixes and not one_hot:
        raise ValueError("MixUp and CutMix mix labels, which needs `one_hot=True`.")
    guard = _Guard(skipped, skip_unusual)
    if training:
        per_step = _positive("batch", batch) * shard[1]
        if schedule is None:
            schedule = [(size, batch)] * (usable(builder, split) // per_step)
        steps = np.array([(*_sides(each), _positive("batch", n)) for each, n in schedule], "int64")
        if not len(steps):
            raise ValueError(
                f"{split!r} has {usable(builder, split)} images to train on, fewer than a step "
                f"takes: {per_step}."
            )
        if not 0 <= start_step < len(steps):
            raise ValueError(
                f"`start_step` must be 0 to {len(steps) - 1}, the steps of an epoch of "
                f"{usable(builder, split)} images, got {start_step}."
            )
        batches = _training_batches(
            builder, split, steps, start_step, augmentation, seed, epoch, shard, guard
        )
        augment = batch_augmentation(augmentation, seed)
    else:
        if schedule is not None or start_step:
            raise ValueError("`schedule` and `start_step` are for training only.")
        sides = _sides(size)
        if short_side is not None and short_side < max(sides):
            raise ValueError(f"`short_side` must be at least {max(sides)}, got {short_side}.")
        batches = _evaluation_batches(
            builder, split, _positive("batch", batch), sides, short_side, shard, guard
        )
        augment = None

    def finish(images, labels):
        images = tf.cast(images, tf.float32)
        labels = tf.one_hot(labels, classes) if one_hot else labels
        return augment(images, labels) if training and augment else (images, labels)

    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _training_batches(
    builder, split, steps, start_step, augmentation, seed, epoch, shard, guard
) -> tf.data.Dataset:
    start, steps = int(steps[:start_step, 2].sum()), steps[start_step:]
    records = training_records(
        builder, split, seed=seed, epoch=epoch, shard=shard, start=start, count=steps[:, 2].sum()
    )
    number_and_step = tf.data.Dataset.from_tensor_slices(steps).enumerate()
    steps_of_records = number_and_step.flat_map(
        lambda number, step: tf.data.Dataset.from_tensors((number, step)).repeat(step[2])
    )
    salt = np.random.default_rng([seed, epoch, 1]).integers(2**62)  # 1: not that of the order
    spare_data, spare_labels = _spares(builder, split, guard.skip_unusual)

    def image(record, number_and_step):
        position, (name, data, label) = record
        number, step = number_and_step
        position = position * shard[1] + shard[0]  # in the epoch, over all shards

        def crop(data):
            return training_image(
                data,
                step[:2],
                tf.stack([tf.constant(salt, tf.int64), position]),
                augmentation.scale,
                augmentation.ratio,
                augmentation.flip,
            )

        spare = position % len(spare_labels)
        image, label = guard(
            crop, name, data, label, lambda: (crop(spare_data[spare]), spare_labels[spare])
        )
        return number, image, label

    sizes = {tuple(sides) for sides in steps[:, :2].tolist()}
    shape = (*(sizes.pop() if len(sizes) == 1 else (None, None)), 3)
    images = tf.data.Dataset.zip(records.enumerate(start), steps_of_records).map(
        image, num_parallel_calls=tf.data.AUTOTUNE
    )
    largest = int(steps[:, 2].max())
    batches = images.group_by_window(
        key_func=lambda number, image, label: number,
        reduce_func=lambda number, window: window.batch(largest),
        window_size_func=lambda number: tf.constant(steps)[number, 2],
    )
    return batches.map(
        lambda _, images, labels: (tf.ensure_shape(images, (None, *shape)), labels)
    ).apply(tf.data.experimental.assert_cardinality(len(steps)))


def _evaluation_batches(builder, split, batch, sides, short_side, shard, guard) -> tf.data.Dataset:
    def image(name, data, label):
        image, label = guard(
            lambda data: evaluation_image(data, sides, short_side),
            name,
            data,
            label,
            lambda: (tf.zeros((*sides, 3), tf.uint8), tf.constant(-1, tf.int64)),
        )
        return tf.ensure_shape(image, (*sides, 3)), label

    images = evaluation_records(builder, split, shard).map(
        image, num_parallel_calls=tf.data.AUTOTUNE
    )
    return images.filter(lambda image, label: label >= 0).batch(batch)


class _Guard:
    """Decodes an image, or counts it as skipped and takes something else instead."""

    def __init__(self, skipped: SkippedImages, skip_unusual: bool):
        self.skipped, self.skip_unusual = skipped, skip_unusual

    def __call__(self, crop, name, data, label, instead):
        """`crop(data)` and the label, or what `instead()` gives if that fails."""

        def sound(name, data, label):
            return self._checked(crop, name, data), label

        def skip(name, data, label):
            with tf.control_dependencies([tf.numpy_function(self._skip, [name, data], tf.bool)]):
                return instead()

        # Within a graph, a data set is the only thing that survives an error.
        record = tf.data.Dataset.from_tensors((name, data, label))
        sound_or_none = record.map(sound).ignore_errors()
        return sound_or_none.concatenate(record.map(skip)).take(1).get_single_element()

    def _checked(self, crop, name, data):
        kind = kind_of(data)
        if self.skip_unusual:
            with tf.control_dependencies([tf.debugging.assert_equal(kind, RGB)]):
                return crop(data)
        note = tf.cond(
            kind == RGB,
            lambda: True,
            lambda: tf.numpy_function(self._convert, [name, kind], tf.bool),
        )
        with tf.control_dependencies([note]):
            return crop(data)

    def _skip(self, name, data):
        self.skipped.skip(name.decode(), data)
        return True

    def _convert(self, name, kind):
        self.skipped.convert(name.decode(), KINDS[kind])
        return True


def _spares(builder, split, skip_unusual) -> tuple[tf.Tensor, tf.Tensor]:
    """Files and labels of the first images that are sound."""

    def sound(name, data, label):
        if skip_unusual:
            tf.debugging.assert_equal(kind_of(data), RGB)
        return tf.size(decode(data)), data, label

    records = evaluation_records(builder, split).take(_PROBES).map(sound).ignore_errors()
    found = [(data, label) for _, data, label in records.take(_SPARES).as_numpy_iterator()]
    if not found:
        raise ValueError(
            f"None of the first {_PROBES} images in {split!r} of {builder.name!r} "
            f"({str(builder.data_dir)!r}) can be used."
        )
    data, labels = zip(*found, strict=True)
    return tf.constant(data), tf.constant(labels, tf.int64)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}.")
    return int(value)


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if np.ndim(size) == 0 else size
    return _positive("size", height), _positive("size", width)
