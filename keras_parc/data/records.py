"""The order of a data set's records: undecoded, repeatable, and resumable at any of them."""

import numpy as np
import tensorflow as tf

from keras_parc.data.sources import bounds, is_folder

# A TFDS set is read as LANES equal parts side by side, each from a random place around it and
# shuffled in blocks of BLOCK records. So a batch mixes LANES places of the set, any record is found
# by arithmetic, and hosts read different parts.
LANES = 16
BLOCK = 128


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
) -> tf.data.Dataset:
    """Records of one epoch in random order.

    The order is a function of seed, epoch and the set; shard i of n gets the records number i,
    i + n, i + 2n ... of it. Starting late reads at most a block of each lane in vain and decodes
    nothing. When more records are asked for than the epoch has, its order begins anew.

    Args:
        builder: What `open_source` returns.
        split: A split, or one part of it.
        seed: At least 0.
        epoch: At least 0.
        shard: Number of this shard and number of shards.
        start: Records of this shard to leave out at the beginning.
        count: Records wanted after that.

    Returns:
        A data set of name (string), content of the image file (string) and label (int64).

    Raises:
        ValueError: The shard does not exist, or a TFDS set cannot be cut into so many.
    """
    index, shards = shard
    if not 0 <= index < shards:
        raise ValueError(f"`shard` must be (index, count) with 0 <= index < count, got {shard}.")
    name, first, end = bounds(builder, split)
    rng = np.random.default_rng([seed, epoch])
    if is_folder(builder):
        order = first + rng.permutation(end - first)
        numbers = (index + shards * np.arange(start, start + count)) % len(order)
        return _files(builder, name, order[numbers])
    lanes = _lanes(end - first)
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


def _lane(builder, split, edges, rotation, *, length, key, start, count):
    """`count` records of a lane from number `start` on, around again where the lane ends."""
    first, size = int(edges[0]), int(edges[1] - edges[0])

    def blocks(begin):
        """Records number `begin`, the first of a block, to `length`, in shuffled blocks."""
        low, high = rotation + begin, rotation + length
        pieces = [(low, min(high, size)), (max(low, size) - size, high - size)]
        spec = "+".join(f"{split}[{first + a}:{first + b}]" for a, b in pieces if a < b)
        records = _read(builder, spec).take(length - begin).batch(BLOCK)
        return records.enumerate(begin // BLOCK).map(_shuffled).prefetch(1).unbatch()

    def _shuffled(number, block):
        salt = tf.stack([tf.constant(key[0], tf.int64), number * LANES + key[1]])
        order = tf.argsort(tf.random.stateless_uniform([tf.shape(block[2])[0]], salt), stable=True)
        return tuple(tf.gather(each, order) for each in block)

    start %= length
    begin = start // BLOCK * BLOCK
    records = blocks(begin).skip(start - begin)
    if start + count > length:
        records = records.concatenate(blocks(0).repeat())
    return records


def evaluation_records(builder, split: str, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
    """All records in the order of the set; shard i of n gets the i-th of n consecutive parts.

    Args:
        builder: What `open_source` returns.
        split: A split, or one part of it.
        shard: Number of this shard and number of shards.

    Returns:
        A data set of name (string), content of the image file (string) and label (int64).
    """
    index, shards = shard
    name, first, end = bounds(builder, split)
    low, high = (first + (end - first) * number // shards for number in (index, index + 1))
    if is_folder(builder):
        return _files(builder, name, np.arange(low, high))
    return _read(builder, f"{name}[{low}:{high}]").take(high - low)


def _files(builder, split, numbers):
    # The builder's own data set decodes, so that a damaged file would end it.
    examples = [builder._split_examples[split][number] for number in numbers]
    number_of = {name: i for i, name in enumerate(builder.info.features["label"].names)}
    paths = [example.image_path for example in examples]
    labels = np.array([number_of[example.label] for example in examples], "int64")
    files = tf.data.Dataset.from_tensor_slices((paths, labels))
    return files.map(
        lambda path, label: (path, tf.io.read_file(path), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _read(builder, spec):
    import tensorflow_datasets as tfds

    features = builder.info.features
    wanted = {key: True for key in ("image", "label", "file_name") if key in features}
    records = builder.as_dataset(
        split=spec,
        decoders=tfds.decode.PartialDecoding(wanted, {"image": tfds.decode.SkipDecoding()}),
        read_config=tfds.ReadConfig(
            try_autocache=False,
            add_tfds_id=True,
            interleave_cycle_length=1,  # in the order of the files
            skip_prefetch=True,
        ),
    )
    return records.map(
        lambda record: (
            record.get("file_name", record["tfds_id"]),
            record["image"],
            record["label"],
        )
    )
