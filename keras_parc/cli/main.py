"""The command `keras-parc`."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_parc.cli.model_commands import evaluate, predict, read_labels

INTERRUPTED = 75  # the system's "temporary failure, try again"

app = typer.Typer(
    help="ParC-Net as a Keras 3 model zoo that ends in a fast int8 .tflite.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _commands() -> None:
    """Keep subcommands even while there is only one."""


@contextlib.contextmanager
def _until_sigterm(then: str) -> Iterator[None]:
    """End with a status of its own where training was stopped, and say what comes next."""
    from keras_parc.training.fit import Interrupted

    try:
        yield
    except Interrupted as stopped:
        print(f"keras-parc: {stopped}; {then}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    task: Annotated[str, typer.Option(help="classification, detection or segmentation.")] = (
        "classification"
    ),
    quick: Annotated[
        bool, typer.Option(help="Prove in a minute that everything runs; learns nothing.")
    ] = False,
) -> None:
    """Train ParC-Net on digit scenes, export it to fp32 and int8, measure, write a report."""
    from keras_parc.report.demo import demo_settings, run_demo

    with _until_sigterm("the same command starts anew"):
        run_demo(out, demo_settings(task, quick))


@app.command()
def train(
    recipe: Annotated[str, typer.Option(help="Name of a training run, e.g. digit_scenes.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: the same command continues it.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of prepared TFDS data sets. Default: TFDS' own.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field of the recipe, e.g. epochs=10; repeatable."),
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

    Status 75: stopped by SIGTERM, run the same command again. 2: something is wrong.
    """
    from keras_parc.training.recipes import RECIPES, override

    if recipe not in RECIPES:
        raise ValueError(f"There is no recipe {recipe!r}; there are {', '.join(RECIPES)}.")
    chosen = override(RECIPES[recipe], settings or ())
    if show:
        print(chosen.to_json(), end="")
        return
    from keras_parc.training.distribute import Devices
    from keras_parc.training.train import train

    where = Devices(devices=devices, hosts=hosts, host=host, coordinator=coordinator)
    with _until_sigterm("the same command goes on from there"):
        train(chosen, out, data_dir=data_dir, devices=where, checkpoint_steps=checkpoint_steps)
    print(f"The model is in {out / 'model.keras'}, its accuracy in {out / 'result.json'}.")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A .keras file.")],
    out: Annotated[Path, typer.Argument(help="The .tflite file to write.")],
    quantize: Annotated[
        str, typer.Option(help="none (float32), float16, dynamic or int8.")
    ] = "none",
    calibration: Annotated[
        Path | None, typer.Option(help="For int8: a folder of images like the training data.")
    ] = None,
    input_size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width, for a model without a fixed size."),
    ] = None,
    io: Annotated[str, typer.Option(help="Input and output: float32, uint8 or int8.")] = "float32",
    target: Annotated[
        str, typer.Option(help="litert, or portable for tflite-runtime and ARMv7.")
    ] = "litert",
    labels: Annotated[
        Path | None, typer.Option(help="Class names, one a line: written into the file.")
    ] = None,
    description: Annotated[
        str, typer.Option(help="What the model does; with --labels, as the next three.")
    ] = "",
    author: Annotated[str, typer.Option(help="Who made the model.")] = "",
    model_version: Annotated[str, typer.Option(help='Its version, such as "1.0".')] = "",
    licence: Annotated[str, typer.Option(help='Its licence, such as "Apache-2.0".')] = "",
    explain: Annotated[
        Path | None,
        typer.Option(help="With int8: write the noise of every operation to this CSV."),
    ] = None,
    fine_tune: Annotated[
        bool,
        typer.Option(
            "--fine-tune",
            help="With int8: train to make up for the rounding, on 1000 to 4096 images of "
            "--calibration; takes minutes, and is left out where it does not help.",
        ),
    ] = False,
) -> None:
    """Export a Keras model to a fast .tflite file and say what is in it."""
    import keras

    from keras_parc.lite import Metadata
    from keras_parc.lite.detector import is_detector
    from keras_parc.lite.summary import export_with_summary
    from keras_parc.tasks.model_files import is_segmenter, load_model

    about = {"description": description, "author": author, "licence": licence}
    about["version"] = model_version
    if labels is None and any(about.values()):
        raise ValueError("A description goes into the file with the class names: add --labels.")
    names = read_labels(labels) if labels else None
    loaded = load_model(model)
    if not isinstance(loaded, keras.Model):
        raise ValueError(f"Only a .keras file can be exported, got {str(model)!r}.")
    about["task"] = "detection" if is_detector(loaded) else "classification"
    if is_segmenter(loaded):
        about |= {"task": "segmentation", "activation": "softmax"}  # the file has logits
    tables = export_with_summary(
        loaded,
        out,
        quantize=None if quantize == "none" else quantize,
        calibration=calibration,
        input_size=input_size,
        io=io,
        target=target,
        metadata=Metadata(labels=names, name=loaded.name, **about) if names else None,
        explain_csv=explain,
        fine_tune=fine_tune,
        console=Console(stderr=True),
    )
    for table in tables:
        Console().print(table)


