"""Detectors as functions of images, whether Keras models or files; drawing what they find."""

import functools
import os
from collections.abc import Callable, Sequence

import keras
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_parc.lite.file.runtime import TFLiteDetector
from keras_parc.models.boxes import Detections, detections
from keras_parc.models.inputs import check_values, input_scale, input_size
from keras_parc.models.ssd_lite import ssd_anchors
from keras_parc.support.images import open_image, resize
from keras_parc.tasks.predictions import Prediction, in_batches

# Okabe and Ito's palette, distinguishable with any colour vision.
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000")


def detector_of(
    model: keras.Model | TFLiteDetector,
    *,
    score_threshold: float = 0.05,
    max_boxes: int = 100,
    batch_size: int = 32,
    input_range: str | None = None,
) -> Callable[[np.ndarray], list[Detections]]:
    """A model as a function of pixels, for `keras_parc.tasks.detection.measuring` and for pictures.

    Args:
        model: An `SSDLite`, or a `TFLiteDetector`, which has limits of its own inside.
        score_threshold: The least probability of a Keras model's result, 0 to 1.
        max_boxes: The largest number of results for an image, at least 1.
        batch_size: Images at a time, for a Keras model.
        input_range: What the model takes, a name of `keras_parc.models.inputs.INPUT_RANGES`; None:
            what it says itself.

    Returns:
        A function of images `(n, height, width, 3)`, RGB 0..255, all of the model's size, that
        returns for each what `keras_parc.detections` does.

    Raises:
        ValueError: `model` is no detector, or nothing tells what range it takes.

    Example:
        >>> import keras_parc
        >>> backbone = keras_parc.ParCNetTiny(include_top=False, input_shape=(32, 32, 3))
        >>> detector = detector_of(keras_parc.SSDLite(backbone, classes=2), max_boxes=5)
        >>> [sorted(found) for found in detector(np.zeros((1, 32, 32, 3)))]
        [['boxes', 'labels', 'scores']]
    """
    scale = input_scale(model, input_range)
    if isinstance(model, TFLiteDetector):

        def limited(found):
            good = np.flatnonzero(found["scores"] >= score_threshold)[:max_boxes]
            return {name: values[good] for name, values in found.items()}

        return lambda images: [limited(found) for found in model(scale.of(images))]

    ssd_anchors(model, input_size(model))  # Says what is wrong before the first image.

    def run_model(images):
        images = scale.of(images)
        check_values(images, scale)
        outputs = model.predict(images, batch_size=batch_size, verbose=0)
        anchors = ssd_anchors(model, images.shape[1:3])
        return detections(outputs, anchors, score_threshold=score_threshold, max_boxes=max_boxes)

    return run_model


def detect_files(
    model: keras.Model | TFLiteDetector,
    paths: Sequence[str | os.PathLike],
    score_threshold: float = 0.3,
    size: int = 320,
    input_range: str | None = None,
) -> list[Detections]:
    """Find the objects in image files, which are stretched to the model's size.

    Args:
        model: An `SSDLite` or a `TFLiteDetector`.
        paths: Image files.
        score_threshold: The least probability of a result, 0 to 1.
        size: Side in pixels for a model without a fixed input size.
        input_range: As for `detector_of`.

    Returns:
        For each image what `keras_parc.detections` returns.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not an image, or the model is no detector.
    """
    height, width = input_size(model, size)
    detector = detector_of(model, score_threshold=score_threshold, input_range=input_range)
    found = []
    for some in in_batches(paths):
        images = [resize(np.asarray(open_image(path)), (height, width)) for path in some]
        found += detector(np.stack(images).astype("float32"))
    return found


def draw(image: Image.Image, found: Detections, names: Sequence[str]) -> Image.Image:
    """Draw boxes on a picture.

    Args:
        image: The picture, of any size.
        found: "boxes" in shares of the picture, "labels", and "scores" where they have any.
        names: The name of each class.

    Returns:
        A new picture, the best box on top.
    """
    picture = image.convert("RGB")
    pen, width = ImageDraw.Draw(picture), max(1, round(min(picture.size) / 150))
    font = ImageFont.load_default(max(10, round(min(picture.size) / 30)))
    size = np.array([picture.height, picture.width] * 2)
    words = [names[label] for label in found["labels"]]
    if "scores" in found:
        words = [f"{word} {score:.2f}" for word, score in zip(words, found["scores"], strict=True)]
    for box, label, text in reversed(
        list(zip(found["boxes"], found["labels"], words, strict=True))
    ):
        top, left, bottom, right = np.clip(box, 0, 1) * (size - 1)
        colour = COLOURS[label % len(COLOURS)]
        pen.rectangle((left, top, max(left, right), max(top, bottom)), None, colour, width)
        place = (left + width, top + width)
        pen.rectangle(pen.textbbox(place, text, font), fill=colour)
        light = sum(Image.new("RGB", (1, 1), colour).getpixel((0, 0))) > 300
        pen.text(place, text, "black" if light else "white", font)
    return picture


def predict(
    model: keras.Model | TFLiteDetector,
    paths: Sequence[str | os.PathLike],
    names: Sequence[str],
    *,
    threshold: float = 0.3,
    input_range: str | None = None,
) -> list[Prediction]:
    """The objects in image files, see `keras_parc.tasks.task.Task`.

    Args:
        model: An `SSDLite` or a `TFLiteDetector`.
        paths: Image files.
        names: The name of each class.
        threshold: The least score of an object, 0 to 1.
        input_range: As for `detector_of`.

    Returns:
        For each image its boxes, and a picture with them.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not an image.
    """
    predictions = []
    every = detect_files(model, paths, threshold, input_range=input_range)
    for path, found in zip(paths, every, strict=True):
        boxes = [
            {"class": names[label], "score": float(score), "box": box.tolist()}
            for box, score, label in zip(
                found["boxes"], found["scores"], found["labels"], strict=True
            )
        ]
        rows = [
            [each["class"], f"{each['score']:.3f}", ", ".join(f"{100 * x:.0f} %" for x in box)]
            for each, box in zip(boxes, found["boxes"], strict=True)
        ]
        predictions.append(
            Prediction(
                {"image": str(path), "boxes": boxes},
                rows or [["nothing found", "", ""]],
                functools.partial(_picture, path, found, names),
            )
        )
    return predictions


def _picture(path, found: Detections, names: Sequence[str]) -> Image.Image:
    return draw(open_image(path), found, names)


def columns(top: int) -> list[str]:
    """The head of the table of predictions."""
    return ["image", "class", "score", "top, left, bottom, right"]
