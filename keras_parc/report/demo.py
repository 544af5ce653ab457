"""The demonstration: ParC-Net learns, shrinks to int8 and is measured, in minutes on two cores."""

import dataclasses
import json
import logging
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keras_parc.data.sources import open_source
from keras_parc.lite import inspect, to_tflite
from keras_parc.lite.process import conversion_process
from keras_parc.support.checks import unknown_name
from keras_parc.support.files import replacing
from keras_parc.support.timing import interleaved
from keras_parc.tasks.task import find_task
from keras_parc.training.recipe import Recipe
from keras_parc.training.recipes import find_recipe
from keras_parc.training.train import train

MARKER = "made_by_keras_parc.json"  # in a folder that a demonstration may write into
# For each task its recipe, and what `quick` changes in it.
RECIPES = {
    "classification": ("digit_scenes", {"model": "parc_net_tiny", "data": "digit_scenes/tiny"}),
    "detection": ("digit_scenes_detection", {"data": "digit_scenes/detect_tiny"}),
    "segmentation": ("digit_scenes_segmentation", {"data": "digit_scenes/detect_tiny"}),
}


@dataclass(frozen=True)
class DemoSettings:
    """What the demonstration trains and measures."""

    recipe: Recipe
    calibration_images: int = 200
    timing_rounds: int = 50


def demo_settings(task: str = "classification", quick: bool = False) -> DemoSettings:
    """The settings of a task's demonstration; `quick`: to see in a minute that everything runs.

    Raises:
        ValueError: There is no such task.
    """
    if task not in RECIPES:
        raise ValueError(unknown_name("task", task, RECIPES))
    name, changes = RECIPES[task]
    recipe = find_recipe(name)
    if quick:
        recipe = dataclasses.replace(recipe, epochs=1, warm_up_steps=1, **changes)
        return DemoSettings(recipe, calibration_images=20, timing_rounds=5)
    return DemoSettings(recipe)


def load_data(recipe: Recipe, folder: Path):
    """Prepare the digit scenes of a recipe under `folder`; return train and test data sets."""
    import tensorflow_datasets as tfds

    open_source(recipe.data, folder, check=None)  # made there if need be
    supervised = recipe.task == "classification"
    return tfds.load(
        recipe.data, split=[recipe.train_split, "test"], data_dir=folder, as_supervised=supervised
    )


def run_demo(
    out: Path, settings: DemoSettings | None = None, console: Console | None = None
) -> dict:
    """Train, evaluate, export, evaluate the files, time them, and write a report folder.

    Args:
        out: Folder of the report, new, empty or of an earlier one of this task: `report.json`,
            `report.png`, `model.keras`, `model_fp32.tflite`, `model_int8.tflite`, `labels.txt`, a
            file that marks it, the data set and the training run, which starts anew.
        settings: How to train; default: `demo_settings()`.
        console: Where to print.

    Returns:
        The content of `report.json`: settings, history, measures, sizes and times.

    Raises:
        ValueError: `out` holds files that are not of a demonstration of this task.

    Example:
        >>> run_demo(Path("report"))["accuracy"]["int8"] > 0.95  # doctest: +SKIP
        True
    """
    console, settings = console or Console(), settings or demo_settings()
    for name in ("tensorflow", "absl"):  # notices of KerasCV and TFDS that need no action
        logging.getLogger(name).setLevel(logging.ERROR)
    out, recipe = Path(out), settings.recipe
    _claim(out, recipe.task)
    start, run = time.perf_counter(), out / "training"
    shutil.rmtree(run, ignore_errors=True)

    with console.status("Preparing digit scenes"):
        training, test = load_data(recipe, out / "data")
        demo = find_task(recipe.task).demo(training, test)
    counts = {"train_scenes": len(training), "test_scenes": len(test)}
    console.print(f"{len(training)} train and {len(test)} test scenes, no digit shared")
    model = train(recipe, run, data_dir=out / "data", console=console)
    history = json.loads((run / "result.json").read_text())["history"]

    with console.status("Exporting to .tflite"), conversion_process():
        shutil.copyfile(run / "model.keras", out / "model.keras")
        metadata = demo.metadata(model.name)
        paths = {
            name: to_tflite(
                model,
                out / f"model_{name}.tflite",
                quantize=quantize,
                calibration=demo.calibration(settings.calibration_images),
                metadata=metadata,
            )
            for name, quantize in (("fp32", None), ("int8", "int8"))
        }
        (out / "labels.txt").write_text("\n".join(metadata.labels) + "\n")

    with console.status("Evaluating the model and the files on the test images"):
        models = {"keras": model, **{name: demo.open_file(path) for name, path in paths.items()}}
        measures = demo.measure(models)
    with console.status("Timing, interleaved"):
        one = demo.images[:1]
        calls = {name: lambda each=each: each(one) for name, each in models.items()}
        calls["keras"] = lambda: model.predict_on_batch(one)
        times = interleaved(calls, settings.timing_rounds)

    report = {
        "model": model.name,
        "settings": {**asdict(recipe), **counts},
        "machine": f"{platform.machine()} {platform.system()}, {_cores()} cores",
        "versions": _versions(),
        "history": history,
        "measures": list(measures),
        **measures,
        "partitions": {name: inspect(path).partitions for name, path in paths.items()},
        "bytes": {name: path.stat().st_size for name, path in paths.items()},
        "time_one_image_one_thread": times,
        "seconds": time.perf_counter() - start,
    }
    with replacing(out / "report.png") as temporary:
        demo.figure(report).savefig(temporary, dpi=110)
    with replacing(out / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    _print(console, report, out)
    return report


def _claim(out: Path, task: str) -> None:
    """Mark a new or empty folder as this task's; of others nothing may be overwritten."""
    marker = out / MARKER
    try:
        found = json.loads(marker.read_text())["demonstration"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if out.is_dir() and any(out.iterdir()) and found != task:
        what = f"the demonstration of {found}" if found else "files that are not a demonstration's"
        raise ValueError(
            f"The folder {str(out)!r} holds {what}, which this one would overwrite: choose "
            "another with --out."
        )
    with replacing(marker) as temporary:
        temporary.write_text(json.dumps({"demonstration": task}) + "\n")


def _print(console, report, out):
    measures = {name.replace("_", " "): report[name] for name in report["measures"]}
    table = Table("", *measures, "MB", "ms (median)", "ratio")
    for name, timing in report["time_one_image_one_thread"].items():
        size = report["bytes"].get(name)
        table.add_row(
            name,
            *(f"{100 * values[name]:.1f} %" for values in measures.values()),
            f"{size / 1e6:.2f}" if size else "",
            f"{timing['median_ms']:.2f}",
            f"{timing['ratio']:.3f}",
        )
    console.print(table)
    console.print(f"{report['seconds']:.0f} s in all; the report is in {out}/")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("keras", "tensorflow", "ai-edge-litert", "numpy")}
