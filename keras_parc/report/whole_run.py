"""From labelled images to a trained model, its files for the device and a report: one call."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from keras_parc.data.sources import is_folder, num_examples, open_source
from keras_parc.models.registry import find_model
from keras_parc.report.data_check import print_report, task_of_set
from keras_parc.report.exporting import export_run
from keras_parc.report.report import make_report
from keras_parc.report.run import Run, is_run
from keras_parc.support.text import printable
from keras_parc.tasks.labels import quoted
from keras_parc.tasks.task import find_task
from keras_parc.training import budget, choosing
from keras_parc.training.distribute import ONE_DEVICE, Devices
from keras_parc.training.origin import origin_in
from keras_parc.training.recipe import Recipe
from keras_parc.training.recipe_table import DEMONSTRATIONS
from keras_parc.training.recipes import find_recipe, override
from keras_parc.training.train import open_data
from keras_parc.training.train import train as train_recipe


def train(
    data: str | os.PathLike | None,
    out: str | os.PathLike,
    *,
    model: str | None = None,
    weights: str | os.PathLike | None = None,
    task: str | None = None,
    format: str | None = None,
    validation: float | None = None,
    split_by: str | None = None,
    size: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    augment: str | None = None,
    freeze: bool = False,
    patience: int | None = None,
    balanced: bool = False,
    recipe: str | None = None,
    settings: Sequence[str] = (),
    export: bool = True,
    data_dir: str | os.PathLike | None = None,
    devices: Devices = ONE_DEVICE,
    checkpoint_steps: int = 500,
    console: Console | None = None,
) -> Run:
    """Train a model on labelled images, export it to float32 and int8, and write a report.

    The same call goes on with a run that was stopped.

    Args:
        data: A folder of labelled images, see the guide "Your own images"; or the name of a TFDS
            set. None: that of the recipe, or of the run in `out`.
        out: Folder of the run: see `keras_parc.report.run.Run` for what is in it afterwards.
        model: Name of a registered model, see `keras_parc.list_models`; default:
            EfficientNet-Lite0. For boxes and masks it is the backbone.
        weights: What to start from: "imagenet" (the default where the model has them), "none", a
            weights file, or the folder of another run.
        task: "classification", "detection" or "segmentation", where the data has labels for
            several.
        format: How the folder is to be read, where it can be read in several ways: the name of one
            of `keras_parc.data.sets.recognise.FORMATS`.
        validation: Share of the training images to measure on, where the data has no validation
            split of its own, 0 to 1. Default: 0.2.
        split_by: "folder": images of one folder, such as the frames of a video, stay together.
        size: Side of the images in pixels. Default: the model's own; 320 for boxes, 256 for masks.
        epochs: Passes over the training images, at most.
        minutes: Time for the training; the number of epochs is fitted to it.
        batch: Images of a step. Default: by the memory and the number of images, at most 32.
        augment: "none", "light" (the default), "medium" (that of boxes), "strong" or "no_flip".
        freeze: Whether only the head learns.
        patience: Epochs without a better score after which training ends; 0: never.
        balanced: For a classifier: whether all classes weigh alike.
        recipe: Name of a recipe, in place of fine-tuning.
        settings: `field=value`, other fields of the recipe.
        export: Whether the files and the report are made too.
        data_dir: Folder of prepared TFDS sets.
        devices: Where to compute.
        checkpoint_steps: Steps from one checkpoint to the next.
        console: Where to print.

    Returns:
        The run: `run.model`, `run.tflite["int8"]`, `run.report`.

    Raises:
        Interrupted: SIGTERM or Ctrl-C came; the state is saved, and the same call goes on.
        FileNotFoundError: The data is not there.
        OSError: A file cannot be written, or published weights cannot be had.
        ValueError: Something does not fit; the message says what.

    Example:
        >>> import keras_parc
        >>> run = keras_parc.train("photos/", "runs/photos")  # doctest: +SKIP
        >>> run.report["measures"]["int8"]["top1"]  # doctest: +SKIP
    """
    console, run = console or Console(), Run(Path(out))
    _check_folder(run.folder)
    if minutes is not None and (epochs or any(x.startswith("epochs=") for x in settings)):
        raise ValueError("--time fits the epochs to it: give either --time or --epochs.")
    options = {
        "size": size,
        "epochs": epochs,
        "batch": batch,
        "augment": augment,
        "freeze": freeze,
        "patience": patience,
        "balanced": balanced,
    }
    reading = {"format": format, "validation": validation, "split_by": split_by}
    reading = {name: value for name, value in reading.items() if value is not None}
    if is_run(run.folder):
        chosen = run.recipe
        for name, there, now in (("recipe", chosen.name, recipe), ("task", chosen.task, task)):
            if now not in (None, there):
                raise ValueError(
                    f"The run in {str(run.folder)!r} has the {name} {there!r}, not {now!r}: choose "
                    "another folder."
                )
        chosen = _as_stated(chosen, data, model, weights, reading)
        chosen = _changed(chosen, options, settings)
        last = run.folder / ("report.json" if export else "result.json")  # what is written last
        if chosen == run.recipe and last.is_file():
            console.print(f"The run in {printable(str(run.folder))!r} is finished.", markup=False)
            return run
        source = open_data(chosen, data_dir, run.folder)
    else:
        chosen, source = _new_recipe(
            data, recipe, task, model, weights, reading, data_dir, run.folder
        )
        chosen = _changed(chosen, options, settings)
        source = source or open_data(chosen, data_dir, run.folder)
        if chosen.name in choosing.FINE_TUNE.values():
            images, classes = _counts(chosen, source)
            chosen = choosing.fitted(chosen, images, classes, batch)
            chosen = override(chosen, settings)
        if minutes is not None:
            chosen = budget.with_epochs(chosen, source, 60 * minutes, console)
    if devices.host == 0:
        if is_folder(source):
            print_report(source.report, console)
        said = origin_in(run.folder, chosen).said
        console.print(printable(said), markup=False, highlight=False)
    train_recipe(
        chosen,
        run.folder,
        data_dir=data_dir,
        source=source,
        devices=devices,
        checkpoint_steps=checkpoint_steps,
        console=console,
    )
    if devices.host == 0 and export and keras.config.backend() != "tensorflow":
        console.print(
            "Files and report are made on the TensorFlow backend: the same command with "
            "KERAS_BACKEND=tensorflow makes them."
        )
    elif devices.host == 0 and export:
        export_run(run, source, console)
        made = make_report(run, source=source, console=console)
        console.print(printable(made["result"]), markup=False, highlight=False)
    return run


def _changed(recipe: Recipe, options: dict[str, Any], settings: Sequence[str]) -> Recipe:
    """The recipe with what a user said; options see the settings, which have the last word."""
    return override(choosing.with_options(override(recipe, settings), **options), settings)


def recipe_of(data: str) -> str | None:
    """The recipe that is written for a data set of our own."""
    return next((n for n in DEMONSTRATIONS.values() if find_recipe(n).data == data), None)


def _as_stated(recipe: Recipe, data, model, weights, reading: dict[str, Any]) -> Recipe:
    """The recipe with the data, the model and the weights that a user named."""
    key = find_model(model).key if model else recipe.model
    fields = {"model": key, **reading}
    if data:
        fields["data"] = _stated(data)
    if weights:
        fields["weights"] = choosing.stated(weights, key)
    return dataclasses.replace(recipe, **fields)


def _stated(data: str | os.PathLike) -> str:
    """A data set as a recipe holds it: a folder by its whole path."""
    path = Path(data).expanduser()
    is_path = isinstance(data, os.PathLike) or path.exists()
    return str(path.absolute()) if is_path else os.fspath(data)


def _new_recipe(
    data, name, task, model, weights, reading, data_dir, out: Path
) -> tuple[Recipe, Any]:
    """The recipe of a run that begins, and its data where it had to be opened."""
    name = name or (data and recipe_of(os.fspath(data)))
    if name:
        recipe = find_recipe(name)
        if task not in (None, recipe.task):
            raise ValueError(f"The recipe {name!r} is for {recipe.task}, not for {task}.")
        return _as_stated(recipe, data, model, weights, reading), None
    if data is None:
        raise ValueError(
            "There is nothing to train on: give a folder of labelled images, the name of a TFDS "
            "set, or a recipe."
        )
    source = open_source(data, data_dir, None, task, out, **reading)
    recipe = choosing.start_recipe(task_of_set(source, task), model, weights)
    return dataclasses.replace(recipe, data=_stated(data), **reading), source


def _counts(recipe: Recipe, source) -> tuple[int, int]:
    """Images to learn from and classes, enough of both."""
    classes = len(find_task(recipe.task).data.class_names(source))
    if recipe.task == "classification" and classes < 2:
        raise ValueError(
            f"There is one class only in {recipe.data!r}: a classifier needs two or more."
        )
    splits = source.info.splits
    made = is_folder(source) and recipe.train_split in splits  # one of validation, where it can be
    for split, use in ((recipe.train_split, "learn from"), (recipe.validation_split, "measure on")):
        if split.partition("[")[0] not in splits and not made:
            raise ValueError(
                f"{recipe.data!r} has no split {split!r} to {use}, but {' and '.join(splits)}: "
                "choose with --set train_split= and --set validation_split=, such as train[:80%] "
                "and train[80%:]."
            )
    if recipe.validation_split.partition("[")[0] not in splits:
        raise ValueError(
            f"There are no images to measure on in {recipe.data!r}: no validation split, and "
            "none can be made of so few images or with --validation 0. Expected two images a class "
            "or more."
        )
    report = source.report if is_folder(source) else None
    if recipe.task == "classification" and report and recipe.train_split in report.by_split:
        seen = report.by_split[recipe.train_split]
        if unseen := [name for name, count in report.classes.items() if count and not seen[name]]:
            raise ValueError(
                f"There are no images to learn from of {quoted(unseen)} in {recipe.data!r}: all "
                "are in other splits. With --split-by folder a class needs several folders."
            )
    return num_examples(source, recipe.train_split), classes


def _check_folder(folder: Path) -> None:
    """Refuse a file, and a folder that holds something else than a run."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise ValueError(f"{str(there)!r} is a file: choose a folder for the run with --out.")
    if folder.is_dir() and not is_run(folder):
        others = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
        if others:
            raise ValueError(
                f"The folder {str(folder)!r} holds files that are no run's, such as "
                f"{others[0]!r}: choose a new one with --out."
            )
