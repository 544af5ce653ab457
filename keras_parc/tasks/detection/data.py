"""Images with boxes as `tf.data` batches: repeatable, resumable, sharded, as in classification."""

from __future__ import annotations

import os
from collections.abc import Sequence

import tensorflow as tf

from keras_parc.data.augment.boxes import training_example
from keras_parc.data.augment.settings import BoxAugmentation
from keras_parc.data.batches import epoch_batches, sides_of
from keras_parc.data.images import decode, resize
from keras_parc.data.records import Annotation
from keras_parc.data.sets.coco import CATEGORIES
from keras_parc.data.skipped import SkippedImages
from keras_parc.data.sources import check_features, is_folder, open_source

_LABELS = ("label", "type")  # what TFDS sets call the class of an object
# Boxes around many objects at once: nothing to learn from, and not counted in evaluation.
_CROWDS = ("is_crowd", "is_group_of")
_NOT_COUNTED = (
    *_CROWDS,
    "is_difficult",
)  # VOC trains on difficult objects, but does not count them


def open_detection_source(source, data_dir: str | os.PathLike | None = None):
    """Open an object-detection data set.

    Args:
        source: Name of a TensorFlow Datasets set with boxes (`"coco/2017"`, `"voc/2007"`,
            `"digit_scenes/detect"`), a folder of labelled images, see
            `keras_parc.data.sets.recognise.open_folder`, or a TFDS builder.
        data_dir: Folder of prepared TFDS sets; None: `~/tensorflow_datasets`.

    Returns:
        A TFDS builder that can be read.

    Raises:
        FileNotFoundError: The set is not there; the message says how to get it.
        ValueError: There is no such set, or it has no boxes.
    """
    return open_source(source, data_dir, _objects, "detection")


def class_names(source, data_dir: str | os.PathLike | None = None) -> list[str]:
    """The names of the classes, in the order of the labels.

    Args:
        source: As for `dataset`.
        data_dir: Folder of prepared TFDS sets.

    Raises:
        FileNotFoundError: The set is not there.
        ValueError: There is no such set.

    Example:
        >>> class_names("digit_scenes/tiny")[:3]
        ['0', '1', '2']
    """
    builder = open_detection_source(source, data_dir)
    return list(CATEGORIES.values()) if _is_coco(builder) else list(_classes(builder).names)


def category_ids(source, data_dir: str | os.PathLike | None = None) -> list[int]:
    """The numbers that files in COCO's format give the classes, in the order of the labels.

    Args:
        source: As for `dataset`.
        data_dir: Folder of prepared TFDS sets.

    Returns:
        COCO's own ids, 1 to 90 with gaps, for COCO, and a folder's own for one in COCO's format;
        1, 2, 3 ... for any other set.

    Raises:
        FileNotFoundError: The set is not there.
        ValueError: There is no such set.
    """
    builder = open_detection_source(source, data_dir)
    if _is_coco(builder):
        return list(CATEGORIES)
    if is_folder(builder) and builder.category_ids is not None:
        return list(builder.category_ids)
    return list(range(1, _classes(builder).num_classes + 1))


