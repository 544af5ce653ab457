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
TRAIN, VALIDATION, EPOCHS = 48, 8, 4


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


def train(run_cli, folder, epochs):
    options = ("--model", "small_backbone", "--weights", "none", "--size", SIDE)
    arguments = ("--epochs", epochs, "--batch", 8, "--augment", "none")
    out = folder / "run"
    code, _, errors = run_cli("train", folder / "data", "--out", out, *options, *arguments)
    assert code == 0, errors
    return keras_parc.Run(out)


def test_boxes(run_cli, tmp_path):
    write_boxes(tmp_path / "data")
    run = train(run_cli, tmp_path, epochs=EPOCHS)
    images, _, _ = pictures(4, seed=2)
    for path in run.tflite.values():
        answer = mediapipe("detect", path.read_bytes(), images, tmp_path)
        assert answer["files"] == {"labels.txt": "".join(f"{name}\n" for name in NAMES)}
        seen = set()
        expected = keras_parc.TFLiteDetector(path)(images.astype("float32"))
        for result, ours in zip(answer["results"], expected, strict=True):
            assert len(result) == len(ours["scores"]) > 0
            order = np.argsort(-ours["scores"], kind="stable")
            for (name, score, (left, top, width, height)), number in zip(
                sorted(result, key=lambda each: -each[1]), order, strict=True
            ):
                assert score == pytest.approx(ours["scores"][number], abs=1e-3)
                seen.add((name, NAMES[ours["labels"][number]]))
        print(path.name, seen, answer["results"][1][:3])
