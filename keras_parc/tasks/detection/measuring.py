"""Measuring a detector with COCO's protocol: Keras model, `.tflite` file, or any other function."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from rich.console import Console

from keras_parc.lite.file.runtime import TFLiteDetector
from keras_parc.models.inputs import input_size
from keras_parc.support.extras import needs_extra
from keras_parc.support.files import replacing
from keras_parc.support.progress import evaluation_progress
from keras_parc.tasks.detection.predicting import detector_of
from keras_parc.tasks.labels import class_order, recorded_labels
from keras_parc.tasks.model_files import opened
from keras_parc.tasks.outputs import class_count

# As COCOeval.summarize() orders its first figures.
_FIGURES = ("map", "map50", "map75", "map_small", "map_medium", "map_large")


def coco_results(
    image_ids: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    detections: Sequence[dict[str, np.ndarray]],
    category_ids: Sequence[int],
) -> list[dict]:
    """Bring detections into COCO's results format.

    Args:
        image_ids: A number for each image.
        sizes: Height and width of each image in pixels.
        detections: For each image `boxes` `(k, 4)` (ymin, xmin, ymax, xmax relative to the image),
            `scores` `(k,)` and `labels` `(k,)` from 0. Boxes are clipped to the image.
        category_ids: The number of each class, in the order of the labels.

    Returns:
        For each detection `image_id`, `category_id`, `bbox` (left, top, width, height in pixels)
        and `score`.

    Raises:
        ValueError: A detection is not a number or of no class, or lengths differ.

    Example:
        >>> found = {"boxes": np.array([[0, 0.5, 1, 2]]), "scores": [0.5], "labels": [2]}
        >>> coco_results([7], [(100, 200)], [found], category_ids=[1, 2, 3])
        [{'image_id': 7, 'category_id': 3, 'bbox': [100.0, 0.0, 100.0, 100.0], 'score': 0.5}]
    """
    results = []
    for image_id, size, found in zip(image_ids, sizes, detections, strict=True):
        scores, labels = np.asarray(found["scores"], float), np.asarray(found["labels"], int)
        boxes = np.asarray(found["boxes"], float).reshape(-1, 4)
        if not len(boxes) == len(scores) == len(labels):
            raise ValueError(
                f"Expected as many boxes as scores and labels in image {image_id}, got "
                f"{len(boxes)}, {len(scores)} and {len(labels)}."
            )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError(f"A detection in image {image_id} is not a number.")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(category_ids):
            raise ValueError(
                f"Labels must be 0 to {len(category_ids) - 1}, without background; got "
                f"{labels.min()} to {labels.max()} in image {image_id}."
            )
        for box, score, label in zip(_in_pixels(boxes, size), scores, labels, strict=True):
            results.append(
                {
                    "image_id": int(image_id),
                    "category_id": int(category_ids[label]),
                    "bbox": box.tolist(),
                    "score": float(score),
                }
            )
    return results


def _in_pixels(boxes, size):
    """Left, top, width and height of the parts of boxes that are in the image."""
    corners = np.clip(np.asarray(boxes, float).reshape(-1, 4), 0, 1) * np.tile(size, 2)
    ymin, xmin, ymax, xmax = corners.T
    return np.stack([xmin, ymin, np.maximum(xmax - xmin, 0), np.maximum(ymax - ymin, 0)], 1)


def coco_metrics(
    truths: Sequence[dict], results: list[dict], category_ids: Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """Mean average precision of detections, by `pycocotools`.

    Args:
        truths: As for `coco_evaluation`.
        results: As for `coco_evaluation`.
        category_ids: The number of each class, in the order of the labels.
        names: The name of each class, in the order of the labels.

    Returns:
        What `coco_figures` returns.

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: There are no images, or a result is of another image.

    Example:
        >>> box = np.array([[0.1, 0.2, 0.5, 0.6]])
        >>> truth = {"id": 1, "size": (100, 100), "boxes": box, "labels": np.array([0])}
        >>> found = {"boxes": box, "scores": [0.9], "labels": [0]}
        >>> results = coco_results([1], [(100, 100)], [found], [1])
        >>> metrics = coco_metrics([truth], results, [1], ["cat"])
        >>> round(metrics["map"], 3), round(metrics["per_class"]["cat"], 3)
        (1.0, 1.0)
    """
    return coco_figures(coco_evaluation(truths, results, category_ids), category_ids, names)


def coco_evaluation(truths: Sequence[dict], results: list[dict], category_ids: Sequence[int]):
    """Let `pycocotools` match detections with what is there.

    Args:
        truths: For each image `id`; `size` (height, width in pixels); `boxes` `(n, 4)` (ymin, xmin,
            ymax, xmax, 0..1); `labels` `(n,)` from 0; and if there are any, `crowd` bool `(n,)`:
            objects that count neither way; and `area` `(n,)` in pixels, which decides what is small
            and large: less than 0, or none, is that of the box.
        results: What `coco_results` returns, of the same images.
        category_ids: The number of each class, in the order of the labels.

    Returns:
        A `COCOeval` that has evaluated and accumulated.

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: There are no images, or a result is of another image.
    """
    with needs_extra():
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    if not truths:
        raise ValueError("There are no images to evaluate.")
    strangers = {each["image_id"] for each in results} - {int(each["id"]) for each in truths}
    if strangers:
        raise ValueError(f"There are results of images that are not there: {sorted(strangers)}.")
    images = [
        {"id": int(each["id"]), "height": int(each["size"][0]), "width": int(each["size"][1])}
        for each in truths
    ]
    categories = [{"id": int(number)} for number in category_ids]
    objects = [each for truth in truths for each in _annotations(truth, category_ids)]
    for number, each in enumerate(objects, start=1):
        each["id"] = number  # not 0, by which COCOeval means "not matched"
    with contextlib.redirect_stdout(io.StringIO()):  # it reports what it does
        there = COCO()
        there.dataset = {"images": images, "categories": categories, "annotations": objects}
        there.createIndex()
        found = COCO()  # loadRes fails without results
        found.dataset = {**there.dataset, "annotations": _as_annotations(results)}
        found.createIndex()
        evaluation = COCOeval(there, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def coco_figures(evaluation, category_ids: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """The figures of an evaluation.

    Args:
        evaluation: What `coco_evaluation` returns.
        category_ids: The number of each class, in the order of the labels.
        names: The name of each class, in the order of the labels.

    Returns:
        `map` (mean over IoU 0.5, 0.55 ... 0.95), `map50`, `map75`, `map_small`, `map_medium`,
        `map_large` (less than 32 x 32 pixels, up to 96 x 96, and more) and `per_class`, the same as
        `map` by name: 0 to 1, or None where there are no objects to find.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    metrics = dict(zip(_FIGURES, map(_figure, evaluation.stats), strict=False))
    all_sizes, all_detections = 0, -1
    per_category = dict(
        zip(
            evaluation.params.catIds,
            np.moveaxis(evaluation.eval["precision"][..., all_sizes, all_detections], 2, 0),
            strict=True,
        )
    )
    metrics["per_class"] = {
        name: _figure(np.mean(per_category[number]))
        for number, name in zip(category_ids, names, strict=True)
    }
    return metrics


