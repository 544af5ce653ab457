"""`keras-parc benchmark` and `keras-parc benchmark-data`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_parc.cli.console import DataDirOption, Precision, choice, load_backend


def benchmark_data(
    dataset: Annotated[str, typer.Argument(help="A TFDS set, or a folder split/class/image.")],
    split: Annotated[str, typer.Option(help="A split, or a part: train[:1000].")] = "train",
    data_dir: DataDirOption = None,
    size: Annotated[int, typer.Option(min=1, help="Side of the images.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images of a batch.")] = 128,
    batches: Annotated[int, typer.Option(min=1, help="Batches in a measurement.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the input pipeline of training beside reading and decoding alone."""
    load_backend()
    from keras_parc.training.input_rate import input_rate

    rates = input_rate(dataset, split, batch=batch, size=size, batches=batches, data_dir=data_dir)
    if as_json:
        print(json.dumps(rates, indent=1))
        return
    table = Table("", "images/s")
    for name in ("read", "read_and_decode", "pipeline"):
        table.add_row(name.replace("_", " "), f"{rates[name]:,.0f}")
    Console().print(table)
    Console().print(f"pipeline to read and decode: {rates['pipeline_to_decode']:.2f}")


def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Models to compare with the first. Default: mobilevit_s, parc_net_s."),
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Side of the images.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images of a step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a measurement.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each.")] = 5,
    mixed_precision: Annotated[
        str, choice("precision", Precision, help="Mixed precision of training.")
    ] = "none",
    jit: Annotated[bool, typer.Option("--jit", help="Have XLA compile on TensorFlow.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Add the figures to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure how many images per second models train on. KERAS_BACKEND says on what."""
    load_backend()
    from keras_parc.support.files import add_rows
    from keras_parc.training.rates import training_rates

    rows = training_rates(
        models or None,
        size=size,
        batch=batch,
        steps=steps,
        rounds=rounds,
        mixed_precision=mixed_precision,
        jit=jit,
    )
    if csv is not None:
        add_rows(csv, rows)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    shown = ["model", "images_per_second", "speed_ratio"]
    table = Table(*(name.replace("_", " ") for name in shown))
    for row in rows:
        table.add_row(*(str(row[name]) for name in shown))
    Console().print(table)
    first = rows[0]
    compiled = ", compiled by XLA" if first["jit"] else ""
    Console().print(f"{first['backend']} {first['version']}{compiled} on {first['device']}")
