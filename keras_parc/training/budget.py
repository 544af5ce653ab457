"""The number of epochs that a time allows, by a trial of a few steps."""

from __future__ import annotations

import dataclasses
import math
import time

import keras
import numpy as np
from rich.console import Console

from keras_parc.data.sources import num_examples
from keras_parc.tasks.task import find_task
from keras_parc.training.compiling import rate_schedule, training_model
from keras_parc.training.recipe import Recipe

TRIAL = 8  # steps; those that compile do not count
LONGEST = 2  # times the recipe's epochs: more only learns the images by heart
FORWARD = 0.4  # of a step is what an image costs that is only looked at


class _Clock(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def with_epochs(recipe: Recipe, source, seconds: float, console: Console) -> Recipe:
    """The recipe with as many epochs as a time allows on this machine, the trial's among them.

    Args:
        recipe: What is to be trained, at one size.
        source: Its data set, opened.
        seconds: For the training; the export and the report come after it.
        console: Where to print.

    Raises:
        ValueError: The time is not enough for one epoch.
    """
    start, task = time.perf_counter(), find_task(recipe.task)
    steps = max(1, num_examples(source, recipe.train_split) // (recipe.batch * recipe.replicas))
    with console.status("Trying how long a step takes"):
        step = _step_seconds(recipe, source, task)
    looked_at = num_examples(source, recipe.validation_split) / recipe.batch
    epoch = step * (steps + FORWARD * looked_at)
    frozen = FORWARD * epoch  # the head alone
    left = seconds - 2 * (time.perf_counter() - start)  # the run compiles as the trial did
    freeze = recipe.freeze_epochs if recipe.freeze_epochs < recipe.epochs else math.inf
    epochs = math.floor(left / frozen)
    if epochs > freeze:
        epochs = freeze + math.floor((left - freeze * frozen) / epoch)
    epochs = min(epochs, LONGEST * recipe.epochs)
    if epochs < 1:
        raise ValueError(
            f"{seconds / 60:.3g} minutes are not enough: an epoch takes about "
            f"{epoch / 60:.2g}. Give more, a smaller --size, or --freeze."
        )
    console.print(f"A step takes {step:.2f} s: {epochs} epochs in {seconds / 60:.3g} minutes.")
    freeze = epochs if freeze == math.inf else min(freeze, epochs // 2)
    return dataclasses.replace(recipe, epochs=epochs, freeze_epochs=freeze)


def _step_seconds(recipe: Recipe, source, task) -> float:
    """The median time of a step in which everything learns."""
    classes = len(task.data.class_names(source))
    learner = task.learner(dataclasses.replace(recipe, freeze_epochs=0), classes)
    batch = recipe.batch * recipe.replicas
    dataset = task.data.dataset(
        source,
        recipe.train_split,
        training=True,
        batch=batch,
        size=recipe.size,
        schedule=[(recipe.size, batch)] * TRIAL,
        **task.learner.training_options(recipe),
    )
    model = training_model(learner, rate_schedule(recipe, [TRIAL]), start=False)
    clock = _Clock()
    model.fit(learner.batches(dataset), steps_per_epoch=TRIAL, verbose=0, callbacks=[clock])
    return float(np.median(clock.seconds[2:]))
