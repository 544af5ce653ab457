"""From a user's own labels, through `keras-parc train`, to MediaPipe's detector and segmenter."""

import masks
import numpy as np
import pytest
import tensorflow as tf
from clients import mediapipe
from PIL import Image
from registered import register_for_test

import keras_parc
import squares
from keras_parc.tasks.segmentation.measuring import class_map

pytestmark = [pytest.mark.mediapipe, pytest.mark.usefixtures("mediapipe_environment")]

SIDE = 96
NAMES = ["Katze grün", "Straße, 猫"]
COLOURS = [(0, 0, 0), (10, 200, 30), (200, 10, 255)]
TRAIN, VALIDATION, EPOCHS = 64, 8, 15
KEYS, SURE = ("boxes", "scores", "labels"), 0.5


def pictures(count, seed):
    """Images with at most one square, dark or bright, and its box in pixels and class."""
    images, boxes, labels = squares.scenes(count, seed)
    large = tf.image.resize(images, (SIDE, SIDE), "nearest").numpy().astype("uint8")
    return large, [np.round(SIDE * each).astype(int) for each in boxes], labels


def write_boxes(folder):
    """As labelImg writes them, in Pascal VOC's XML beside the images."""
    for split, count in (("train", TRAIN), ("val", VALIDATION)):
        (folder / split).mkdir(parents=True)
        for number, (image, boxes, labels) in enumerate(zip(*pictures(count, count), strict=True)):
            Image.fromarray(image).save(folder / split / f"{number}.png")
            objects = "".join(
                f"<object><name>{NAMES[label]}</name><bndbox><xmin>{left + 1}</xmin>"
                f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
                for (top, left, bottom, right), label in zip(boxes, labels, strict=True)
            )
            size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
            text = f"<annotation><filename>{number}.png</filename>{size}{objects}</annotation>"
            (folder / split / f"{number}.xml").write_text(text, "utf-8")


def write_masks(folder):
    """As CVAT writes them: colours, and labelmap.txt that names them."""
    names = zip(["background", *NAMES], COLOURS, strict=True)
    lines = [f"{name}:{','.join(map(str, colour))}::\n" for name, colour in names]
    folder.mkdir()
    (folder / "labelmap.txt").write_text("".join(lines), "utf-8")
    for split, count in (("train", TRAIN), ("val", VALIDATION)):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for number, (image, boxes, labels) in enumerate(zip(*pictures(count, count), strict=True)):
            mask = np.zeros_like(image)
            for (top, left, bottom, right), label in zip(boxes, labels, strict=True):
                mask[top:bottom, left:right] = COLOURS[1 + label]
            Image.fromarray(image).save(folder / "images" / split / f"{number}.png")
            Image.fromarray(mask).save(folder / "masks" / split / f"{number}.png")


@pytest.fixture(autouse=True)
def small_backbone(monkeypatch):
    def small(input_shape, include_top=False, include_preprocessing=True):
        return masks.backbone(input_shape[0])

    register_for_test(monkeypatch, small, "small_backbone", levels=masks.LEVELS)


def train(run_cli, folder):
    options = ("--model", "small_backbone", "--weights", "none", "--size", SIDE, "--batch", 8)
    options += ("--epochs", EPOCHS, "--augment", "none", "--set", "peak_rate=0.01")
    out = folder / "run"
    code, _, errors = run_cli("train", folder / "data", "--out", out, *options)
    assert code == 0, errors
    return keras_parc.Run(out)


def test_boxes(run_cli, tmp_path):
    """The objects that our runtime finds in the file, under the user's names."""
    write_boxes(tmp_path / "data")
    run = train(run_cli, tmp_path)
    images, _, _ = pictures(16, seed=2)
    for path in run.tflite.values():
        answer = mediapipe("detect", path.read_bytes(), images, tmp_path)
        assert answer["files"] == {"labels.txt": "".join(f"{name}\n" for name in NAMES)}
        expected = keras_parc.TFLiteDetector(path)(images.astype("float32"))
        seen = set()
        for result, ours in zip(answer["results"], expected, strict=True):
            for box, score, label in zip(*(ours[key] for key in KEYS), strict=True):
                if score < SURE:
                    continue
                top, left, bottom, right = SIDE * box
                wanted = np.array([left, top, right - left, bottom - top])
                distances = [
                    (np.abs(np.array(corner) + 0.5 - wanted).max(), abs(value - score))
                    for name, value, corner in result
                    if name == NAMES[label]
                ]
                pixels, difference = min(distances)
                assert pixels <= 1.5  # it cuts to whole pixels
                assert difference <= 0.01
                seen.add(NAMES[label])
        assert seen == set(NAMES)


def test_masks(run_cli, tmp_path):
    """The classes that our runtime finds at the pixels, under the user's names."""
    write_masks(tmp_path / "data")
    run = train(run_cli, tmp_path)
    images, _, _ = pictures(8, seed=2)
    for path in run.tflite.values():
        answer = mediapipe("segment", path.read_bytes(), images, tmp_path)
        low = keras_parc.TFLiteModel(path)(images.astype("float32"))
        scores = np.exp(low - low.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)  # MediaPipe brings these to the image's size
        seen = set()
        for result, ours in zip(answer["results"], scores, strict=True):
            assert result["labels"] == ["background", *NAMES]
            found = np.argmax(result["masks"], 0)
            assert (found == class_map(ours, found.shape)).mean() >= 0.97
            seen |= set(np.unique(found))
        assert seen == {0, 1, 2}
