"""How fast the input pipeline is, beside reading and decoding alone."""

from __future__ import annotations

import os
import statistics
import time

import tensorflow as tf

from keras_parc.data.augment.settings import Augmentation
from keras_parc.data.images import decode
from keras_parc.data.records import training_records, usable
from keras_parc.data.sources import open_source
from keras_parc.tasks.classification.data import dataset

_WARM_UP = 2  # batches that fill the buffers


def input_rate(
    source,
    split: str = "train",
    *,
    batch: int = 128,
    size: int = 256,
    augmentation: Augmentation | None = None,
    batches: int = 20,
    rounds: int = 3,
    data_dir: str | os.PathLike | None = None,
) -> dict[str, float]:
    """Measure the training pipeline in images per second, in turn with parts of it.

    Args:
        source: Name of a TFDS set, folder of images or builder, as for `dataset`.
        split: A split, or a part of one.
        batch: Images of a batch.
        size: Side of the images in pixels.
        augmentation: What the pipeline does to the images; None: the authors' crop and flip.
        batches: Batches in a measurement, at least 1; two more come before it.
        rounds: Measurements of each part, at least 1. The medians are reported.
        data_dir: Folder of prepared TFDS sets.

    Returns:
        Images per second: `read` (records alone), `read_and_decode` (whole images, nothing else)
        and `pipeline` (what training gets), and `pipeline_to_decode`, their ratio.

    Raises:
        FileNotFoundError: The set is not there.
        ValueError: There is no such set or split, or it has too few images for a batch.

    Example:
        >>> input_rate("imagenet2012")["pipeline"]  # doctest: +SKIP
        600.3
    """
    builder = open_source(source, data_dir)
    if usable(builder, split) < batch:
        raise ValueError(
            f"{split!r} has {usable(builder, split)} images, fewer than a batch of {batch}."
        )
    steps = _WARM_UP + batches

    def read(epoch):
        return training_records(builder, split, seed=0, epoch=epoch, count=steps * batch)

    def read_and_decode(epoch):
        def pixels(name, data, label):
            return tf.size(decode(data))

        images = read(epoch).map(pixels, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        return images.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    def pipeline(epoch):
        return dataset(
            builder,
            split,
            batch=batch,
            size=size,
            schedule=[(size, batch)] * steps,
            augmentation=augmentation,
            one_hot=augmentation is not None and augmentation.mixes,
            training=True,
            epoch=epoch,
        )

    parts = {
        "read": lambda epoch: read(epoch).batch(batch).prefetch(tf.data.AUTOTUNE),
        "read_and_decode": read_and_decode,
        "pipeline": pipeline,
    }
    rates = {name: [] for name in parts}
    for epoch in range(rounds):
        for name, part in parts.items():
            rates[name].append(_rate(part(epoch), batch))
    result = {name: statistics.median(each) for name, each in rates.items()}
    return {**result, "pipeline_to_decode": result["pipeline"] / result["read_and_decode"]}


def _rate(batches: tf.data.Dataset, batch: int) -> float:
    iterator = iter(batches)
    for _ in range(_WARM_UP):
        next(iterator)
    start = time.perf_counter()
    count = sum(1 for _ in iterator)
    return count * batch / (time.perf_counter() - start)
