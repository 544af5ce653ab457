"""`keras-parc import`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_parc.cli.console import load_backend


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A PyTorch file with a state dict.")],
    out: Annotated[Path, typer.Argument(help="The .weights.h5 file to write.")],
    model: Annotated[str, typer.Option(help="The model it is of, e.g. ParCNetS or SSDParCNetS.")],
) -> None:
    """Convert a checkpoint trained with the authors' code, without PyTorch; runs nothing in it."""
    load_backend()
    from keras_parc.models.checkpoints import class_count, import_checkpoint
    from keras_parc.models.registry import find_model

    name = find_model(model).name
    classes = class_count(import_checkpoint(checkpoint, name, out))
    print(f"{out}: load it with keras_parc.{name}(weights={str(out)!r}, classes={classes})")
