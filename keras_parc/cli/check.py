"""`keras-parc check`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_parc.cli.console import (
    DataDirOption,
    FormatOption,
    SplitByOption,
    TaskName,
    ValidationOption,
    choice,
    load_backend,
    without_log,
)


def check(
    data: Annotated[
        str, typer.Argument(help="A folder of labelled images, or the name of a TFDS set.")
    ],
    task: Annotated[
        str | None,
        choice("task", TaskName, help="What the labels are for, where they fit several."),
    ] = None,
    format: FormatOption = None,
    validation: ValidationOption = 0.2,
    split_by: SplitByOption = None,
    data_dir: DataDirOption = None,
    quick: Annotated[bool, typer.Option(help="Do not decode the images.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write samples.png, histograms.png and check.json into this folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show what a set of labelled images is understood as, and what is wrong with it.

    Status 0: it can be used. 2: it cannot; one line says why.
    """
    load_backend()
    from keras_parc.data.sources import open_source
    from keras_parc.report.data_check import (
        check_data,
        print_report,
        task_of_set,
        write_check,
    )
    from keras_parc.support.progress import evaluation_progress

    with without_log("keras_parc.data.sets"):
        builder = open_source(
            data, data_dir, None, task, format=format, validation=validation, split_by=split_by
        )
    task = task_of_set(builder, task)
    with evaluation_progress(None) as progress:
        total = sum(info.num_examples for info in builder.info.splits.values())
        bar = progress.add_task("images", total=total, rate="", visible=not quick)
        found = check_data(
            builder, task, quick=quick, advance=lambda images: progress.advance(bar, images)
        )
    if out is not None:
        write_check(found, builder, out)
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
        return
    console = Console(markup=False)
    print_report(found.report, console)
    for each in found.findings():
        console.print(each, highlight=False, soft_wrap=True)
    console.print(
        f"Samples and histograms are in {out}."
        if out
        else "Samples with their labels and histograms: --out FOLDER writes them.",
        highlight=False,
        soft_wrap=True,
    )
