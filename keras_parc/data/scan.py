"""Every image of a set decoded once: which are damaged, of what kind and size, with what labels."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_parc.data.images import KINDS, decode, is_plain_jpeg, kind_of
from keras_parc.data.records import Annotation, evaluation_records
from keras_parc.data.sets.advice import SMALL
from keras_parc.data.sources import is_folder
from keras_parc.support.images import ORIENTATION, read_rgb

_BATCH = 64


def _class(record):
    return {"labels": record["label"][None]}


def _objects(record):
    objects = record["objects"]
    return {"labels": objects["label"], "boxes": objects["bbox"]}


def _mask(record):
    def classes(mask):
        with Image.open(io.BytesIO(mask)) as image:
            return np.unique(np.asarray(image)).astype("int64")

    found = tf.numpy_function(classes, [record["segmentation_mask"]], tf.int64)
    return {"labels": tf.ensure_shape(found, (None,))}


# What is read of the labels, for each task.
LABELS = {
    "classification": Annotation(("label",), _class),
    "detection": Annotation(("objects",), _objects),
    "segmentation": Annotation(("segmentation_mask",), _mask),
}
_NOTHING = Annotation((), lambda record: {})


@dataclasses.dataclass
class Scan:
    """What is in the images of a set.

    Attributes:
        images: How many can be read.
        damaged: Name of each that cannot, with the reason.
        kinds: How many are greyscale, CMYK or of 16 bits.
        turned: How many are turned upright as their EXIF orientation says.
        small: Names of those with a side below `SMALL`.
        sizes: `(n, 2)`: height and width of each, upright.
        labels: For each split how many images, or objects, each class number has.
        per_image: How many objects each image has, in detection.
        boxes: `(n, 2)`: height and width of each object, in shares of the image.
    """

    images: int = 0
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)
    kinds: Counter = dataclasses.field(default_factory=Counter)
    turned: int = 0
    small: list[str] = dataclasses.field(default_factory=list)
    sizes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2), int))
    labels: dict[str, Counter] = dataclasses.field(default_factory=dict)
    per_image: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    boxes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))


def scan(
    builder,
    task: str,
    advance: Callable[[int], None] = lambda images: None,
    pixels: bool = True,
) -> Scan:
    """Decode every image of a set as training does, in parallel, and keep no pixel.

    Args:
        builder: What `keras_parc.data.sources.open_source` returns.
        task: What its labels are read for.
        advance: Called with the number of images done since the last call.
        pixels: False: only labels are read, and the other fields mean nothing.

    Example:
        >>> from keras_parc.data.sources import open_source
        >>> found = scan(open_source("digit_scenes/tiny", check=None), "segmentation")
        >>> found.images == len(found.sizes), found.damaged
        (True, {})
    """
    # The classes in the masks of a folder are known; drawing and decoding them takes time.
    known = is_folder(builder) and task == "segmentation"
    annotation = _NOTHING if known else LABELS[task]
    found, sizes, per_image, boxes = Scan(), [], [], []
    for split, info in builder.info.splits.items():
        counts, names = found.labels.setdefault(split, Counter()), []
        for batch in _facts(builder, split, annotation, pixels):
            names += [name.decode() for name in batch["names"]]
            sizes.append(batch["facts"][:, :2])
            found.kinds.update(KINDS[kind] for kind in batch["facts"][:, 2] if kind)
            found.turned += int(batch["facts"][:, 3].sum())
            tiny = batch["facts"][:, :2].min(1) < SMALL
            found.small += np.array(names[-len(tiny) :])[tiny].tolist()
            if "labels" in batch:
                labels = getattr(batch["labels"], "flat_values", batch["labels"])
                counts.update(labels.numpy().ravel().tolist())
            if "boxes" in batch:
                per_image.append(batch["boxes"].row_lengths().numpy())
                corners = batch["boxes"].flat_values.numpy().reshape(-1, 4)
                boxes.append(corners[:, 2:] - corners[:, :2])
            advance(len(tiny))
        found.images += len(names)
        if len(names) < info.num_examples:
            left = Counter(names)
            for name, read in _images(builder, split):
                if left[name]:
                    left[name] -= 1
                else:
                    found.damaged[name] = _reason(read)
            advance(info.num_examples - len(names))
    found.small.sort()
    for name, parts in (("sizes", sizes), ("per_image", per_image), ("boxes", boxes)):
        if parts:
            setattr(found, name, np.concatenate(parts))
    return found


def _facts(builder, split: str, annotation: Annotation, pixels: bool) -> Iterator[dict]:
    def facts(name, data, target):
        if not pixels:
            return {"names": name, "facts": tf.zeros(4, tf.int32), **target}
        size = tf.shape(decode(data))[:2]
        turned = tf.cond(
            is_plain_jpeg(data),
            lambda: 0,
            lambda: tf.ensure_shape(tf.numpy_function(_turned, [data], tf.int32), ()),
        )
        return {"names": name, "facts": tf.concat([size, [kind_of(data), turned]], 0), **target}

    records = evaluation_records(builder, split, annotation=annotation)
    images = records.map(facts, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
    for batch in images.ignore_errors().ragged_batch(_BATCH).prefetch(2):
        yield batch | {key: batch[key].numpy() for key in ("names", "facts")}


def _turned(data: bytes) -> np.int32:
    """Whether an image is stored otherwise than it is to be seen."""
    if b"Exif\0" not in data[:4096] and b"eXIf" not in data:
        return np.int32(0)
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "PNG":
            image.load()
        return np.int32(image.getexif().get(ORIENTATION, 1) not in (0, 1))


def _images(builder, split: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name of each image, and a function that gives its content or raises OSError."""
    if is_folder(builder):
        for path in builder.paths[split]:
            yield path, Path(path).read_bytes
        return
    for name, data, _ in evaluation_records(builder, split, annotation=_NOTHING):
        yield name.numpy().decode(), data.numpy


def _reason(read: Callable[[], bytes]) -> str:
    try:
        content = read()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not content:
        return "empty"
    try:
        read_rgb(content)
    except ValueError as error:
        return str(error)
    return "its labels cannot be read"
