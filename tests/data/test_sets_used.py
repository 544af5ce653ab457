"""A folder of another tool's labels from end to end: a run, an evaluation."""

import dataclasses
import json

import masks
import pytest
from PIL import Image
from rich.console import Console

import keras_parc
import squares
from keras_parc.tasks.detection.measuring import evaluate_detector
from keras_parc.tasks.detection.options import DetectionOptions
from keras_parc.tasks.segmentation.measuring import evaluate_segmenter
from keras_parc.training.recipes import Recipe
from keras_parc.training.train import train

keras_parc.register_model(
    lambda input_shape, classes, include_preprocessing: squares.new_detector(classes),
    key="folder_squares",
    task="detection",
    listed=False,
)
RECIPE = Recipe(
    "folder_squares",
    "folder_squares",
    options=DetectionOptions(),
    size=squares.SIDE,
    sizes=(squares.SIDE,),
    batch=8,
    replicas=1,
    epochs=1,
    start_rate=1e-3,
    peak_rate=1e-3,
    end_rate=1e-3,
    warm_up_steps=1,
    ema_momentum=0.5,
    average_best=1,
    mixed_precision="none",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Squares with the labels of YOLO, as boxes, and masks of them."""
    root = tmp_path_factory.mktemp("squares")
    images, boxes, labels = squares.scenes(20, 5)
    _, classes = masks.images_and_masks(20, 5)
    for place in ("images", "labels", "masks"):
        (root / place).mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.astype("uint8")).save(root / f"images/{number}.png")
        Image.fromarray(classes[number].astype("uint8")).save(root / f"masks/{number}.png")
        lines = ""
        for (top, left, bottom, right), label in zip(boxes[number], labels[number], strict=True):
            middle = (left + right) / 2, (top + bottom) / 2
            lines += f"{label} {middle[0]} {middle[1]} {right - left} {bottom - top}\n"
        (root / f"labels/{number}.txt").write_text(lines)
    (root / "data.yaml").write_text("names: [dark, bright]\ntrain: images\n")
    return root


def test_a_run_on_a_folder(folder, tmp_path):
    """The task tells which labels are read, of a folder that has those of two."""
    recipe = dataclasses.replace(RECIPE, data=str(folder))
    train(recipe, tmp_path, console=Console(quiet=True))
    assert (tmp_path / "labels.txt").read_text() == "dark\nbright\n"
    assert "val_map" in json.loads((tmp_path / "result.json").read_text())["history"][0]


def test_a_trained_detector_finds_what_the_folder_says(folder):
    model, _ = squares.detector()
    result = evaluate_detector(model, folder, "validation", input_range="0..255")
    assert result["images"] == 4
    assert result["map50"] > 0.6


@pytest.mark.slow
def test_a_trained_segmenter_finds_what_the_folder_says(folder):
    result = evaluate_segmenter(masks.segmenter(), folder, "val", input_range="0..255")
    assert result["images"] == 4
    assert result["miou"] > 0.6
