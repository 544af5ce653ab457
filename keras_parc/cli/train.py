"""`keras-parc train`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_parc.cli.console import load_backend, until_stopped
from keras_parc.training.recipes import RECIPES, find_recipe, override


def train(
    recipe: Annotated[
        str,
        typer.Option(
            help="Name of a training run, e.g. digit_scenes; a wrong name lists all there are."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run: the same command continues it.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of prepared TFDS data sets. Default: TFDS' own.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a field of the recipe, e.g. epochs=10, or an argument of the model, e.g. "
            "model.position_embedding=false; repeatable.",
        ),
    ] = None,
    show: Annotated[bool, typer.Option(help="Print the recipe, with changes, and stop.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="Devices of each host.")] = 1,
    hosts: Annotated[int, typer.Option(min=1, help="Number of hosts (JAX backend).")] = 1,
    host: Annotated[int, typer.Option(min=0, help="Number of this host, from 0.")] = 0,
    coordinator: Annotated[str | None, typer.Option(help="address:port of host 0.")] = None,
    checkpoint_steps: Annotated[
        int, typer.Option(min=1, help="Steps from one checkpoint to the next.")
    ] = 500,
) -> None:
    """Train a model as a recipe says; after a kill the same command goes on.

    Status 75: stopped by SIGTERM or Ctrl-C, run the same command again. 2: something is wrong.
    """
    if recipe not in RECIPES:  # the models tell which others there are
        load_backend()
    chosen = override(find_recipe(recipe), settings or ())
    if show:
        print(chosen.to_json(), end="")
        return
    if out is None:
        raise ValueError("--out is missing: the folder of the run, such as --out runs/first.")
    load_backend()
    from keras_parc.training.distribute import Devices
    from keras_parc.training.train import train

    where = Devices(devices=devices, hosts=hosts, host=host, coordinator=coordinator)
    with until_stopped("the same command goes on from there"):
        train(chosen, out, data_dir=data_dir, devices=where, checkpoint_steps=checkpoint_steps)
    print(f"The model is in {out / 'model.keras'}, its accuracy in {out / 'result.json'}.")
