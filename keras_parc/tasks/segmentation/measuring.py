"""Measuring a segmenter: the same function for a Keras model and for a `.tflite` file."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence

import keras
import numpy as np
from PIL import Image
from rich.console import Console

from keras_parc.lite.file.runtime import TFLiteModel
from keras_parc.models.deeplab_v3 import low_resolution
from keras_parc.models.inputs import input_scale, input_size
from keras_parc.support.class_maps import IGNORED
from keras_parc.support.progress import evaluation_progress
from keras_parc.tasks.labels import class_order, recorded_labels
from keras_parc.tasks.model_files import opened
from keras_parc.tasks.outputs import class_scores

PROTOCOLS = ("authors", "native")


def confusion_matrix(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Count the pixels of every pair of classes.

    Args:
        truth: Class numbers of any shape; `IGNORED` (255) does not count.
        found: Class numbers of the same shape, 0 to `classes - 1`.
        classes: Number of classes.

    Returns:
        `(classes, classes)` int64: row, what is there; column, what was found.

    Raises:
        ValueError: Another shape, or a number out of range.

    Example:
        >>> confusion_matrix(np.array([0, 1, 1, 255]), np.array([0, 1, 0, 0]), 2).tolist()
        [[1, 0], [1, 1]]
    """
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape:
        raise ValueError(f"A mask of {truth.shape} was expected, found {found.shape}.")
    counted = truth != IGNORED
    truth, found = truth[counted].astype("int64"), found[counted].astype("int64")
    for values in (truth, found):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"Class numbers must be 0 to {classes - 1}, got {values.min()} to {values.max()}."
            )
    return np.bincount(classes * truth + found, minlength=classes**2).reshape(classes, classes)


def intersections_over_unions(confusion: np.ndarray) -> np.ndarray:
    """IoU of every class, NaN for a class that is neither there nor found.

    Args:
        confusion: What `confusion_matrix` counted, the sum over all images.

    Returns:
        `(classes,)` float64, 0 to 1. Their mean without NaN is the mean IoU.

    Example:
        >>> intersections_over_unions(np.array([[1, 0], [1, 1]])).tolist()
        [0.5, 0.5]
    """
    both = np.diag(confusion).astype("float64")
    either = confusion.sum(0) + confusion.sum(1) - both
    return np.divide(both, either, out=np.full_like(both, np.nan), where=either > 0)