def _annotations(truth, category_ids):
    boxes = _in_pixels(truth["boxes"], truth["size"])
    crowds = truth.get("crowd", np.zeros(len(boxes), bool))
    areas = np.asarray(truth.get("area", np.full(len(boxes), -1.0)))
    areas = np.where(areas < 0, boxes[:, 2] * boxes[:, 3], areas)
    for box, label, crowd, area in zip(boxes, truth["labels"], crowds, areas, strict=True):
        yield {
            "image_id": int(truth["id"]),
            "category_id": int(category_ids[int(label)]),
            "bbox": box.tolist(),
            "area": float(area),
            "iscrowd": int(crowd),
        }


def _as_annotations(results):
    return [
        {**each, "id": number, "area": each["bbox"][2] * each["bbox"][3], "iscrowd": 0}
        for number, each in enumerate(results, start=1)
    ]


def _figure(value) -> float | None:
    return None if value < 0 else float(value)  # -1: no objects


def measure_detections(
    truths: Sequence[dict],
    detections: Sequence[dict[str, np.ndarray]],
    size: tuple[int, int],
    names: Sequence[str],
) -> dict[str, Any]:
    """COCO's figures of detections, for images of one size with their truth in memory.

    Args:
        truths: For each image `boxes` `(n, 4)` and `labels` `(n,)`.
        detections: For each image what a detector returns, see `coco_results`.
        size: Height and width of the images in pixels.
        names: The name of each class, in the order of the labels.

    Returns:
        What `coco_metrics` returns.

    Example:
        >>> truth = {"boxes": np.array([[0.1, 0.2, 0.5, 0.6]]), "labels": np.array([0])}
        >>> found = {**truth, "scores": np.array([0.9])}
        >>> round(measure_detections([truth], [found], (64, 64), ["cat"])["map50"], 3)
        1.0
    """
    numbers, ids = range(1, len(names) + 1), range(len(truths))
    known = [{"id": i, "size": size, **truth} for i, truth in zip(ids, truths, strict=True)]
    results = coco_results(ids, [size] * len(known), detections, numbers)
    return coco_metrics(known, results, numbers, names)