@app.command()
def benchmark_data(
    dataset: Annotated[str, typer.Argument(help="A TFDS set, or a folder split/class/image.")],
    split: Annotated[str, typer.Option(help="A split, or a part: train[:1000].")] = "train",
    data_dir: Annotated[
        Path | None, typer.Option(help="Prepared TFDS sets. Default: ~/tensorflow_datasets.")
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Side of the images.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images of a batch.")] = 128,
    batches: Annotated[int, typer.Option(min=1, help="Batches in a measurement.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the input pipeline of training beside reading and decoding alone."""
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


@app.command()
def benchmark(
    train: Annotated[
        bool, typer.Option("--train", help="Images per second of training, model by model.")
    ] = False,
    forms: Annotated[
        bool, typer.Option("--forms", help="Forms of ParC-Net's convolutions, with gradients.")
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(help="For --train; repeatable. Default: mobilevit_s, parc_net_s, and kimm's."),
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="For --train: side of the images.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Images of a step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="For --train: steps of a measurement.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each.")] = 5,
    mixed_precision: Annotated[
        str, typer.Option(help="For --train: none, float16 or bfloat16.")
    ] = "none",
    jit: Annotated[bool, typer.Option("--jit", help="Have XLA compile on TensorFlow.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Add the figures to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure training in turn: models, or forms of a convolution. KERAS_BACKEND says on what."""
    if train == forms:
        raise ValueError("Choose what to measure: --train or --forms.")
    from experiments.forms import compare_forms
    from keras_parc.support.files import add_rows
    from keras_parc.training.rates import KIMM, training_rates

    if train:
        shown = ["model", "images_per_second", "speed_ratio"]
        rows = training_rates(
            model or None,
            **{"size": size, "batch": batch, "steps": steps, "rounds": rounds},
            **{"mixed_precision": mixed_precision, "jit": jit},
        )
    else:
        shown = ["convolution", "side", "channels", "form", "median_ms", "ratio"]
        rows = compare_forms(batch, rounds, jit)
    if csv is not None:
        add_rows(csv, rows)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(*(name.replace("_", " ") for name in shown))
    for row in rows:
        table.add_row(*(str(row[name]) for name in shown))
    Console().print(table)
    first = rows[0]
    compiled = ", compiled by XLA" if first["jit"] else ""
    Console().print(f"{first['backend']} {first['version']}{compiled} on {first['device']}")
    if train and not model and KIMM not in [row["model"] for row in rows]:
        Console().print("Without MobileViT-S of kimm: pip install --no-deps kimm==0.2.5 adds it.")


@app.command()
def paper(
    out: Annotated[Path, typer.Option(help="Folder: the same command goes on with it.")],
    rows: Annotated[
        str, typer.Option(help="Rows of Table 2 to train, e.g. 6,7. Default: all.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row.")] = 3,
    quick: Annotated[
        bool, typer.Option(help="Prove in minutes that everything runs; learns nothing.")
    ] = False,
    speed: Annotated[Path, typer.Option(help="What `make benchmark` wrote, for Table 3.")] = Path(
        "tflite/results"
    ),
) -> None:
    """Make the paper's tables and figures anew: count, train on digit scenes, draw."""
    from experiments.paper.report import QUICK_ROWS, run_paper
    from experiments.paper.rows import ABLATIONS

    try:
        numbers = [int(part) for part in rows.split(",")] if rows else []
    except ValueError:
        raise ValueError(f"`--rows` takes numbers parted by commas, got {rows!r}.") from None
    every = QUICK_ROWS if quick else [row.number for row in ABLATIONS]
    with _until_sigterm("the same command goes on from there"):
        page = run_paper(out, rows=numbers or every, seeds=seeds, quick=quick, speed=speed)
    print(f"The tables are in {page}, the figures beside it.")


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A PyTorch file with a state dict.")],
    out: Annotated[Path, typer.Argument(help="The .weights.h5 file to write.")],
    model: Annotated[str, typer.Option(help="The model it is of, e.g. ParCNetS or SSDParCNetS.")],
) -> None:
    """Convert a checkpoint trained with the authors' code, without PyTorch; runs nothing in it."""
    from keras_parc.weights.loading import class_count, import_checkpoint

    classes = class_count(import_checkpoint(checkpoint, model, out))
    print(f"{out}: load it with keras_parc.{model}(weights={str(out)!r}, classes={classes})")


@app.command()
def presets(
    cards: Annotated[
        Path | None, typer.Option(help="Also write a model card for each into this folder.")
    ] = None,
) -> None:
    """List the published weights that `weights=` can name."""
    from keras_parc.support.files import replacing
    from keras_parc.weights.presets import list_presets, model_card

    table = Table("model", "weights", "task", "trained on", "published result", "licence")
    for preset in list_presets():
        row = (preset.model, preset.weights, preset.task, preset.data, preset.metric)
        table.add_row(*row, preset.licence)
        if cards is not None:
            with replacing(cards / f"{preset.name}.md") as temporary:
                temporary.write_text(model_card(preset))
    Console().print(table)


app.command()(predict)
app.command()(evaluate)


def main() -> None:
    """Run the command; a user's mistake ends in one line and status 2."""
    try:
        app()
    except (ImportError, OSError, RuntimeError, ValueError, FloatingPointError) as error:
        print(f"keras-parc: {error}", file=sys.stderr)
        sys.exit(2)
