"""The command `keras-parc`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    help="ParC-Net as a Keras 3 model zoo that ends in a fast int8 .tflite.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _commands() -> None:
    """Keep subcommands even while there is only one."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    quick: Annotated[
        bool, typer.Option(help="Prove in a minute that everything runs; learns nothing.")
    ] = False,
) -> None:
    """Train ParC-Net-XS on digit scenes, export it to fp32 and int8, measure, write a report."""
    from keras_parc.demo import QUICK, DemoSettings, run_demo

    run_demo(out, QUICK if quick else DemoSettings())


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A .keras or .tflite classifier.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line. Default: in or beside the model, labels.txt."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Guesses to show for an image.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Classify image files with a Keras or a .tflite model."""
    from keras_parc.predict import classify, load_classifier

    scores = classify(load_classifier(model), images)
    names = _class_names(labels, model, scores.shape[1])
    results = [
        {
            "image": str(path),
            "guesses": [
                {"class": names[i], "score": float(row[i])} for i in (-row).argsort()[:top]
            ],
        }
        for path, row in zip(images, scores, strict=True)
    ]
    if as_json:
        print(json.dumps(results, indent=1))
        return
    table = Table("image", *(f"guess {i + 1}" for i in range(min(top, scores.shape[1]))))
    for result in results:
        guesses = (f"{each['class']}  {each['score']:.3f}" for each in result["guesses"])
        table.add_row(result["image"], *guesses)
    Console().print(table)


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
    from keras_parc.lite.summary import export_with_summary
    from keras_parc.predict import load_classifier

    about = {"description": description, "author": author, "licence": licence}
    about["version"] = model_version
    if labels is None and any(about.values()):
        raise ValueError("A description goes into the file with the class names: add --labels.")
    names = _read_labels(labels) if labels else None
    loaded = load_classifier(model)
    if not isinstance(loaded, keras.Model):
        raise ValueError(f"Only a .keras file can be exported, got {str(model)!r}.")
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


def _class_names(labels: Path | None, model: Path, classes: int) -> list[str]:
    beside = model.with_name("labels.txt")
    if labels is None and model.suffix == ".tflite":
        from keras_parc.lite import read_metadata

        metadata = read_metadata(model)
        if metadata is not None:
            return list(metadata.labels)
    if labels is None and not beside.is_file():
        return [str(number) for number in range(classes)]
    path = labels or beside
    names = _read_labels(path)
    if len(names) != classes:
        raise ValueError(
            f"{str(path)!r} has {len(names)} lines, but the model has {classes} classes."
        )
    return names


def _read_labels(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no label file {str(path)!r}.")
    try:
        names = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"The label file {str(path)!r} is not UTF-8 text: {error}") from error
    if not names:
        raise ValueError(f"The label file {str(path)!r} is empty: one class name a line.")
    return names


def main() -> None:
    """Run the command; a user's mistake ends in one line and status 2."""
    try:
        app()
    except (OSError, RuntimeError, ValueError) as error:
        print(f"keras-parc: {error}", file=sys.stderr)
        sys.exit(2)
