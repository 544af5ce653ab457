"""From what a user says of a training run to its recipe."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import keras

from keras_parc.data.augment.settings import PRESETS
from keras_parc.models.registry import find_model
from keras_parc.support.checks import unknown_name
from keras_parc.support.machine import free_memory
from keras_parc.tasks.task import find_task
from keras_parc.training.recipe import Recipe
from keras_parc.training.recipe_table import FROM_NOTHING, RECIPES

FINE_TUNE = {
    "classification": "fine_tune",
    "detection": "fine_tune_detection",
    "segmentation": "fine_tune_segmentation",
}
MODEL = "EfficientNetLite0"  # has weights that every package index serves
LARGEST_BATCH = 32
LEAST_BATCH = 4  # where BatchNorm learns: its statistics of one image are none
STEPS = 16  # of an epoch, at least, before the batch grows
WARM_UP = 100  # steps, at most


def start_recipe(task: str, model: str | None, weights: str | None) -> Recipe:
    """The recipe for images of one's own, before it is fitted to them.

    Args:
        task: "classification", "detection" or "segmentation".
        model: Name or key of a registered model; None: EfficientNet-Lite0.
        weights: What to start from: "none", what the model's constructor takes, or the folder of
            another run; None: "imagenet" where the model has it, else none.

    Raises:
        ValueError: There is no such model, or it is for another task.
    """
    entry = find_model(model or MODEL)
    if entry.task not in ("classification", task):
        raise ValueError(f"{entry.name} is for {entry.task}, but the data has labels for {task}.")
    base = RECIPES[FINE_TUNE[task]]
    if weights is None:
        weights = next(
            (n for n in ("imagenet", *entry.weight_names) if n in entry.weight_names), "none"
        )
    size = base.size if task != entry.task else entry.input_size[0]
    recipe = with_size(dataclasses.replace(base, model=entry.key), size)
    recipe = dataclasses.replace(recipe, weights=stated(weights, entry.key))
    return recipe if recipe.weights else dataclasses.replace(recipe, **FROM_NOTHING)


def stated(weights: str | os.PathLike, model: str) -> str:
    """Weights as a recipe holds them: a file or folder by its whole path."""
    if weights == "none":
        return ""
    if weights in find_model(model).weight_names:  # whatever files there are
        return os.fspath(weights)
    path = Path(weights).expanduser()
    return str(path.absolute()) if path.exists() else os.fspath(weights)


def with_size(recipe: Recipe, size: int) -> Recipe:
    """The recipe at one size; a classifier sees as much of a picture as before."""
    options = recipe.options
    if recipe.task == "classification":
        short = round(size * options.short_side / recipe.size)
        options = dataclasses.replace(options, short_side=max(size, short))
    return dataclasses.replace(recipe, size=size, sizes=(size,), options=options)


def with_options(
    recipe: Recipe,
    *,
    size: int | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    augment: str | None = None,
    freeze: bool = False,
    patience: int | None = None,
    balanced: bool = False,
) -> Recipe:
    """The recipe with what a user said; the arguments are those of `keras_parc.train`.

    Raises:
        ValueError: A value out of its range, or one that has no meaning for the task.
    """
    if size is not None:
        recipe = with_size(recipe, size)
    fields: dict[str, Any] = {"epochs": epochs, "batch": batch, "patience": patience}
    fields = {name: value for name, value in fields.items() if value is not None}
    recipe = dataclasses.replace(recipe, **fields)
    if freeze:
        recipe = dataclasses.replace(recipe, freeze_epochs=recipe.epochs)
    elif epochs is not None and recipe.freeze_epochs:
        recipe = dataclasses.replace(recipe, freeze_epochs=min(epochs // 2, recipe.freeze_epochs))
    options = {}
    if augment is not None:
        presets = PRESETS[recipe.task]
        if augment not in presets:
            raise ValueError(unknown_name("augmentation", augment, presets))
        options["augmentation"] = presets[augment]
    if balanced:
        if recipe.task != "classification":
            raise ValueError(f"Balanced classes are for classification, not for {recipe.task}.")
        options["balanced"] = True
    return dataclasses.replace(recipe, options=dataclasses.replace(recipe.options, **options))


def fitted(recipe: Recipe, images: int, classes: int, batch: int | None = None) -> Recipe:
    """The recipe with a batch and a warm-up that suit the training set and the memory.

    Args:
        recipe: What is to be trained.
        images: Of the training set.
        classes: Number of classes.
        batch: What the user chose; None: as large as memory allows, at most 32, and few enough for
            some steps an epoch, but 4 where BatchNorm learns.
    """
    if batch is None:
        learner = find_task(recipe.task).learner(recipe, classes)
        fits = 0.5 * free_memory() / image_bytes(learner.averaged(), recipe.size)
        least = 1 if recipe.freeze_norm else min(LEAST_BATCH, images)
        most = max(1, min(LARGEST_BATCH, fits, max(least, images / STEPS)))
        batch = 2 ** int(math.log2(most))
    steps = max(1, images // batch)
    return dataclasses.replace(recipe, batch=batch, warm_up_steps=min(WARM_UP, 2 * steps))


def image_bytes(model: keras.Model, size: int) -> int:
    """What a training step keeps for each image: every layer's output, and its gradient.

    Args:
        model: A model of images of a known size.
        size: Side of the images in pixels.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> image_bytes(keras.Model(image, keras.layers.Flatten()(image)), 8)
        3072
    """
    total = 0
    for layer in model.layers:
        outputs = keras.tree.flatten(layer.output)
        total += sum(math.prod(side or size for side in each.shape[1:]) for each in outputs)
    return 2 * 4 * total
