"""The report of a training run: how good its model and its files are, and where they fail."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
from rich.console import Console

from keras_parc.lite.file.inspection import inspect
from keras_parc.models.inputs import input_scale, input_size
from keras_parc.report.page import html
from keras_parc.report.run import Run
from keras_parc.report.sections import page_title, result_sentence, sections_of, warnings_of
from keras_parc.support.files import replacing
from keras_parc.support.machine import device_name
from keras_parc.support.timing import interleaved
from keras_parc.support.version import VERSION
from keras_parc.tasks.model_files import load_model
from keras_parc.tasks.task import find_task
from keras_parc.training.origin import read_origin
from keras_parc.training.recipes import Recipe
from keras_parc.training.train import open_data

SECONDS = 15  # for timing
ROUNDS = 50


def make_report(
    run: Run,
    *,
    source=None,
    data: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure the model and the files of a run on the same images; write what came of it.

    The images are those of the split "test" if the data set has one with labels, as nothing was
    chosen by them, else of the validation split.

    Args:
        run: A finished run with both files; `report.json` and `report.html` are written into it.
        source: The data of the run, where it is open already.
        data: The folder of the data, where it has moved since; None: as the recipe names it.
        data_dir: Folder of prepared TFDS sets; None: TFDS' own.
        console: Where to draw progress; None: standard error.

    Returns:
        The content of `report.json`.

    Raises:
        FileNotFoundError: The run is not finished, or its data is not there.
        ValueError: A file is damaged, or the data does not fit the run.

    Example:
        >>> make_report(Run(Path("runs/photos")))["measures"]["int8"]  # doctest: +SKIP
        {'top1': 0.938, 'top5': 1.0}
    """
    start = time.perf_counter()
    recipe, paths, labels, history = run.recipe, run.tflite, run.labels, run.history
    if data is not None:
        recipe = dataclasses.replace(recipe, data=os.fspath(data))
    task, builder = find_task(recipe.task), source or _opened(recipe, data_dir, run)
    split = measured_split(recipe, task, builder)
    models = {"keras": run.model, **{name: load_model(path) for name, path in paths.items()}}
    analysis = task.analyse(models, labels, builder, split, size=recipe.size, console=console)
    found = {name: inspect(path) for name, path in paths.items()}
    report = plain(
        {
            "model": models["keras"].name,
            "task": recipe.task,
            "recipe": json.loads(recipe.to_json()),
            "data": _of_data(builder),
            "split": split,
            "images": analysis.images,
            "skipped": analysis.skipped,
            "measures": analysis.measures,
            "intervals": analysis.intervals,
            "int8_cost": analysis.int8_cost,
            **analysis.facts,
            "warnings": warnings_of(builder, recipe, analysis),
            "bytes": {
                "keras": (run.folder / "model.keras").stat().st_size,
                **{name: each.size for name, each in found.items()},
            },
            "partitions": {name: each.partitions for name, each in found.items()},
            "outside": {name: each.outside for name, each in found.items()},
            "memory": {name: each.arena for name, each in found.items()},
            "latency": _latency(models, recipe.size),
            "weights": _weights(run),
            "versions": {
                "keras_parc": VERSION,
                **{
                    name: version(name)
                    for name in ("keras", "tensorflow", "ai-edge-litert", "numpy")
                },
            },
            "machine": device_name(),
            "seconds": time.perf_counter() - start,
        }
    )
    report["result"] = result_sentence(analysis, report)
    page = html(
        page_title(run, recipe),
        report["result"],
        report["warnings"],
        sections_of(run, analysis, report, history, task.learner.score),
        f"{report['machine']}; "
        + ", ".join(f"{name} {number}" for name, number in report["versions"].items())
        + f"; measured in {report['seconds']:.0f} s.",
    )
    with replacing(run.folder / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    with replacing(run.folder / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    return report


def _opened(recipe: Recipe, data_dir, run: Run):
    try:
        return open_data(recipe, data_dir, run.folder)
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(
            f"The data of the run cannot be read: {error} If it has moved: keras-parc report "
            f"{run.folder} --data FOLDER"
        ) from error


def measured_split(recipe: Recipe, task, builder) -> str:
    """The split to measure on: "test" if there is one with labels that training did not use.

    Args:
        recipe: How the run was trained.
        task: Its task.
        builder: The data set.
    """
    from keras_parc.data.sources import is_folder

    used = {each.split("[")[0] for each in (recipe.train_split, recipe.validation_split)}
    if "test" not in builder.info.splits or "test" in used:
        return recipe.validation_split
    if is_folder(builder):  # no image without a label
        return "test"
    count = min(16, builder.info.splits["test"].num_examples)
    batches = task.data.dataset(
        builder, f"test[:{count}]", training=False, batch=count, size=recipe.size
    )
    for _, targets in batches:
        labels = targets["labels"] if isinstance(targets, dict) else targets
        if (np.asarray(labels) >= 0).any():
            return "test"
    return recipe.validation_split


def _of_data(builder) -> dict[str, Any]:
    """What was understood of a folder; of other sets their name and splits."""
    from keras_parc.data.sources import is_folder

    if is_folder(builder):
        return {"name": builder.name, **dataclasses.asdict(builder.report)}
    splits = {name: each.num_examples for name, each in builder.info.splits.items()}
    return {"name": builder.info.full_name, "splits": splits}


def _weights(run: Run) -> dict[str, str] | None:
    """What the model started from, as training wrote it down."""
    origin = read_origin(run.folder)
    if origin is None:
        return None
    return {key: value for key, value in dataclasses.asdict(origin).items() if value} or None


def _latency(models: Mapping, size: int) -> dict[str, dict[str, float]]:
    """Of one image, the models in turns; fewer rounds of slow ones."""
    pixels = np.random.default_rng(0).uniform(0, 255, (1, *input_size(models["keras"], size), 3))
    calls = {name: _call(model, pixels) for name, model in models.items()}
    for call in calls.values():
        call()  # the first one compiles
    start = time.perf_counter()
    for call in calls.values():
        call()
    rounds = int(SECONDS / (time.perf_counter() - start))
    return interleaved(calls, min(max(rounds, 3), ROUNDS), warm_up=1)


def _call(model, pixels):
    image = input_scale(model).of(pixels)
    if isinstance(model, keras.Model):
        return lambda: model.predict_on_batch(image)
    return lambda: model(image)


def plain(value: Any) -> Any:
    """The same of types that JSON knows; None for what is no number."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
