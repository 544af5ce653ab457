"""`keras-parc predict`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_parc.cli.console import InputRangeOption, given_options, load_backend
from keras_parc.support.files import replacing
from keras_parc.support.text import printable


def predict(
    model: Annotated[
        Path, typer.Argument(help="A .keras or .tflite classifier, detector or segmenter.")
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of image files.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line. Default: in or beside the model, labels.txt."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, help="For a classifier or segmenter: classes to show for an image. Default: 3."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="For a detector: the least score of a box. Default: 0.3."),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(help="Write pictures with boxes, or painted masks, to this folder."),
    ] = None,
    input_range: InputRangeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Classify image files, or find the objects or the class of every pixel in them."""
    load_backend()
    from keras_parc.tasks.labels import chosen_labels
    from keras_parc.tasks.model_files import load_model
    from keras_parc.tasks.outputs import class_count
    from keras_parc.tasks.task import task_of

    loaded = load_model(model)
    task = task_of(loaded)
    classes = class_count(loaded)
    names = chosen_labels(labels, model, classes) or [str(number) for number in range(classes)]
    if top is not None and top > classes:
        raise ValueError(f"--top must be at most {classes}, the number of classes, got {top}.")
    kind = f"{str(model)!r}, a model for {task.name}"
    options = given_options(task.predict_options, kind, top=top, threshold=threshold)
    images, unusable = _sound(images)
    predictions = task.predict(loaded, images, names, input_range=input_range, **options)
    if draw is not None:
        if predictions[0].picture is None:
            raise ValueError(
                f"--draw is for detectors and segmenters, {str(model)!r} is a classifier."
            )
        used: set[str] = set()
        for path, each in zip(images, predictions, strict=True):
            with replacing(draw / f"{_free_name(path.stem, used)}.png") as temporary:
                each.picture().save(temporary, "PNG")
    if as_json:
        print(json.dumps([*(each.answer for each in predictions), *unusable], indent=1))
        return
    table = Table(*task.columns(min(top or 3, classes)))
    for each in predictions:
        for row in each.rows:
            table.add_row(*map(printable, (each.answer["image"], *row)))
    Console(markup=False).print(table)


def _sound(paths: list[Path]) -> tuple[list[Path], list[dict[str, str]]]:
    """The image files that can be read, and the others with what is wrong, which is said too."""
    from keras_parc.support.images import image_files, open_image

    files = []
    for path in paths:
        files += [each for each, good in image_files(path) if good] if path.is_dir() else [path]
    sound, unusable = [], []
    for path in files:
        try:
            open_image(path)
        except (OSError, ValueError) as error:
            unusable.append({"image": str(path), "error": str(error)})
        else:
            sound.append(path)
    if not unusable and not sound:
        raise ValueError(f"There are no image files in {str(paths[0])!r}.")
    if not sound:
        raise ValueError(f"None of {len(files)} image files can be used. {unusable[0]['error']}")
    for each in unusable:
        print(f"keras-parc: skipped: {printable(each['error'])}", file=sys.stderr)
    return sound, unusable


def _free_name(stem: str, used: set[str]) -> str:
    """The name of a picture: images of equal names in several folders get numbers."""
    name, number = stem, 1
    while name in used:
        number += 1
        name = f"{stem}_{number}"
    used.add(name)
    return name
