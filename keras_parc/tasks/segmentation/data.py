"""Images with masks as `tf.data` batches: repeatable, resumable, sharded, as in classification."""

from __future__ import annotations

import os
from collections.abc import Sequence

import tensorflow as tf

from keras_parc.data.augment.masks import decode_pair, flaw, resize_mask, training_pair
from keras_parc.data.augment.settings import MaskAugmentation
from keras_parc.data.batches import epoch_batches, sides_of
from keras_parc.data.images import resize
from keras_parc.data.records import Annotation
from keras_parc.data.skipped import SkippedImages
from keras_parc.data.sources import check_features, open_source

BACKGROUND = "background"
MASK = "segmentation_mask"
_ANNOTATION = Annotation((MASK,), lambda record: record[MASK])


def open_segmentation_source(source, data_dir: str | os.PathLike | None = None):
    """Open a set of images with masks.

    Args:
        source: Name of a TensorFlow Datasets set with the features `image` and
            `segmentation_mask` (`"voc_segmentation/trainaug"`, `"voc_segmentation/coco"`,
            `"digit_scenes/segment"`), a folder of labelled images, see
            `keras_parc.data.sets.recognise.open_folder`, or such a TFDS builder.
        data_dir: Folder of prepared TFDS sets; None: `~/tensorflow_datasets`.

    Returns:
        A TFDS builder that can be read.

    Raises:
        FileNotFoundError: The set is not there; the message says how to get it.
        ValueError: There is no such set, or it has no masks.
    """
    return open_source(source, data_dir, _names, "segmentation")


def class_names(source, data_dir: str | os.PathLike | None = None) -> list[str]:
    """The names of the classes, in the order of the numbers in the masks; the background is 0.

    Args:
        source: As for `dataset`.
        data_dir: Folder of prepared TFDS sets.

    Raises:
        FileNotFoundError: The set is not there.
        ValueError: There is no such set.

    Example:
        >>> class_names("digit_scenes/tiny")[:3]
        ['background', '0', '1']
    """
    return _names(open_segmentation_source(source, data_dir))


def dataset(
    source,
    split: str,
    *,
    batch: int,
    size: int | tuple[int, int],
    training: bool,
    schedule: Sequence[tuple[int | tuple[int, int], int]] | None = None,
    augmentation: MaskAugmentation | None = None,
    seed: int = 0,
    epoch: int = 0,
    start_step: int = 0,
    shard: tuple[int, int] = (0, 1),
    skipped: SkippedImages | None = None,
    skip_unusual: bool = False,
    data_dir: str | os.PathLike | None = None,
) -> tf.data.Dataset:
    """One epoch of a segmentation set as batches, to train on or to compute the loss of.

    In training, order and augmentation are a function of `seed`, `epoch` and the position in the
    epoch alone. An image that cannot be decoded, or whose mask does not fit it, has a label out of
    range or no pixel with a class, is skipped: all as in
    `keras_parc.tasks.classification.data.dataset`.

    Args:
        source: Name of a TensorFlow Datasets set with masks, or a TFDS builder; see
            `open_segmentation_source`. Nothing is downloaded.
        split: `"train"`, or a part as `"train[:1000]"`.
        batch: Images of a step in this shard, at least 1.
        size: Side, or height and width, of the images in pixels.
        training: True: random order, augmentation, whole batches only. False: every image once,
            stretched to the size as the authors evaluate, in the order of the set.
        schedule: Only in training: `(size, batch)` of every step of the epoch, in place of `size`
            and `batch`.
        augmentation: Only in training; None: the authors' resize, crop and flip.
        seed: At least 0.
        epoch: At least 0.
        start_step: Steps of the epoch to leave out at its beginning.
        shard: Number of this shard and number of shards (hosts or replicas): 1, 2, 4, 8 or 16 for
            256 images or more.
        skipped: What was skipped is counted here, and the limit is in it: by default 100 images in
            training, none otherwise.
        skip_unusual: Skip greyscale, CMYK and 16-bit images too.
        data_dir: Folder of prepared TFDS sets; None: `~/tensorflow_datasets`.

    Returns:
        A data set of images float32 `(b, height, width, 3)`, RGB 0..255, and masks uint8
        `(b, height, width)`: class numbers, 255 where none counts.

    Raises:
        FileNotFoundError: The set is not there; the message says how to get it.
        ValueError: There is no such set or split, it has no masks, an argument is out of range, or
            the first images are all damaged.

    Example:
        >>> images, masks = next(
        ...     iter(dataset("digit_scenes/tiny", "train", batch=4, size=64, training=True))
        ... )
        >>> images.shape, masks.shape
        (TensorShape([4, 64, 64, 3]), TensorShape([4, 64, 64]))
    """
    builder = open_segmentation_source(source, data_dir)
    classes = len(_names(builder))
    shared = {"batch": batch, "size": size, "shard": shard, "skipped": skipped}
    shared |= {"skip_unusual": skip_unusual, "annotation": _ANNOTATION}
    shared |= {"reason": lambda data, mask: flaw(data, mask, classes)}
    if training:
        augmentation = augmentation or MaskAugmentation()

        def example(data, mask, size, seed):
            return training_pair(*decode_pair(data, mask, classes), size, seed, augmentation)
    else:
        sides = sides_of(size)

        def example(data, mask):
            image, labels = decode_pair(data, mask, classes)
            return resize(image, sides), tf.ensure_shape(resize_mask(labels, sides)[..., 0], sides)

    return epoch_batches(
        builder,
        split,
        example,
        training=training,
        schedule=schedule,
        seed=seed,
        epoch=epoch,
        start_step=start_step,
        **shared,
    )