def dataset(
    source,
    split: str,
    *,
    batch: int,
    size: int | tuple[int, int],
    training: bool,
    max_boxes: int = 100,
    schedule: Sequence[tuple[int | tuple[int, int], int]] | None = None,
    augmentation: BoxAugmentation | None = None,
    seed: int = 0,
    epoch: int = 0,
    start_step: int = 0,
    shard: tuple[int, int] = (0, 1),
    skipped: SkippedImages | None = None,
    skip_unusual: bool = False,
    data_dir: str | os.PathLike | None = None,
) -> tf.data.Dataset:
    """One epoch of an object-detection set as batches, to train on or to compute the loss of.

    In training, order and augmentation are a function of `seed`, `epoch` and the position in the
    epoch alone, and images that cannot be decoded are skipped: all as in
    `keras_parc.tasks.classification.data.dataset`. Images without objects are left out in training,
    as the authors do: another image of the same set takes the place of each. They are kept
    otherwise.

    Crowds and boxes without area are left out.

    Args:
        source: Name of a TensorFlow Datasets set with boxes (`"coco/2017"`, `"voc/2007"`,
            `"digit_scenes/detect"`), a folder of labelled images or a TFDS builder. Nothing is
            downloaded.
        split: `"train"`, or a part as `"train[:1000]"`.
        batch: Images of a step in this shard, at least 1.
        size: Side, or height and width, to which images are stretched, in pixels.
        training: True: random order, augmentation, whole batches only. False: every image once,
            resized, in the order of the set.
        max_boxes: Boxes of an image; further ones are left out. COCO has at most 93.
        schedule: Only in training: `(size, batch)` of every step of the epoch, in place of `size`
            and `batch`.
        augmentation: Only in training; None: the authors' crop, distortion and flip.
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
        A data set of images float32 `(b, height, width, 3)`, RGB 0..255, and a dictionary of
        `boxes` float32 `(b, max_boxes, 4)`: ymin, xmin, ymax, xmax, 0..1, 0 where there is none;
        and `labels` int32 `(b, max_boxes)`: from 0 (no background), -1 where there is no box.

    Raises:
        FileNotFoundError: The set is not there; the message says how to get it.
        ValueError: There is no such set or split, it has no boxes, an argument is out of range, or
            the first images are all damaged.

    Example:
        >>> batches = dataset(
        ...     "digit_scenes/tiny", "train", batch=4, size=96, max_boxes=8, training=True
        ... )
        >>> images, targets = next(iter(batches))
        >>> images.shape, targets["boxes"].shape, targets["labels"].shape
        (TensorShape([4, 96, 96, 3]), TensorShape([4, 8, 4]), TensorShape([4, 8]))
    """
    builder = open_detection_source(source, data_dir)
    if max_boxes < 1:
        raise ValueError(f"`max_boxes` must be at least 1, got {max_boxes}.")
    shared = {"batch": batch, "size": size, "shard": shard}
    shared |= {"skipped": skipped, "skip_unusual": skip_unusual}
    if training:

        def example(data, target, size, seed):
            real = target["labels"] >= 0
            boxes, labels = (tf.boolean_mask(target[key], real) for key in ("boxes", "labels"))
            image, boxes, labels = training_example(data, boxes, labels, size, seed, augmentation)
            return image, _padded(boxes, labels, max_boxes)

        annotation = _to_learn(builder, max_boxes, lambda target: target["labels"][0] >= 0)
    else:
        sides, annotation = sides_of(size), _to_learn(builder, max_boxes)

        def example(data, target):
            return resize(decode(data), sides), target

    return epoch_batches(
        builder,
        split,
        example,
        training=training,
        schedule=schedule,
        seed=seed,
        epoch=epoch,
        start_step=start_step,
        annotation=annotation,
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
    """A split as batches with all that COCO's evaluation wants to know, nothing left out.

    Args:
        source: As for `dataset`.
        split: A split, or a part as `"validation[:1000]"`.
        batch: Images of a batch, at least 1; the last may have fewer.
        size: Side, or height and width, to which images are stretched, in pixels.
        skipped: What was skipped is counted here; by default the first one is an error.
        data_dir: Folder of prepared TFDS sets.

    Returns:
        A data set of images float32 `(b, height, width, 3)`, RGB 0..255, and a dictionary: `size`
        int32 `(b, 2)`, the image's own height and width in pixels; `id` int64 `(b,)`, COCO's
        number of the image, -1 in other sets; and with one entry for each object (ragged):
        `boxes` float32, `labels` int32, `crowd` bool (not to be counted: crowds, and VOC's
        difficult objects) and `area` float32, COCO's of the object in pixels, -1 in other sets.

    Raises:
        FileNotFoundError: The set is not there.
        ValueError: There is no such set or split, it has no boxes, or an argument is out of range.
    """
    builder = open_detection_source(source, data_dir)
    key, label = _objects(builder)
    sides = sides_of(size)

    def target(record):
        objects = record[key]
        labels = tf.cast(objects[label], tf.int32)
        area = tf.cast(objects["area"], tf.float32) if "area" in objects else -tf.ones_like(labels)
        return {
            "id": record.get("image/id", tf.constant(-1, tf.int64)),
            "boxes": objects["bbox"],
            "labels": labels,
            "crowd": _any_of(objects, label, _NOT_COUNTED),
            "area": tf.cast(area, tf.float32),
        }

    def example(data, target):
        image = decode(data)
        return resize(image, sides), {**target, "size": tf.shape(image)[:2]}

    return epoch_batches(
        builder,
        split,
        example,
        training=False,
        batch=batch,
        size=sides,
        skipped=skipped,
        annotation=Annotation((key, "image/id"), target),
    )


def _objects(builder) -> tuple[str, str]:
    """Names of the feature of objects, a sequence with `bbox`, and of their classes in it."""
    import tensorflow_datasets as tfds

    kind = "a set of images with boxes"
    check_features(builder, kind, {"image": tfds.features.Image})
    for key, feature in builder.info.features.items():
        parts = getattr(feature, "feature", None)
        if not isinstance(parts, tfds.features.FeaturesDict):
            continue
        parts = dict(parts.items())
        box = parts.get("bbox")
        names = [each for each in _LABELS if isinstance(parts.get(each), tfds.features.ClassLabel)]
        if isinstance(box, tfds.features.BBoxFeature) and names:
            if box.bbox_format not in (None, tfds.features.BBoxFeature().bbox_format):
                raise ValueError(
                    f"The boxes of {builder.name!r} are {box.bbox_format}; expected relative ymin, "
                    "xmin, ymax, xmax."
                )
            if parts[names[0]].num_classes is None:
                raise ValueError(f"{builder.name!r} does not say how many classes it has.")
            return key, names[0]
    raise ValueError(
        f"{builder.name!r} is not {kind}: none of its features {sorted(builder.info.features)} is "
        f"a sequence of objects with a BBoxFeature 'bbox' and a ClassLabel 'label' or 'type'."
    )


def _classes(builder):
    key, label = _objects(builder)
    return builder.info.features[key].feature[label]


def _is_coco(builder) -> bool:
    named = builder.name == "coco" and not is_folder(builder)
    return named and _classes(builder).num_classes == len(CATEGORIES)


def _any_of(objects, label, flags):
    found = [tf.cast(objects[flag], tf.bool) for flag in flags if flag in objects]
    return tf.reduce_any(tf.stack([tf.zeros_like(objects[label], tf.bool), *found]), axis=0)


def _to_learn(builder, max_boxes, wanted=None) -> Annotation:
    """Boxes and labels of single objects with an area, padded."""
    key, label = _objects(builder)

    def target(record):
        objects = record[key]
        boxes = tf.clip_by_value(objects["bbox"], 0.0, 1.0)
        labels = tf.cast(objects[label], tf.int32)
        kept = tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1)  # false with NaN
        kept &= (labels >= 0) & ~_any_of(objects, label, _CROWDS)
        return _padded(tf.boolean_mask(boxes, kept), tf.boolean_mask(labels, kept), max_boxes)

    return Annotation((key,), target, wanted)


def _padded(boxes, labels, length):
    boxes, labels = boxes[:length], labels[:length]
    missing = length - tf.size(labels)
    return {
        "boxes": tf.ensure_shape(tf.pad(boxes, [[0, missing], [0, 0]]), (length, 4)),
        "labels": tf.ensure_shape(tf.pad(labels, [[0, missing]], constant_values=-1), (length,)),
    }
