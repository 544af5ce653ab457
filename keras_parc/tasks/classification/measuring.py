"""Measuring a classifier: the same function for a Keras model and for a `.tflite` file."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import keras
import numpy as np
from rich.console import Console

from keras_parc.lite.file.runtime import TFLiteModel
from keras_parc.models.inputs import input_scale, input_size, short_side_of
from keras_parc.support.progress import evaluation_progress
from keras_parc.tasks.labels import class_order, recorded_labels
from keras_parc.tasks.model_files import opened
from keras_parc.tasks.outputs import class_scores


def in_top_k(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> np.ndarray:
    """Whether each image's label is among the `k` highest scores; NaN never is.

    Args:
        scores: `(n, classes)`.
        labels: `(n,)` class numbers.
        k: How many guesses count, 1 to the number of classes.

    Returns:
        bool `(n,)`.

    Raises:
        ValueError: `k` is out of range, or there are not as many labels as rows of scores.

    Example:
        >>> in_top_k(np.array([[0.1, 0.7, 0.2], [0.6, 0.1, 0.3]]), np.array([2, 0])).tolist()
        [False, True]
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape[:1] != labels.shape:
        raise ValueError(
            f"Expected one label per row of scores, got {labels.shape} for {scores.shape}."
        )
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"`k` must be 1 to {scores.shape[1]}, got {k}.")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ((best == labels[:, None]) & ~np.isnan(np.take_along_axis(scores, best, 1))).any(axis=1)


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """The share of images that `in_top_k` counts, 0 to 1.

    Example:
        >>> top_k_accuracy(np.array([[0.1, 0.7, 0.2], [0.6, 0.1, 0.3]]), np.array([2, 0]), k=1)
        0.5
    """
    return float(in_top_k(scores, labels, k).mean())


def evaluate_classifier(
    model: keras.Model | TFLiteModel | str | os.PathLike,
    source,
    split: str = "validation",
    *,
    size: int = 256,
    short_side: int | None = None,
    batch_size: int = 64,
    labels: Sequence[str] | None = None,
    data_dir: str | os.PathLike | None = None,
    input_range: str | None = None,
    console: Console | None = None,
) -> dict[str, float | int]:
    """Measure a Keras classifier or a `.tflite` file on a data set, with the authors' crop rule.

    Args:
        model: A Keras classifier, a `TFLiteModel`, or the path of a file of either.
        source: Name of a TensorFlow Datasets set (`"imagenet2012"`), a folder
            `split/class/image`, or a TFDS builder.
        split: A split, or a part as `"validation[:1000]"`.
        size: Side of the images in pixels, where the model leaves it open.
        short_side: Shorter side in pixels before the centre is cut out; None: as the model records
            it, else 288/256 of its own. As large as its own: all of a square picture is seen.
        batch_size: Images at a time.
        labels: The names of the model's classes in its order; None: those in its file, or beside it
            in `labels.txt`. Classes of the same names in another order are matched by name.
        data_dir: Folder of prepared TFDS sets; None: `~/tensorflow_datasets`.
        input_range: What the model takes, a name of `keras_parc.models.inputs.INPUT_RANGES`; None:
            what it says itself.
        console: Where to draw the progress bar; None: standard error.

    Returns:
        `top1` and `top5` (shares, 0 to 1; top 5 only with more than five classes), `images`,
        `skipped` (damaged files, only if there are any; they are logged), `classes`, `seconds`,
        `images_per_second` (all of it) and `model_images_per_second` (the model alone).

    Raises:
        FileNotFoundError: The set is not there; the message says how to get it.
        ValueError: Model and set have different classes, in number or by name, the model is not a
            classifier of images, nothing tells what range it takes, there is no such set or split,
            or more than 100 images are damaged.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("black", "white"):
        ...     (folder / "validation" / name).mkdir(parents=True)
        ...     Image.new("RGB", (40, 40), name).save(folder / "validation" / name / "a.png")
        >>> image = keras.Input((32, 32, 3))
        >>> light = keras.layers.GlobalAveragePooling2D()(image)[:, :1]
        >>> model = keras.Model(image, keras.layers.Concatenate()([1 - light, light]))
        >>> result = evaluate_classifier(model, folder, input_range="0..1")
        >>> result["top1"], result["images"]
        (1.0, 2)
    """
    import tensorflow as tf

    from keras_parc.data.skipped import SkippedImages
    from keras_parc.data.sources import num_examples, open_source
    from keras_parc.tasks.classification.data import class_names, dataset

    given, builder = model, open_source(source, data_dir)
    model, names = opened(model), class_names(builder)
    total, classes = num_examples(builder, split), len(names)
    sides = input_size(model, size)
    outputs = class_scores(model, np.zeros((1, *sides, 3), "float32")).shape[1:]
    if outputs != (classes,):
        raise ValueError(
            f"The model puts out {outputs} for an image, but {builder.name!r} has {classes} "
            "classes: expected a classifier trained on this data set."
        )
    order = class_order(labels or recorded_labels(given, classes), names, builder.name)
    scale = input_scale(model, input_range)
    skipped = SkippedImages()
    batches = dataset(
        builder,
        split,
        batch=batch_size,
        size=sides,
        short_side=short_side or short_side_of(model, sides),
        training=False,
        skipped=skipped,
    )
    ks = (1, 5) if classes > 5 else (1,)
    right, images, model_seconds, start = dict.fromkeys(ks, 0.0), 0, 0.0, time.perf_counter()
    with evaluation_progress(console) as progress:
        task = progress.add_task("evaluating", total=total, rate="")
        try:
            for pixels, truth in batches.as_numpy_iterator():
                called = time.perf_counter()
                scores = class_scores(model, scale.of(pixels), batch_size)
                scores = scores[:, order.argsort()]
                model_seconds += time.perf_counter() - called
                for k in ks:
                    right[k] += top_k_accuracy(scores, truth, k) * len(truth)
                images += len(truth)
                rate = images / (time.perf_counter() - start)
                progress.update(task, completed=images, rate=f"{rate:.0f} images/s")
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(skipped.failure or str(error)) from error
    if not images:
        why = "can be used" if skipped.skipped else "has a label"
        raise ValueError(f"None of the images in {split!r} of {builder.name!r} {why}.")
    seconds = time.perf_counter() - start
    return {
        **{f"top{k}": right[k] / images for k in ks},
        "images": images,
        **skipped.figures(),
        "classes": classes,
        "seconds": seconds,
        "images_per_second": images / seconds,
        "model_images_per_second": images / model_seconds,
    }
