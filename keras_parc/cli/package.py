"""`keras-parc package`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from keras_parc.cli.console import choice, load_backend
from keras_parc.support.text import printable


class DeviceName(StrEnum):
    """The names of `keras_parc.device.packing.DEVICES`."""

    WEB = "web"
    PI = "pi"
    RK3288 = "rk3288"
    ANDROID = "android"


def package(
    model: Annotated[
        Path, typer.Argument(help="The folder of a run, a .tflite file, or a folder of them.")
    ],
    device: Annotated[str, choice("device", DeviceName, "--for", help="What runs the model.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder to make. Default: NAME_DEVICE.")
    ] = None,
) -> None:
    """Make a folder to copy to a device: the model, what runs it, and how, in README.md."""
    load_backend()
    from keras_parc.device.packing import package as make

    out = out or Path(f"{model.resolve().stem}_{device}")
    folder = make(model, device, out)
    files = [each for each in folder.rglob("*") if each.is_file()]
    size = sum(each.stat().st_size for each in files) / 1e6
    print(printable(f"{folder}: {len(files)} files, {size:.1f} MB; README.md in it says how."))
