"""Weights to start from: of which run, which file, for which classes."""

import dataclasses
import logging

import keras
import numpy as np
import pytest
import staged_model

from keras_parc.tasks.classification.options import ClassificationOptions
from keras_parc.tasks.detection.options import DetectionOptions
from keras_parc.tasks.segmentation.options import SegmentationOptions
from keras_parc.tasks.task import find_task
from keras_parc.training.recipe import Recipe

CLASSES = ["blue", "green", "red"]
RECIPE = Recipe(
    "start", "staged", ClassificationOptions(short_side=64), size=64, sizes=(64,), batch=1
)
OTHERS = {
    "detection": DetectionOptions(head="small"),
    "segmentation": SegmentationOptions(head="small"),
}


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The folder of a run, with weights that no initializer gives."""
    folder = tmp_path_factory.mktemp("before")
    model = find_task("classification").learner(RECIPE, 3, CLASSES).averaged()
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1, value.shape) for value in model.get_weights()])
    model.save(folder / "model.keras")
    model.save_weights(folder / "all.weights.h5")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return folder


def started(weights, names=CLASSES, options=None, model_arguments=(), model="staged"):
    """The model that trains, and which of its layers start as the ones before."""
    recipe = dataclasses.replace(
        RECIPE,
        options=options or RECIPE.options,
        weights=str(weights),
        model=model,
        model_arguments=dict(model_arguments),
    )
    return find_task(recipe.task).learner(recipe, len(names), names).trained(64)


def taken(model, folder):
    """Names of the layers that start as those of the run."""
    theirs = {
        x.name: x.get_weights() for x in keras.models.load_model(folder / "model.keras").layers
    }
    found = {x.name: x.get_weights() for x in model.layers if x.weights}
    return {
        name
        for name, values in found.items()
        if name in theirs
        and [v.shape for v in theirs[name]] == [v.shape for v in values]
        and all((a == b).all() for a, b in zip(theirs[name], values, strict=True))
    }


BACKBONE = {f"{stage}_{part}" for stage in staged_model.STAGES for part in ("conv", "norm")}


@pytest.mark.parametrize("file", ["", "model.keras"])
def test_the_same_classes_take_the_head(before, file):
    assert taken(started(before / file), before) == BACKBONE | {"predictions"}


@pytest.mark.parametrize(
    "names", [["cat", "dog", "hen"], ["red", "green", "blue"], ["blue", "red"]]
)
def test_other_classes_take_the_backbone_alone(before, names, caplog):
    with caplog.at_level(logging.WARNING):
        assert taken(started(before, names), before) == BACKBONE
    assert "the backbone is loaded; random weights in predictions" in caplog.text


def test_a_run_without_labels_gives_no_head(before, tmp_path):
    (tmp_path / "model.keras").write_bytes((before / "model.keras").read_bytes())
    assert taken(started(tmp_path), before) == BACKBONE


@pytest.mark.parametrize("task", sorted(OTHERS))
def test_another_task_takes_the_backbone(before, task):
    assert taken(started(before, options=OTHERS[task]), before) == BACKBONE


@pytest.mark.parametrize(
    "changes", [{"model": "parc_net_tiny"}, {"model_arguments": {"channels": 5}}]
)
def test_another_architecture_is_refused_in_one_line(before, changes):
    with pytest.raises(ValueError, match=r"is not of the backbone .* --model") as error:
        started(before, **changes)
    assert "\n" not in str(error.value)


def test_a_file_of_weights_goes_to_the_constructor(before):
    model = started(before / "all.weights.h5")
    assert taken(model, before) == BACKBONE | {"predictions"}


def test_a_run_that_is_not_finished_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.keras in the folder .* finished"):
        started(tmp_path)


def test_a_run_goes_on_without_what_it_started_from(before):
    recipe = dataclasses.replace(RECIPE, weights="/gone/model.keras")
    learner = find_task("classification").learner(recipe, 3, CLASSES)
    learner.trained(64, start=False)
    with pytest.raises(FileNotFoundError, match="no model file"):
        learner.trained(64)


def test_the_head_of_each_task_is_what_the_backbone_has_not():
    for options in (RECIPE.options, *OTHERS.values()):
        recipe = dataclasses.replace(RECIPE, options=options)
        learner = find_task(recipe.task).learner(recipe, 3)
        model = learner.trained(64)
        layers = {layer.name for layer in model.layers if layer.weights}
        assert learner.head(model) == layers - BACKBONE, recipe.task
        assert set(learner.class_layers()) & layers <= learner.head(model)
