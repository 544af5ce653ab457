"""`keras-parc demo`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_parc.cli.console import TaskName, choice
from keras_parc.cli.train import train
from keras_parc.training.recipe_table import DEMONSTRATIONS, QUICK, RECIPES


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run. Default: report, or report_detection and so on."),
    ] = None,
    task: Annotated[str, choice("task", TaskName, help="What the model learns.")] = (
        "classification"
    ),
    quick: Annotated[
        bool, typer.Option(help="Prove in a minute that everything runs; learns nothing.")
    ] = False,
) -> None:
    """Train ParC-Net on digit scenes: short for `keras-parc train digit_scenes/small --out report`.

    The same command goes on where it was stopped; a finished run is left as it is.
    """
    recipe = RECIPES[DEMONSTRATIONS[task]]
    if out is None:
        out = Path("report" if task == "classification" else f"report_{task}")
    train(recipe.data, out, recipe=recipe.name, settings=list(QUICK[task]) if quick else None)
