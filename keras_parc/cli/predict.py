"""`keras-parc predict`."""

import csv
import glob
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from keras_parc.cli.console import InputRangeOption, given_options, load_backend
from keras_parc.support.files import replacing
from keras_parc.support.text import printable
from keras_parc.tasks.predictions import Prediction, in_batches


def predict(
    model: Annotated[
        Path,
        typer.Argument(help="A .keras or .tflite classifier, detector or segmenter, or a run."),
    ],
    images: Annotated[
        list[Path], typer.Argument(help="Image files, folders of them, and patterns as '*.jpg'.")
    ],
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
        typer.Option(help="Write pictures with the answers to this folder."),
    ] = None,
    input_range: InputRangeOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the answers to this file, .json or .csv.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Classify image files, or find the objects or the class of every pixel in them."""
    load_backend()
    from keras_parc.tasks.labels import chosen_labels
    from keras_parc.tasks.model_files import load_model, model_file
    from keras_parc.tasks.outputs import class_count
    from keras_parc.tasks.task import task_of

    model = model_file(model)
    loaded = load_model(model)
    task = task_of(loaded)
    classes = class_count(loaded)
    names = chosen_labels(labels, model, classes) or [str(number) for number in range(classes)]
    if top is not None and top > classes:
        raise ValueError(f"--top must be at most {classes}, the number of classes, got {top}.")
    kind = f"{str(model)!r}, a model for {task.name}"
    options = given_options(task.predict_options, kind, top=top, threshold=threshold)
    if out is not None and out.suffix not in (".json", ".csv"):
        raise ValueError(f"--out must end in .json or .csv, got {str(out)!r}.")

    def answer(paths):
        return task.predict(loaded, paths, names, input_range=input_range, **options)

    rows, answers, used = [], [], set()
    for path, each in _answered(answer, _files(images)):
        if isinstance(each, str):
            answers.append({"image": str(path), "error": each})
            continue
        answers.append(each.answer)
        rows += [(each.answer["image"], *row) for row in each.rows]
        if draw is not None:
            with replacing(draw / f"{_free_name(path.stem, used)}.png") as temporary:
                each.picture().save(temporary, "PNG")
    if not rows:
        first = answers[0]["error"]
        raise ValueError(f"None of {len(answers)} image files can be used. {first}")
    answers.sort(key=lambda each: "error" in each)
    for each in answers:
        if "error" in each:
            print(f"keras-parc: skipped: {printable(each['error'])}", file=sys.stderr)
    text = json.dumps(answers, indent=1)
    if out is not None:
        with replacing(out) as temporary:
            temporary.write_text(text + "\n" if out.suffix == ".json" else _csv(answers), "utf-8")
    if as_json:
        print(text)
    if as_json or out is not None:
        return
    table = Table(*task.columns(min(top or 3, classes)))
    for row in rows:
        table.add_row(*map(printable, row))
    Console(markup=False).print(table)


def _files(paths: list[Path]) -> list[Path]:
    """The image files that are meant: themselves, in folders, or fitting a pattern."""
    from keras_parc.support.images import image_files

    files = []
    for path in paths:
        if path.is_dir():
            files += [each for each, good in image_files(path) if good]
        elif not path.exists() and glob.has_magic(str(path)):
            files += map(Path, sorted(glob.glob(str(path), recursive=True)))
        else:
            files.append(path)
    if not files:
        raise ValueError(f"There are no image files in {str(paths[0])!r}.")
    return files


def _answered(answer: Callable, files: list[Path]) -> Iterator[tuple[Path, Prediction | str]]:
    """Each file with its prediction, or with what is wrong with it; a bar shows how far it is."""
    from keras_parc.support.images import open_image
    from keras_parc.support.progress import evaluation_progress

    with evaluation_progress(None) as progress:
        bar = progress.add_task("predicting", total=len(files), rate="")
        for some in in_batches(files):
            wrong = {}
            try:
                found = answer(some)
            except (OSError, ValueError):  # of some image, if not of the model
                for path in some:
                    try:
                        open_image(path)
                    except (OSError, ValueError) as error:
                        wrong[path] = str(error)
                sound = [path for path in some if path not in wrong]
                found = answer(sound) if sound else []
            predictions = iter(found)
            for path in some:
                yield path, wrong[path] if path in wrong else next(predictions)
            progress.update(bar, advance=len(some))


def _csv(answers: list[dict]) -> str:
    """A line for each class of an image, box or error."""
    rows = []
    for each in answers:
        (_, found), *_ = [pair for pair in each.items() if pair[0] != "image"]
        for item in [{"error": found}] if isinstance(found, str) else found:
            box = dict(zip(("ymin", "xmin", "ymax", "xmax"), item.get("box", ()), strict=False))
            rows.append(
                {"image": each["image"]} | {k: v for k, v in item.items() if k != "box"} | box
            )
    columns = dict.fromkeys(name for row in rows for name in row) or {"image": None}
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _free_name(stem: str, used: set[str]) -> str:
    """The name of a picture: images of equal names in several folders get numbers."""
    name, number = stem, 1
    while name in used:
        number += 1
        name = f"{stem}_{number}"
    used.add(name)
    return name
