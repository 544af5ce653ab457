"""`keras-parc train`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from keras_parc.cli.console import (
    DataDirOption,
    FormatOption,
    SplitByOption,
    TaskName,
    choice,
    load_backend,
    until_stopped,
    without_log,
)
from keras_parc.data.augment.settings import PRESETS
from keras_parc.support.text import printable
from keras_parc.training.recipe_table import RECIPES
from keras_parc.training.recipes import find_recipe, override

_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0}


def minutes(text: str) -> float:
    """A time such as 90s, 30m or 1.5h, in minutes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip().lower())
    if not found or not float(found[1]):
        raise typer.BadParameter(f"Expected a time such as 90s, 30m or 1.5h, got {text!r}.")
    return float(found[1]) * _UNITS[found[2]]


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A folder of labelled images, or a TFDS set; digit_scenes/small for a trial. "
            "`keras-parc check` tells what is in it."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run, a new one: the same command continues it."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Name of a model; a wrong one lists all. Default: EfficientNetLite0."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="To start from: imagenet, none, a file, or another run's folder. Default: "
            "imagenet where the model has them."
        ),
    ] = None,
    task: Annotated[
        str | None, choice("task", TaskName, help="Where the labels are for several tasks.")
    ] = None,
    format: FormatOption = None,
    validation: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="Of a folder without a validation split, the part that becomes one. Default: 0.2.",
        ),
    ] = None,
    split_by: SplitByOption = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Side of the images. Default: the model's own; 320 for boxes, 256 for masks.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images, at most.")
    ] = None,
    time: Annotated[
        float | None,
        typer.Option(
            parser=minutes, metavar="TIME", help="For the training, as 30m: fits the epochs to it."
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images of a step. Default: what memory allows.")
    ] = None,
    augment: Annotated[
        str | None,
        choice(
            "augmentation",
            tuple(PRESETS["classification"]),
            help="What is done to training images; no_flip: for text, left and right. Default: "
            "light, for boxes medium.",
        ),
    ] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Only the head learns.")] = False,
    patience: Annotated[
        int | None, typer.Option(min=0, help="Epochs without a better score; 0: to the last.")
    ] = None,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="For a classifier: all classes weigh alike.")
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(help="Name of a recipe instead; a wrong name lists all there are."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a field of the recipe, e.g. peak_rate=1e-4, or an argument of the model, "
            "e.g. model.position_embedding=false; repeatable.",
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option(help="With --recipe: print the recipe, with changes, and stop.")
    ] = False,
    export: Annotated[bool, typer.Option(help="Whether to write .tflite files and report.")] = True,
    data_dir: DataDirOption = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices of each host.")] = 1,
    hosts: Annotated[int, typer.Option(min=1, help="Number of hosts (JAX backend).")] = 1,
    host: Annotated[int, typer.Option(min=0, help="Number of this host, from 0.")] = 0,
    coordinator: Annotated[str | None, typer.Option(help="address:port of host 0.")] = None,
    checkpoint_steps: Annotated[
        int, typer.Option(min=1, help="Steps from one checkpoint to the next.")
    ] = 500,
) -> None:
    """Train on labelled images: a model, .tflite files for the device, and a report.

    After a kill the same command goes on. Status 75: stopped by SIGTERM or Ctrl-C, run the same
    command again. 2: something is wrong.
    """
    if recipe is not None and recipe not in RECIPES:  # the models tell which others there are
        load_backend()
    if show and recipe is None:
        raise ValueError("--show prints a recipe: name one with --recipe.")
    if recipe is not None:
        changed = override(find_recipe(recipe), settings or ())
        if show:
            print(changed.to_json(), end="")
            return
    if out is None:
        raise ValueError("--out is missing: the folder of the run, such as --out runs/first.")
    load_backend()
    from keras_parc.report.whole_run import train
    from keras_parc.training.distribute import Devices

    where = Devices(devices=devices, hosts=hosts, host=host, coordinator=coordinator)
    with until_stopped("the same command goes on from there"), without_log("keras_parc.data.sets"):
        run = train(
            data,
            out,
            model=model,
            weights=weights,
            task=task,
            format=format,
            validation=validation,
            split_by=split_by,
            size=size,
            epochs=epochs,
            minutes=time,
            batch=batch,
            augment=augment,
            freeze=freeze,
            patience=patience,
            balanced=balanced,
            recipe=recipe,
            settings=settings or (),
            export=export,
            data_dir=data_dir,
            devices=where,
            checkpoint_steps=checkpoint_steps,
        )
    names = ["model.keras", "model_float32.tflite", "model_int8.tflite", "report.html"]
    there = [name for name in names if (run.folder / name).is_file()]
    print(f"In {printable(str(run.folder))}: {', '.join(there)}.")