def evaluation_dataset(
    source,
    split: str,
    *,
    batch: int,
    size: int | tuple[int, int],
    skipped: SkippedImages | None = None,
    data_dir: str | os.PathLike | None = None,
) -> tf.data.Dataset:
    """A split as batches, the masks at the size the images had, to measure mIoU.

    Args:
        source: As for `dataset`.
        split: A split, or a part as `"validation[:100]"`.
        batch: Images of a batch, at least 1; the last may have fewer.
        size: Side, or height and width, to which the images are stretched, in pixels.
        skipped: What was skipped is counted here; by default the first one is an error.
        data_dir: Folder of prepared TFDS sets.

    Returns:
        A data set of images float32 `(b, height, width, 3)`, RGB 0..255, and masks, strings
        `(b,)`: each the content of a PNG file of class numbers.

    Raises:
        FileNotFoundError: The set is not there.
        ValueError: There is no such set or split, it has no masks, or an argument is out of range.
    """
    builder = open_segmentation_source(source, data_dir)
    classes, sides = len(_names(builder)), sides_of(size)

    def example(data, mask):
        image, labels = decode_pair(data, mask, classes)
        return resize(image, sides), tf.io.encode_png(labels)

    return epoch_batches(
        builder,
        split,
        example,
        training=False,
        batch=batch,
        size=sides,
        skipped=skipped,
        annotation=_ANNOTATION,
        reason=lambda data, mask: flaw(data, mask, classes),
    )


def _names(builder) -> list[str]:
    """Names of the classes in the masks; for a set without, the background and its own labels."""
    import tensorflow_datasets as tfds

    kind = "a set of images with masks"
    check_features(builder, kind, {"image": tfds.features.Image, MASK: tfds.features.Image})
    features = builder.info.features
    named = isinstance(features[MASK], tfds.features.LabeledImage)
    names = features[MASK if named else "label"].names if named or "label" in features else None
    if not names:
        raise ValueError(
            f"{builder.name!r} does not say what the classes in its masks are: expected a "
            f"LabeledImage {MASK!r}, or a ClassLabel 'label' of the classes 1, 2 ... of the masks."
        )
    return list(names) if named else [BACKGROUND, *names]
