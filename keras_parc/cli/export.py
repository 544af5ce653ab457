"""`keras-parc export`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_parc.cli.console import (
    InputRangeOption,
    IOType,
    Quantization,
    Target,
    choice,
    load_backend,
)


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A .keras file, the folder of a run or of a SavedModel, or module:function, which "
            "returns a Keras model."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The .tflite file to write.")],
    quantize: Annotated[
        str, choice("number format", Quantization, help="none is float32.")
    ] = "none",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="For int8: a folder of images like the training data. Default for a run: its "
            "training images."
        ),
    ] = None,
    input_size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width, for a model without a fixed size."),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(help="Sides of an input that is no image, without the batch, such as 100,2."),
    ] = None,
    io: Annotated[
        str | None,
        choice(
            "type",
            IOType,
            help="Of input and output of a quantized file. Default: int8 for an NPU, else float32.",
        ),
    ] = None,
    target: Annotated[
        str,
        choice(
            "target",
            Target,
            help="portable is for tflite-runtime and ARMv7, npu for Arm's Ethos-U (with --quantize "
            "int8).",
        ),
    ] = "litert",
    input_range: InputRangeOption = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Class names, one a line: written into the file. Default: labels.txt beside the "
            "model."
        ),
    ] = None,
    description: Annotated[
        str, typer.Option(help="What the model does: written into the file, as the next three.")
    ] = "",
    author: Annotated[str, typer.Option(help="Who made the model.")] = "",
    model_version: Annotated[str, typer.Option(help='Its version, such as "1.0".')] = "",
    licence: Annotated[str, typer.Option(help='Its licence, such as "Apache-2.0".')] = "",
    explain: Annotated[
        Path | None,
        typer.Option(help="With int8: write the noise of every operation to this CSV."),
    ] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option("--import", help="A module to import first, with layers of your own."),
    ] = None,
    cache_kib: Annotated[
        int | None,
        typer.Option(
            help="KiB of cache of a core: larger maps are computed in strips. 0: never. Default: "
            "2048, for portable 512."
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(help="Fail where a part of the model cannot be rewritten rightly."),
    ] = False,
) -> None:
    """Export a Keras model to a fast .tflite file and say what is in it."""
    if calibration is not None and quantize != "int8":
        raise ValueError(
            f"--calibration is for --quantize int8: with {quantize!r} no range is measured."
        )
    load_backend()
    from keras_parc.lite.summary import export_with_summary
    from keras_parc.report.exporting import calibration_of
    from keras_parc.report.run import Run, is_run
    from keras_parc.tasks.exportable import exportable, is_reference
    from keras_parc.tasks.labels import chosen_labels
    from keras_parc.tasks.model_files import model_file
    from keras_parc.tasks.outputs import class_count, file_metadata
    from keras_parc.tasks.saved_model import is_saved_model
    from keras_parc.tasks.task import task_of
    from keras_parc.training.origin import read_origin
    from keras_parc.training.train import open_data

    run = Run(model) if is_run(model) else None
    loaded = exportable(model, imports or ())
    file = Path(model) if is_reference(model) or is_saved_model(model) else model_file(model)
    # Where the number of classes is not known, the export finds it.
    names = chosen_labels(labels, file, class_count(loaded) or None) or ()
    origin = read_origin(file.parent)
    about = {"description": description, "author": author, "version": model_version}
    about["licence"] = licence or (origin.licence if origin else "")
    metadata = None
    if names or any(about.values()):
        metadata = file_metadata(task_of(loaded).name, labels=names, name=loaded.name, **about)
    if run is not None and quantize == "int8" and calibration is None:
        calibration = calibration_of(run, open_data(run.recipe, out=run.folder))
    tables = export_with_summary(
        loaded,
        out,
        quantize=None if quantize == "none" else quantize,
        calibration=calibration,
        input_size=input_size,
        io=io,
        target=target,
        metadata=metadata,
        explain_csv=explain,
        input_range=input_range,
        strict=strict,
        cache_kib=cache_kib,
        input_shape=None if input_shape is None else _sides(input_shape),
        console=Console(stderr=True),
    )
    for table in tables:
        Console().print(table)


def _sides(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(side) for side in text.split(","))
    except ValueError:
        raise ValueError(
            f"--input-shape takes whole numbers with commas, such as 100,2; got {text!r}."
        ) from None
