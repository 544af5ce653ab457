"""`keras-parc evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_parc.cli.console import (
    DataDirOption,
    FormatOption,
    InputRangeOption,
    Protocol,
    SplitByOption,
    ValidationOption,
    choice,
    given_options,
    load_backend,
)
from keras_parc.support.text import printable
from keras_parc.tasks.labels import chosen_labels


def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="A .keras or .tflite model, a run, or a model's name as ParCNetS."),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A TFDS set or a folder of labelled images. Default: a run's own; imagenet2012."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="A split, or a part: validation[:1000]. Default: validation; for a run on its "
            "own data that of its report."
        ),
    ] = None,
    data_dir: DataDirOption = None,
    format: FormatOption = None,
    validation: ValidationOption = 0.2,
    split_by: SplitByOption = None,
    weights: Annotated[
        str | None, typer.Option(help="For a name: what its constructor takes as weights.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side of the images, where the model leaves it open. Default: 256."
        ),
    ] = None,
    short_side: Annotated[
        int | None,
        typer.Option(
            help="For a classifier: shorter side before the centre is cut out. Default: as the "
            "model records it, else 288/256 of the image."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        choice(
            "protocol",
            Protocol,
            help="For a segmenter: native is what a client shows. Default: authors.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line. Default: in or beside the model, labels.txt."),
    ] = None,
    input_range: InputRangeOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a .tflite file.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a classifier (top-1, top-5), a detector (mAP) or a segmenter (mean IoU)."""
    load_backend()
    from keras_parc.data.sources import open_source
    from keras_parc.report.report import measured_split
    from keras_parc.report.run import Run, is_run
    from keras_parc.tasks.model_files import load_model, model_file
    from keras_parc.tasks.outputs import class_count
    from keras_parc.tasks.task import find_task, task_of
    from keras_parc.training.train import open_data

    file, source = model, None
    if is_run(model) and dataset is None:
        recipe = Run(Path(model)).recipe
        dataset, source = recipe.data, open_data(recipe, data_dir, model)
        split = split or measured_split(recipe, find_task(recipe.task), source)
    dataset, split = dataset or "imagenet2012", split or "validation"
    if Path(model).suffix or Path(model).is_dir():
        file = model_file(model)
        loaded = load_model(file, threads)
    else:
        loaded = _named_model(model, weights, dataset, data_dir)
    task = task_of(loaded)
    if size is not None and None not in loaded.input_shape[1:3]:
        raise ValueError(
            f"--size is for models of any size; {model!r} takes images of "
            f"{' x '.join(map(str, loaded.input_shape[1:3]))}."
        )
    kind = f"{model!r}, a model for {task.name}"
    given = given_options(task.evaluate_options, kind, short_side=short_side, protocol=protocol)
    if source is None and Path(dataset).expanduser().is_dir():
        source = open_source(
            dataset,
            data_dir,
            None,
            task.name,
            format=format,
            validation=validation,
            split_by=split_by,
        )
    elif format or split_by:
        raise ValueError(f"--format and --split-by are for folders, {dataset!r} is none.")
    result = task.evaluate(
        loaded,
        source or dataset,
        split,
        size=size or 256,
        batch_size=min(batch, 8) if task.name == "segmentation" else batch,  # large images
        labels=chosen_labels(labels, file, class_count(loaded)),
        data_dir=data_dir,
        input_range=input_range,
        **given,
    )
    _print_measures(result, model, dataset, split, as_json)


def _named_model(name: str, weights: str | None, dataset: str, data_dir: Path | None):
    """A registered model with weights, for images of any size."""
    from keras_parc.models.registry import find_model
    from keras_parc.tasks.task import find_task

    entry = find_model(name)
    if weights is None:
        raise ValueError(f"The model {name!r} needs --weights.")
    # A file of weights is of this data set; a published preset has classes of its own.
    of_set = {}
    if Path(weights).is_file():
        of_set["classes"] = len(find_task(entry.task).data.class_names(dataset, data_dir))
    return entry.build(weights=weights, input_shape=(None, None, 3), **of_set)


def _print_measures(result: dict, model: str, dataset: str, split: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"model": model, "dataset": dataset, "split": split, **result}, indent=1))
        return
    table = Table("", printable(model))
    result |= {f"IoU of {name}": value for name, value in result.pop("iou", {}).items()}
    by_class = result.pop("per_class", {})
    result |= {f"map of {name}": value for name, value in by_class.items()}
    for key, value in result.items():
        if value is None:  # nothing of this kind in the set
            continue
        text = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        share = key.startswith(("top", "map", "miou", "IoU", "pixel"))
        table.add_row(printable(key.replace("_", " ")), f"{100 * value:.2f} %" if share else text)
    Console(markup=False).print(table)
