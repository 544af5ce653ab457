"""Images with a class each as `tf.data` batches: repeatable, resumable, sharded, multi-scale."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_parc.data.augment.images import batch_augmentation
from keras_parc.data.augment.settings import Augmentation
from keras_parc.data.batches import epoch_batches, sides_of
from keras_parc.data.images import evaluation_image, training_image
from keras_parc.data.records import labels_of
from keras_parc.data.skipped import SkippedImages
from keras_parc.data.sources import open_source


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
    balanced: bool = False,
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
        balanced: Only in training, with `one_hot`: add a weight for each image, the larger the
            rarer its class; their mean over the split is 1.
        seed: At least 0.
        epoch: At least 0.
        start_step: Steps of the epoch to leave out at its beginning.
        shard: Number of this shard and number of shards (hosts or replicas). A TFDS set of 256
            images or more can be read in 1, 2, 4, 8 or 16.
        short_side: Only in evaluation: shorter side in pixels before the centre is cut out; None:
            288/256 of the longer of `size`, as the authors do at 256. An image of just that size
            is taken as it is.
        skipped: What was skipped is counted here, and the limit is in it: by default 100 images in
            training, none in evaluation, where each counts.
        skip_unusual: Skip greyscale, CMYK and 16-bit images too, rather than convert them to 8-bit
            RGB as the authors do.
        data_dir: Folder of prepared TFDS sets; None: `~/tensorflow_datasets`.

    Returns:
        A data set of images float32 `(b, height, width, 3)`, RGB 0..255, and labels; with
        `balanced` of weights float32 `(b,)` too.

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
        >>> class_names(folder)
        ['cat', 'dog']
    """
    builder = open_source(source, data_dir)
    classes = builder.info.features["label"].num_classes
    augmentation = augmentation or Augmentation()
    if augmentation.mixes and not one_hot:
        raise ValueError("MixUp and CutMix mix labels, which needs `one_hot=True`.")
    if balanced and not one_hot:
        raise ValueError("`balanced` needs `one_hot=True`.")
    shared = {"batch": batch, "size": size, "shard": shard}
    shared |= {"skipped": skipped, "skip_unusual": skip_unusual}
    if training:

        def example(data, label, size, seed):
            window = augmentation.scale, augmentation.ratio, augmentation.flip
            return training_image(data, size, seed, *window), label

        augment = batch_augmentation(augmentation, seed)
    else:
        augment, sides = None, sides_of(size)
        if short_side is not None and short_side < max(sides):
            raise ValueError(f"`short_side` must be at least {max(sides)}, got {short_side}.")

        def example(data, label):
            return evaluation_image(data, sides, short_side), label

    weights = class_weights(builder, split, classes) if training and balanced else None

    def finish(images, labels):
        labels = tf.one_hot(labels, classes) if one_hot else labels
        if augment:
            images, labels = augment(images, labels)
        if weights is None:
            return images, labels
        return images, labels, tf.linalg.matvec(labels, weights)

    return epoch_batches(
        builder,
        split,
        example,
        training=training,
        schedule=schedule,
        seed=seed,
        epoch=epoch,
        start_step=start_step,
        finish=finish,
        **shared,
    )


def class_weights(builder, split: str, classes: int) -> np.ndarray:
    """How much an image of each class counts, so that all classes of a split weigh alike.

    Args:
        builder: What `open_source` returns.
        split: A split, or a part of it.
        classes: Number of classes.

    Returns:
        float32 `(classes,)`, of which the mean over the images is 1; 0 for a class without images.

    Example:
        >>> from keras_parc.data.sources import open_source
        >>> class_weights(open_source("photos/"), "train", classes=2)  # doctest: +SKIP
    """
    labels = np.concatenate(list(labels_of(builder, split).batch(1024).as_numpy_iterator()))
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    weights = counts.sum() / (max(1, (counts > 0).sum()) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype("float32")
