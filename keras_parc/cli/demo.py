"""`keras-parc demo`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_parc.cli.console import TaskName, choice, load_backend, until_stopped


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report. Default: report, or report_detection and so on."),
    ] = None,
    task: Annotated[str, choice("task", TaskName, help="What the model learns.")] = (
        "classification"
    ),
    quick: Annotated[
        bool, typer.Option(help="Prove in a minute that everything runs; learns nothing.")
    ] = False,
) -> None:
    """Train ParC-Net on digit scenes, export it to fp32 and int8, measure, write a report."""
    load_backend()
    from keras_parc.report.demo import demo_settings, run_demo

    if out is None:
        out = Path("report" if task == "classification" else f"report_{task}")
    with until_stopped("the same command starts anew"):
        run_demo(out, demo_settings(task, quick))
