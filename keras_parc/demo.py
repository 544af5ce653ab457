"""The demonstration: ParC-Net learns, shrinks to int8 and classifies, in minutes on two cores."""

import json
import logging
import os
import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_parc.evaluate import class_scores, top_k_accuracy
from keras_parc.files import replacing
from keras_parc.lite import Metadata, TFLiteModel, inspect, to_tflite
from keras_parc.lite.process import conversion_process
from keras_parc.lite.timing import interleaved
from keras_parc.training.recipes import RECIPES, Recipe
from keras_parc.training.train import train


@dataclass(frozen=True)
class DemoSettings:
    """What the demonstration trains and measures."""

    recipe: Recipe = RECIPES["digit_scenes"]
    calibration_images: int = 200
    timing_rounds: int = 50


QUICK = DemoSettings(
    recipe=replace(RECIPES["digit_scenes"], data="digit_scenes/tiny", epochs=1, warm_up_steps=1),
    calibration_images=20,
    timing_rounds=5,
)


def load_data(recipe: Recipe, folder: Path):
    """Prepare the digit scenes of a recipe under `folder`; return train and test data sets."""
    import tensorflow_datasets as tfds

    import keras_parc.data  # noqa: F401 (registers digit scenes)

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    return tfds.load(recipe.data, split=["train", "test"], data_dir=folder, as_supervised=True)


def run_demo(
    out: Path, settings: DemoSettings = DemoSettings(), console: Console | None = None
) -> dict:
    """Train, evaluate, export, evaluate the files, time them, and write a report folder.

    Args:
        out: Folder of the report: `report.json`, `report.png`, `model.keras`,
            `model_fp32.tflite`, `model_int8.tflite`, `labels.txt`, the data set and the training
            run, which starts anew.
        settings: How to train; `QUICK` proves in under a minute that everything runs.
        console: Where to print.

    Returns:
        The content of `report.json`: settings, history, accuracy, sizes and times.

    Example:
        >>> run_demo(Path("report"))["accuracy"]["int8"] > 0.95  # doctest: +SKIP
        True
    """
    console = console or Console()
    for name in ("tensorflow", "absl"):  # notices of KerasCV and TFDS that ask for nothing
        logging.getLogger(name).setLevel(logging.ERROR)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    recipe, run = settings.recipe, out / "training"
    shutil.rmtree(run, ignore_errors=True)

    with console.status("Preparing digit scenes"):
        training, test = load_data(recipe, out / "data")
        images, truth = (np.stack(x) for x in zip(*test.as_numpy_iterator(), strict=True))
        calibration = [x for x, _ in training.take(settings.calibration_images).as_numpy_iterator()]
    counts = {"train_scenes": len(training), "test_scenes": len(images)}
    console.print(f"{len(training)} train and {len(images)} test scenes, no digit shared")
    model = train(recipe, run, data_dir=out / "data", console=console)
    history = json.loads((run / "result.json").read_text())["history"]

    with console.status("Exporting to .tflite"), conversion_process():
        shutil.copyfile(run / "model.keras", out / "model.keras")
        labels = [str(digit) for digit in range(10)]
        metadata = Metadata(labels=labels, name=model.name, description="Digits in digit scenes.")
        paths = {
            name: to_tflite(
                model,
                out / f"model_{name}.tflite",
                quantize=quantize,
                calibration=calibration,
                metadata=metadata,
            )
            for name, quantize in (("fp32", None), ("int8", "int8"))
        }
        (out / "labels.txt").write_text("\n".join(labels) + "\n")

    with console.status("Evaluating the model and the files on the test images"):
        models = {"keras": model, **{name: TFLiteModel(path) for name, path in paths.items()}}
        images = images.astype("float32")
        scores = {name: class_scores(each, images) for name, each in models.items()}
        accuracy = {name: top_k_accuracy(each, truth) for name, each in scores.items()}
    with console.status("Timing, interleaved"):
        one = images[:1]
        calls = {name: lambda each=each: each(one) for name, each in models.items()}
        calls["keras"] = lambda: model.predict_on_batch(one)
        times = interleaved(calls, settings.timing_rounds)

    report = {
        "model": model.name,
        "settings": {**asdict(recipe), **counts},
        "machine": f"{platform.machine()} {platform.system()}, {_cores()} cores",
        "versions": _versions(),
        "history": history,
        "accuracy": accuracy,
        "agreement_with_keras": {
            name: float((each.argmax(1) == scores["keras"].argmax(1)).mean())
            for name, each in scores.items()
        },
        "partitions": {name: inspect(path).partitions for name, path in paths.items()},
        "bytes": {name: path.stat().st_size for name, path in paths.items()},
        "time_one_image_one_thread": times,
        "seconds": time.perf_counter() - start,
    }
    _write(out, report, images, truth, scores)
    _print(console, report, out)
    return report


def _write(out, report, images, labels, scores):
    from keras_parc.report import demo_figure

    with replacing(out / "report.png") as temporary:
        demo_figure(report, images, labels, scores["int8"]).savefig(temporary, dpi=110)
    with replacing(out / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")


def _print(console, report, out):
    table = Table("", "accuracy", "agrees with Keras", "MB", "ms (median)", "ratio")
    for name, accuracy in report["accuracy"].items():
        size = report["bytes"].get(name)
        timing = report["time_one_image_one_thread"][name]
        table.add_row(
            name,
            f"{100 * accuracy:.1f} %",
            f"{100 * report['agreement_with_keras'][name]:.1f} %",
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