def evaluate_detector(
    model: keras.Model | TFLiteDetector | str | os.PathLike | Callable,
    source,
    split: str = "validation",
    *,
    size: int | tuple[int, int] = 320,
    batch_size: int = 32,
    labels: Sequence[str] | None = None,
    data_dir: str | os.PathLike | None = None,
    input_range: str | None = None,
    console: Console | None = None,
    results_path: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Measure a detector on a data set with COCO's protocol.

    Args:
        model: An `SSDLite`, a `TFLiteDetector`, the path of a file of either; or any function of
            images float32 `(n, height, width, 3)`, RGB 0..255, that gives for each image `boxes`
            `(k, 4)` (ymin, xmin, ymax, xmax, 0..1), `scores` `(k,)` and `labels` `(k,)` from 0, as
            many as it found. COCO counts the best 100 of each class in an image.
        source: Name of a TensorFlow Datasets set with boxes (`"coco/2017"`), or a TFDS builder.
        split: A split, or a part as `"validation[:1000]"`.
        size: Side, or height and width, to which images are stretched, in pixels, where the model
            leaves it open.
        batch_size: Images at a time; the last time it may be fewer.
        labels: As for `keras_parc.evaluate_classifier`.
        data_dir: Folder of prepared TFDS sets; None: `~/tensorflow_datasets`.
        input_range: As for `keras_parc.evaluate_classifier`.
        console: Where to draw the progress bar; None: standard error.
        results_path: Where to write all detections, as a JSON file in COCO's results format.

    Returns:
        What `coco_metrics` returns, and `images`, `skipped` (damaged files, only if there are any;
        they are logged), `detections`, `seconds`, `images_per_second` (all of it but the metrics)
        and `model_images_per_second` (the detector alone).

    Raises:
        FileNotFoundError: The set is not there; the message says how to get it.
        OSError: The results cannot be written.
        ValueError: Model and set have different classes, in number or by name, there is no such
            set or split, it has no boxes, more than 100 images are damaged, or what the detector
            gives is not as expected.

    Example:
        >>> def blind(images):
        ...     nothing = {"boxes": np.zeros((0, 4)), "scores": [], "labels": []}
        ...     return [nothing] * len(images)
        >>> evaluate_detector(blind, "digit_scenes/tiny", "test[:20]", size=48)["map"]
        0.0
    """
    import tensorflow as tf

    from keras_parc.data.skipped import SkippedImages
    from keras_parc.data.sources import bounds
    from keras_parc.tasks.detection.data import (
        category_ids,
        class_names,
        evaluation_dataset,
        open_detection_source,
    )

    builder = open_detection_source(source, data_dir)
    ids, names = category_ids(builder), class_names(builder)
    detector, size = _function_of(opened(model), size, batch_size, len(names), source, input_range)
    order = class_order(labels or recorded_labels(model, len(names)), names, builder.name)
    _, first, end = bounds(builder, split)
    skipped = SkippedImages()
    batches = evaluation_dataset(builder, split, batch=batch_size, size=size, skipped=skipped)
    truths, detections, model_seconds, start = [], [], 0.0, time.perf_counter()
    with evaluation_progress(console) as progress:
        task = progress.add_task("evaluating", total=end - first, rate="")
        try:
            for images, targets in batches:
                images = images.numpy()
                called = time.perf_counter()
                found = detector(images)
                model_seconds += time.perf_counter() - called
                if len(found) != len(images):
                    raise ValueError(
                        f"The detector gave {len(found)} results for {len(images)} images."
                    )
                detections += found
                for number in range(len(images)):
                    truth = {key: each[number].numpy() for key, each in targets.items()}
                    if truth["id"] < 0:
                        truth["id"] = first + len(truths)  # its place in the split
                    truths.append(truth)
                rate = len(truths) / (time.perf_counter() - start)
                progress.update(task, completed=len(truths), rate=f"{rate:.0f} images/s")
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(skipped.failure or str(error)) from error
    seconds = time.perf_counter() - start
    results = coco_results(
        [each["id"] for each in truths],
        [each["size"] for each in truths],
        detections,
        np.array(ids)[order],
    )
    if results_path is not None:
        with replacing(results_path) as temporary:
            temporary.write_text(json.dumps(results))
    return {
        **coco_metrics(truths, results, ids, names),
        "images": len(truths),
        **skipped.figures(),
        "detections": len(results),
        "seconds": seconds,
        "images_per_second": len(truths) / seconds,
        "model_images_per_second": len(truths) / model_seconds,
    }


def _function_of(
    model, size, batch_size: int, classes: int, source, input_range
) -> tuple[Callable, Any]:
    """A model as a function of pixels, and the size it takes."""
    if not isinstance(model, (keras.Model, TFLiteDetector)):
        return model, size
    known, data = class_count(model), getattr(source, "name", source)
    if known != classes:
        raise ValueError(
            f"The model has {known} classes, but {data!r} has {classes}: expected a detector "
            "trained on this data set."
        )
    detector = detector_of(
        model, score_threshold=0.01, batch_size=batch_size, input_range=input_range
    )
    return detector, input_size(model, size)
