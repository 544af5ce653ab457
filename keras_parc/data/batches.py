"""One epoch of any image set as batches: what classification, detection and others share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_parc.data.images import KINDS, RGB, decode, kind_of
from keras_parc.data.records import (
    CLASS,
    Annotation,
    evaluation_records,
    training_records,
    usable,
)
from keras_parc.data.skipped import SkippedImages

_SPARES = 8  # images that stand in for skipped ones
_PROBES = 64  # images looked at to find them


def epoch_batches(
    builder,
    split: str,
    example: Callable,
    *,
    training: bool,
    schedule: Sequence[tuple[int | tuple[int, int], int]] | None = None,
    seed: int = 0,
    epoch: int = 0,
    start_step: int = 0,
    finish: Callable | None = None,
    **shared,
) -> tf.data.Dataset:
    """One epoch of any image set, to train on or to measure on: what the tasks have in common.

    Args:
        builder: What `open_source` returns.
        split: A split, or one part of it.
        example: As `training_batches` takes it, or if not `training` as `evaluation_batches` does.
        training: Whether the epoch is one to train on.
        schedule: Only in training, see `training_batches`.
        seed: Only in training.
        epoch: Only in training.
        start_step: Only in training.
        finish: A function of a batch of images, float32, and its targets, called last.
        **shared: What both functions take.

    Returns:
        A data set of images float32 `(b, height, width, 3)` and targets, prefetched.

    Raises:
        ValueError: An argument is out of range or for training only, or the first images are all
            damaged.
    """
    if training:
        batches = training_batches(
            builder,
            split,
            example,
            schedule=schedule,
            seed=seed,
            epoch=epoch,
            start_step=start_step,
            **shared,
        )
    elif schedule is not None or start_step:
        raise ValueError("`schedule` and `start_step` are for training only.")
    else:
        batches = evaluation_batches(builder, split, example, **shared)

    def finished(images, targets):
        images = tf.cast(images, tf.float32)
        return (images, targets) if finish is None else finish(images, targets)

    return batches.map(finished, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def training_batches(
    builder,
    split: str,
    example: Callable,
    *,
    batch: int,
    size: int | tuple[int, int],
    schedule: Sequence[tuple[int | tuple[int, int], int]] | None = None,
    seed: int = 0,
    epoch: int = 0,
    start_step: int = 0,
    shard: tuple[int, int] = (0, 1),
    skipped: SkippedImages | None = None,
    skip_unusual: bool = False,
    annotation: Annotation = CLASS,
    reason: Callable[..., str | None] | None = None,
) -> tf.data.Dataset:
    """One epoch in random order, whole batches only.

    Args:
        builder: What `open_source` returns.
        split: A split, or one part of it.
        example: A function of the content of an image file, its target, the size wanted (int32
            `(2,)`) and a seed (int64 `(2,)`, another one for every position of every epoch), that
            gives image uint8 `(height, width, 3)` and target. It fails if the file is damaged.
        batch: Images of a step in this shard, at least 1.
        size: Side, or height and width, of the images in pixels.
        schedule: `(size, batch)` of every step of the epoch, in place of `size` and `batch`.
        seed: At least 0.
        epoch: At least 0.
        start_step: Steps of the epoch to leave out at its beginning.
        shard: Number of this shard and number of shards.
        skipped: Where skipped images are counted, 100 at most by default; sound ones take their
            places.
        skip_unusual: Skip greyscale, CMYK and 16-bit images too.
        annotation: What is read beside the image.
        reason: A function of the content of an image file and of its target, if that is a string
            tensor, that tells why a target cannot be used; None where the image is at fault.

    Returns:
        A data set of images uint8 `(b, height, width, 3)` and targets.

    Raises:
        ValueError: An argument is out of range, or the first images are all damaged.
    """
    per_step = _positive("batch", batch) * shard[1]
    if schedule is None:
        schedule = [(size, batch)] * (usable(builder, split) // per_step)
    steps = np.array([(*sides_of(each), _positive("batch", n)) for each, n in schedule], "int64")
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
    start, steps = int(steps[:start_step, 2].sum()), steps[start_step:]
    records = training_records(
        builder,
        split,
        seed=seed,
        epoch=epoch,
        shard=shard,
        start=start,
        count=steps[:, 2].sum(),
        annotation=annotation,
    )
    number_and_step = tf.data.Dataset.from_tensor_slices(steps).enumerate()
    steps_of_records = number_and_step.flat_map(
        lambda number, step: tf.data.Dataset.from_tensors((number, step)).repeat(step[2])
    )
    salt = np.random.default_rng([seed, epoch, 1]).integers(2**62)  # 1: not that of the order
    first_size = tf.constant(steps[0, :2], tf.int32)
    example = tf.function(example)  # traced once, for an image and for what stands in
    spares, spare_data, spare_targets = _spares(
        builder,
        split,
        annotation,
        skip_unusual,
        lambda data, target: example(data, target, first_size, tf.zeros(2, tf.int64)),
    )
    guard = _Guard(SkippedImages() if skipped is None else skipped, skip_unusual, reason)

    def image(record, number_and_step):
        position, (name, data, target) = record
        number, step = number_and_step
        position = position * shard[1] + shard[0]  # in the epoch, over all shards
        seed = tf.stack([tf.constant(salt, tf.int64), position])

        def made(data, target):
            return example(data, target, tf.cast(step[:2], tf.int32), seed)

        def instead():
            spare = position % spares
            return made(
                spare_data[spare], tf.nest.map_structure(lambda each: each[spare], spare_targets)
            )

        image, target = guard(made, name, data, target, instead)
        return number, image, target

    sizes = {tuple(sides) for sides in steps[:, :2].tolist()}
    shape = (*(sizes.pop() if len(sizes) == 1 else (None, None)), 3)
    images = tf.data.Dataset.zip(records.enumerate(start), steps_of_records).map(
        image, num_parallel_calls=tf.data.AUTOTUNE
    )
    largest = int(steps[:, 2].max())
    batches = images.group_by_window(
        key_func=lambda number, image, target: number,
        reduce_func=lambda number, window: window.batch(largest),
        window_size_func=lambda number: tf.constant(steps)[number, 2],
    )
    return batches.map(
        lambda _, images, targets: (tf.ensure_shape(images, (None, *shape)), targets)
    ).apply(tf.data.experimental.assert_cardinality(len(steps)))


def evaluation_batches(
    builder,
    split: str,
    example: Callable,
    *,
    batch: int,
    size: int | tuple[int, int],
    shard: tuple[int, int] = (0, 1),
    skipped: SkippedImages | None = None,
    skip_unusual: bool = False,
    annotation: Annotation = CLASS,
    reason: Callable[..., str | None] | None = None,
) -> tf.data.Dataset:
    """Every image wanted once, in the order of the set.

    Args:
        builder: What `open_source` returns.
        split: A split, or one part of it.
        example: A function of the content of an image file and its target, that gives image uint8
            of the size wanted and target. It fails if the file is damaged.
        batch: Images of a batch, at least 1; the last may have fewer.
        size: Side, or height and width, of the images in pixels.
        shard: Number of this shard and number of shards.
        skipped: Where skipped images are counted, none by default; they are left out.
        skip_unusual: Skip greyscale, CMYK and 16-bit images too.
        annotation: What is read beside the image; targets of unequal shapes become ragged.
        reason: As for `training_batches`.

    Returns:
        A data set of images uint8 `(b, height, width, 3)` and targets.

    Raises:
        ValueError: An argument is out of range.
    """
    guard = _Guard(SkippedImages(0) if skipped is None else skipped, skip_unusual, reason)
    shape = (*sides_of(size), 3)

    def image(name, data, target):
        def made(data, target):
            image, made_target = example(data, target)
            return tf.constant(True), tf.ensure_shape(image, shape), made_target

        def nothing():
            return tf.constant(False), tf.zeros(shape, tf.uint8), empty

        spec = tf.data.Dataset.from_tensors((data, target)).map(made).element_spec[2]
        empty = tf.nest.map_structure(
            lambda each: tf.zeros([side or 0 for side in each.shape], each.dtype), spec
        )
        return guard(made, name, data, target, nothing)

    images = evaluation_records(builder, split, shard, annotation).map(
        image, num_parallel_calls=tf.data.AUTOTUNE
    )
    sound = images.filter(lambda sound, image, target: sound)
    return sound.map(lambda sound, image, target: (image, target)).ragged_batch(
        _positive("batch", batch)
    )


class _Guard:
    """Makes an example of an image file, or counts it as skipped and takes something else."""

    def __init__(self, skipped: SkippedImages, skip_unusual: bool, reason: Callable | None):
        self.skipped, self.skip_unusual, self.reason = skipped, skip_unusual, reason

    def __call__(self, made, name, data, target, instead):
        """`made(data, target)`, or what `instead()` gives if that fails."""

        def sound(name, data, target):
            return made(self._checked(name, data), target)

        def skip(name, data, target):
            known = [name, data] if self.reason is None else [name, data, target]
            with tf.control_dependencies([tf.numpy_function(self._skip, known, tf.bool)]):
                return tf.nest.map_structure(tf.identity, instead())

        # Within a graph, a data set is the only thing that survives an error.
        record = tf.data.Dataset.from_tensors((name, data, target))
        sound_or_none = record.map(sound).ignore_errors()
        return sound_or_none.concatenate(record.map(skip)).take(1).get_single_element()

    def _checked(self, name, data):
        """The same data, once it is known to be of a kind that is wanted."""
        kind = kind_of(data)
        if self.skip_unusual:
            note = tf.debugging.assert_equal(kind, RGB)
        else:
            note = tf.cond(
                kind == RGB,
                lambda: True,
                lambda: tf.numpy_function(self._convert, [name, kind], tf.bool),
            )
        with tf.control_dependencies([note]):
            return tf.identity(data)

    def _skip(self, name, data, *target):
        reason = self.reason(data, *target) if target else None
        self.skipped.skip(name.decode(), data, reason)
        return True

    def _convert(self, name, kind):
        self.skipped.convert(name.decode(), KINDS[kind])
        return True


def _spares(builder, split, annotation, skip_unusual, made):
    """Number, files and targets of the first images of which `made` can make an example."""

    def sound(name, data, target):
        if skip_unusual:
            tf.debugging.assert_equal(kind_of(data), RGB)
        image, _ = made(data, target)
        return tf.size(decode(data)) + tf.size(image), data, target

    records = evaluation_records(builder, split, annotation=annotation)
    found = records.take(_PROBES).map(sound).ignore_errors().take(_SPARES)
    for sizes, data, targets in found.batch(_SPARES):
        return len(sizes), data, targets
    raise ValueError(
        f"None of the first {_PROBES} images in {split!r} of {builder.name!r} "
        f"({str(builder.data_dir)!r}) can be used."
    )


def sides_of(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a size in pixels.

    Args:
        size: Side, or height and width.

    Raises:
        ValueError: A side is less than 1.
    """
    height, width = (size, size) if np.ndim(size) == 0 else size
    return _positive("size", height), _positive("size", width)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}.")
    return int(value)
