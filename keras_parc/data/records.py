"""The order of a data set's records: undecoded, repeatable, and resumable at any of them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_parc.data.sources import bounds, is_folder

# A TFDS set is read as LANES equal parts side by side, each from a random place around it and
# shuffled in blocks of BLOCK records. So a batch mixes LANES places of the set, any record is found
# by arithmetic, and hosts read different parts.
LANES = 16
BLOCK = 128
_NAMES = ("file_name", "image/filename")  # features that name an image, where a set has one


@dataclasses.dataclass(frozen=True)
class Annotation:
    """What is read of an example beside its image.

    Args:
        features: Names of the features to read; those that the set lacks are left out.
        target: A function of the record, a dictionary of these features as tensors (an image
            feature is an undecoded file), that gives tensors in any nesting. For training their
            shapes must be equal in all records.
        wanted: A function of the target that gives whether the record is used, a bool tensor; None:
            every record is.
    """

    features: tuple[str, ...]
    target: Callable[[dict], Any]
    wanted: Callable[[Any], tf.Tensor] | None = None


# A set without public labels has -1.
CLASS = Annotation(("label",), lambda record: record["label"], lambda label: label >= 0)


def usable(builder, split: str) -> int:
    """How many examples an epoch of training has: all, or for a TFDS set at most 15 fewer."""
    _, first, end = bounds(builder, split)
    lanes = 1 if is_folder(builder) else _lanes(end - first)
    return (end - first) // lanes * lanes


def _lanes(examples: int) -> int:
    return next(lanes for lanes in (LANES, 8, 4, 2, 1) if examples >= 16 * lanes or lanes == 1)


def training_records(
    builder,
    split: str,
    *,
    seed: int,
    epoch: int,
    shard: tuple[int, int] = (0, 1),
    start: int = 0,
    count: int,
    annotation: Annotation = CLASS,
) -> tf.data.Dataset:
    """Records of one epoch in random order.

    The order is a function of seed, epoch and the set; shard i of n gets the records number i,
    i + n, i + 2n ... of it. Starting late reads at most a block of each lane in vain and decodes
    nothing. When more records are asked for than the epoch has, its order begins anew.
    In place of a record that is not wanted comes another one of its block, so that the position of
    all others is known without reading them.

    Args:
        builder: What `open_source` returns.
        split: A split, or one part of it.
        seed: At least 0.
        epoch: At least 0.
        shard: Number of this shard and number of shards.
        start: Records of this shard to leave out at the beginning.
        count: Records wanted after that.
        annotation: What is read beside the image.

    Returns:
        A data set of name (string), content of the image file (string) and target.

    Raises:
        ValueError: The shard does not exist, or a TFDS set cannot be cut into that many.
    """
    index, shards = shard
    if not 0 <= index < shards:
        raise ValueError(f"`shard` must be (index, count) with 0 <= index < count, got {shard}.")
    name, first, end = bounds(builder, split)
    rng = np.random.default_rng([seed, epoch])
    if is_folder(builder):
        order = _replaced(builder, name, first + rng.permutation(end - first), annotation)
        numbers = (index + shards * np.arange(start, start + count)) % len(order)
        return _files(builder, name, order[numbers], annotation)
    lanes = _lanes(end - first)
    # Traced once, not in every lane.
    annotation = dataclasses.replace(annotation, target=tf.function(annotation.target))
    if lanes % shards:
        raise ValueError(
            f"{split!r} of {builder.name!r} cannot be read in {shards} shards: their number must "
            f"divide {lanes}."
        )
    edges = first + (end - first) * np.arange(lanes + 1) // lanes
    rotations = rng.integers(np.diff(edges))
    key = int(rng.integers(2**62))
    own = range(index, lanes, shards)
    parts = []
    for turn in range(len(own)):  # the lane of record number start + turn
        number = start + turn
        lane = own[number % len(own)]
        wanted = -(-(count - turn) // len(own))
        if wanted > 0:
            parts.append(
                _lane(
                    builder,
                    name,
                    annotation,
                    edges[lane : lane + 2],
                    rotations[lane],
                    length=(end - first) // lanes,
                    key=(key, lane),
                    start=number // len(own),
                    count=wanted,
                )
            )
    turns = tf.data.Dataset.range(len(parts)).repeat()
    return tf.data.Dataset.choose_from_datasets(parts, turns).take(count)


def _lane(builder, split, annotation, edges, rotation, *, length, key, start, count):
    """`count` records of a lane from number `start` on, around again where the lane ends."""
    first, size = int(edges[0]), int(edges[1] - edges[0])

    def blocks(begin):
        """Records number `begin`, the first of a block, to `length`, in shuffled blocks."""
        low, high = rotation + begin, rotation + length
        pieces = [(low, min(high, size)), (max(low, size) - size, high - size)]
        spec = "+".join(f"{split}[{first + a}:{first + b}]" for a, b in pieces if a < b)
        records = _read(builder, spec, annotation).take(length - begin).batch(BLOCK)
        return records.enumerate(begin // BLOCK).map(_shuffled).prefetch(1).unbatch()

    def _shuffled(number, block):
        *block, wanted = block
        salt = tf.stack([tf.constant(key[0], tf.int64), number * LANES + key[1]])
        order = _order(wanted, salt)
        return tf.nest.map_structure(lambda each: tf.gather(each, order), tuple(block))

    start %= length
    begin = start // BLOCK * BLOCK
    records = blocks(begin).skip(start - begin)
    if start + count > length:
        records = records.concatenate(blocks(0).repeat())
    return records


@tf.function
def _order(wanted, salt):
    """A random order, in which those that are wanted take turns in the places of the others."""
    order = tf.argsort(tf.random.stateless_uniform([tf.size(wanted)], salt), stable=True)
    wanted = tf.gather(wanted, order) | ~tf.reduce_any(wanted)  # if none is, all are taken
    good = tf.boolean_mask(order, wanted)
    turn = tf.cumsum(tf.cast(~wanted, tf.int32)) - 1
    return tf.where(wanted, order, tf.gather(good, turn % tf.size(good)))


def evaluation_records(
    builder, split: str, shard: tuple[int, int] = (0, 1), annotation: Annotation = CLASS
) -> tf.data.Dataset:
    """All records wanted, in the order of the set; shard i of n reads the i-th of n equal parts.

    Args:
        builder: What `open_source` returns.
        split: A split, or one part of it.
        shard: Number of this shard and number of shards.
        annotation: What is read beside the image.

    Returns:
        A data set of name (string), content of the image file (string) and target.
    """
    index, shards = shard
    name, first, end = bounds(builder, split)
    low, high = (first + (end - first) * number // shards for number in (index, index + 1))
    if is_folder(builder):
        numbers = np.arange(low, high)
        numbers = numbers[_wanted(builder, name, numbers, annotation)]
        return _files(builder, name, numbers, annotation)
    records = _read(builder, f"{name}[{low}:{high}]", annotation).take(high - low)
    records = records.filter(lambda name, data, target, wanted: wanted)
    return records.map(lambda name, data, target, wanted: (name, data, target))


def labels_of(builder, split: str) -> tf.data.Dataset:
    """The class number of every example, without reading what can be left unread.

    Args:
        builder: What `open_source` returns.
        split: A split, or one part of it.
    """
    name, first, end = bounds(builder, split)
    if is_folder(builder):
        records = builder.records(name, np.arange(first, end), CLASS.features)
        return records.map(CLASS.target)
    return _read(builder, f"{name}[{first}:{end}]", CLASS).map(lambda *parts: parts[2])


def _files(builder, split, numbers, annotation):
    """Records of a folder, in the order of the numbers."""

    def parts(record):
        path = record["image/filename"]
        return path, tf.io.read_file(path), annotation.target(record)

    records = builder.records(split, numbers, annotation.features)
    return records.map(parts, num_parallel_calls=tf.data.AUTOTUNE)


def _wanted(builder, split, numbers, annotation) -> np.ndarray:
    """Whether each record of a folder is wanted; no image is read."""
    if annotation.wanted is None or annotation is CLASS:  # a folder has no image without a class
        return np.ones(len(numbers), bool)
    records = builder.records(split, numbers, annotation.features)
    wanted = records.map(
        lambda record: annotation.wanted(annotation.target(record)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return np.concatenate([np.zeros(0, bool), *wanted.batch(BLOCK).as_numpy_iterator()])


def _replaced(builder, split, order, annotation) -> np.ndarray:
    """The order, in which the records wanted take turns in the places of the others."""
    wanted = _wanted(builder, split, order, annotation)
    if wanted.any():
        order[~wanted] = np.resize(order[wanted], (~wanted).sum())
    return order


def _read(builder, spec, annotation):
    import tensorflow_datasets as tfds

    features = builder.info.features
    read = {key for key in ("image", *_NAMES, *annotation.features) if key in features}
    undecoded = {
        key: tfds.decode.SkipDecoding()
        for key in read
        if isinstance(features[key], tfds.features.Image)
    }
    records = builder.as_dataset(
        split=spec,
        decoders=tfds.decode.PartialDecoding(dict.fromkeys(read, True), undecoded),
        read_config=tfds.ReadConfig(
            try_autocache=False,
            add_tfds_id=True,
            interleave_cycle_length=1,  # in the order of the files
            skip_prefetch=True,
        ),
    )

    def parts(record):
        name = next(record[key] for key in (*_NAMES, "tfds_id") if key in record)
        target = annotation.target(record)
        wanted = tf.constant(True) if annotation.wanted is None else annotation.wanted(target)
        return name, record["image"], target, wanted

    return records.map(parts)