def class_map(
    logits: np.ndarray, size: tuple[int, int], through: tuple[int, int] | None = None
) -> np.ndarray:
    """The class at every pixel of an image, of logits at a lower resolution.

    Args:
        logits: `(height, width, classes)`.
        size: Height and width of the image in pixels.
        through: Another size to which the logits are brought first, bilinear; from there it goes
            on by nearest neighbour, as the authors evaluate. None: bilinear to the size of the
            image, as clients do (MediaPipe after the softmax).

    Returns:
        Class numbers `size`, int64.

    Example:
        >>> class_map(np.array([[[1.0, 0.0], [0.0, 1.0]]]), (2, 4)).tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    height, width = through or size
    larger = keras.ops.image.resize(
        np.asarray(logits, "float32"), (height, width), data_format="channels_last"
    )
    classes = keras.ops.convert_to_numpy(larger).argmax(-1)
    if through is None:
        return classes
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, through, strict=True))
    return classes[np.ix_(rows, columns)]


def evaluate_segmenter(
    model: keras.Model | TFLiteModel | str | os.PathLike,
    source,
    split: str = "validation",
    *,
    size: int = 512,
    batch_size: int = 8,
    labels: Sequence[str] | None = None,
    data_dir: str | os.PathLike | None = None,
    input_range: str | None = None,
    console: Console | None = None,
    protocol: str = "authors",
) -> dict:
    """Measure the mean intersection over union of a Keras segmenter or a `.tflite` file.

    Images are stretched to the model's size; class maps and masks are compared at the size the
    image has in the data set, and pixels are counted over the whole set.

    Args:
        model: A Keras segmenter, a `TFLiteModel`, or the path of a file of either.
        source: Name of a TensorFlow Datasets set with masks, or a TFDS builder; see
            `keras_parc.tasks.segmentation.data.open_segmentation_source`.
        split: A split, or a part as `"validation[:100]"`.
        size: Side of the images in pixels, where the model leaves it open.
        batch_size: Images at a time.
        labels: As for `keras_parc.evaluate_classifier`.
        data_dir: Folder of prepared TFDS sets; None: `~/tensorflow_datasets`.
        input_range: What the model takes, a name of `keras_parc.models.inputs.INPUT_RANGES`; None:
            what it says itself.
        console: Where to draw the progress bar; None: standard error.
        protocol: "authors": logits at the model's size, then the nearest for every pixel of the
            image. "native": logits at low resolution bilinear to the size of the image, what a
            user of the file sees.

    Returns:
        `miou` and `pixel_accuracy` (shares, 0 to 1), `iou` (by name of the class; None for a class
        that does not occur), `images`, `skipped` (what cannot be used, only if there is any; it is
        logged), `classes`, `seconds`, `images_per_second`.

    Raises:
        FileNotFoundError: The set is not there; the message says how to get it.
        ValueError: Model and set have different classes, in number or by name, the model is not a
            segmenter, there is no such set, split or protocol, or more than 100 images or masks
            cannot be used.

    Example:
        >>> image = keras.Input((64, 64, 3))
        >>> rate = keras.layers.Rescaling(1 / 255)(image)
        >>> model = keras.Model(image, keras.layers.Conv2D(11, 1)(rate))
        >>> result = evaluate_segmenter(model, "digit_scenes/tiny", "test[:4]")
        >>> result["images"], 0 <= result["miou"] <= 1
        (4, True)
    """
    import tensorflow as tf

    from keras_parc.data.skipped import SkippedImages
    from keras_parc.data.sources import num_examples
    from keras_parc.tasks.segmentation.data import (
        class_names,
        evaluation_dataset,
        open_segmentation_source,
    )

    if protocol not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {PROTOCOLS}, got {protocol!r}.")
    source = open_segmentation_source(source, data_dir)
    given, names = model, class_names(source)
    model = low_resolution(opened(model))  # once: each is a new one to compile
    sides = input_size(model, size)
    shape = segmentation_logits(model, np.zeros((1, *sides, 3), "float32")).shape
    if shape[-1] != len(names):
        raise ValueError(
            f"The model has {shape[-1]} classes, but {source.name!r} has {len(names)}: expected a "
            "segmenter trained on this data set."
        )
    order = class_order(labels or recorded_labels(given, len(names)), names, source.name)
    scale = input_scale(model, input_range)
    skipped = SkippedImages()
    batches = evaluation_dataset(source, split, batch=batch_size, size=sides, skipped=skipped)
    total, images = np.zeros((len(names),) * 2, "int64"), 0
    start = time.perf_counter()
    with evaluation_progress(console) as progress:
        count = num_examples(source, split)
        task = progress.add_task("evaluating", total=count, rate="")
        try:
            for pixels, masks in batches.as_numpy_iterator():
                found = segmentation_logits(model, scale.of(pixels), batch_size)
                for logits, mask in zip(found, masks, strict=True):
                    truth = np.asarray(Image.open(io.BytesIO(mask)))
                    through = sides if protocol == "authors" else None
                    seen = order[class_map(logits, truth.shape, through)]
                    total += confusion_matrix(truth, seen, len(names))
                images += len(pixels)
                rate = images / (time.perf_counter() - start)
                progress.update(task, completed=images, rate=f"{rate:.1f} images/s")
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(skipped.failure or str(error)) from error
    each, seconds = intersections_over_unions(total), time.perf_counter() - start
    return {
        "miou": float(np.nanmean(each)),
        "pixel_accuracy": float(np.trace(total) / total.sum()),
        "iou": {
            name: None if np.isnan(iou) else float(iou)
            for name, iou in zip(names, each, strict=True)
        },
        "images": images,
        **skipped.figures(),
        "classes": len(names),
        "seconds": seconds,
        "images_per_second": images / seconds,
    }


def segmentation_logits(
    model: keras.Model | TFLiteModel, images: np.ndarray, batch_size: int = 8
) -> np.ndarray:
    """Run images through a segmenter.

    Args:
        model: A Keras segmenter, of which the logits at low resolution are taken, or a
            `TFLiteModel`.
        images: `(n, height, width, 3)`, as the model takes them.
        batch_size: Images at a time, for a Keras model.

    Returns:
        `(n, rows, columns, classes)` float32.

    Raises:
        ValueError: There are no images, or the model is not a segmenter.
    """
    model = low_resolution(model) if isinstance(model, keras.Model) else model
    logits = class_scores(model, images, batch_size)
    if logits.ndim != 4:
        raise ValueError(f"The model is not a segmenter: its output is {logits.shape}.")
    return logits
