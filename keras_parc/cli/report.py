"""`keras-parc report`."""

from pathlib import Path
from typing import Annotated

import typer

from keras_parc.cli.console import DataDirOption, load_backend
from keras_parc.support.text import printable


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished training run.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data. Default: where the run read it.")
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Measure the model and the files of a run; write report.html and report.json into it."""
    load_backend()
    from keras_parc.report.report import make_report
    from keras_parc.report.run import Run

    made = make_report(Run(run), data=data, data_dir=data_dir)
    print(printable(made["result"]))
    print(printable(f"The report is {run / 'report.html'}"))
