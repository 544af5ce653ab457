"""The demonstration: ParC-Net learns, shrinks to int8 and classifies, in minutes on two cores."""

import json
import logging
import os
import platform
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_parc.evaluate import class_scores, top_k_accuracy
from keras_parc.files import replacing
from keras_parc.lite import Metadata, TFLiteModel, inspect, to_tflite
from keras_parc.lite.process import conversion_process
from keras_parc.lite.timing import interleaved
from keras_parc.parc_net import ParCNetXS
from keras_parc.training.progress import ProgressBar


@dataclass(frozen=True)
class DemoSettings:
    """How the demonstration trains.

    The optimizer, the label smoothing and the shape of the schedule are the paper's; batch,
    learning rate and averaging fit a run of minutes.
    """

    image_side: int = 48
    train_scenes: int = 8000
    test_scenes: int = 1000
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.025
    label_smoothing: float = 0.1
    ema_momentum: float = 0.98  # The paper's 0.9995 is for 400,000 steps.
    warm_up: float = 0.1  # Part of all steps.
    calibration_images: int = 200
    timing_rounds: int = 50
    seed: int = 0


QUICK = DemoSettings(
    train_scenes=320, test_scenes=100, epochs=1, calibration_images=20, timing_rounds=5
)


def load_data(settings: DemoSettings, folder: Path):
    """Prepare the digit scenes under `folder`; return train, validation and test data sets."""
    import tensorflow_datasets as tfds

    from keras_parc.data import DigitScenesConfig, SceneConfig

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    side = settings.image_side
    config = DigitScenesConfig(
        name="demo",
        scenes=SceneConfig(image_size=(side, side)),
        train=settings.train_scenes,
        validation=max(settings.test_scenes // 4, 1),
        test=settings.test_scenes,
        seed=settings.seed,
    )
    return tfds.load(
        "digit_scenes",
        split=["train", "validation", "test"],
        data_dir=folder,
        builder_kwargs={"config": config},
        as_supervised=True,
    )


def train(settings: DemoSettings, training, validation, console: Console):
    """Train ParC-Net-XS; return the model with averaged weights and the history."""
    import tensorflow as tf

    from keras_parc.data.augment import random_crop

    side, batch = settings.image_side, settings.batch_size
    model = ParCNetXS(input_shape=(side, side, 3), classes=10, include_preprocessing=True)
    steps = settings.epochs * (settings.train_scenes // batch)
    warm_up = max(round(settings.warm_up * steps), 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 10,
        max(steps - warm_up, 1),
        alpha=0.01,
        warmup_target=settings.learning_rate,
        warmup_steps=warm_up,
    )
    model.compile(
        keras.optimizers.AdamW(
            schedule,
            weight_decay=settings.weight_decay,
            use_ema=True,
            ema_momentum=settings.ema_momentum,
        ),
        keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing),
        metrics=["accuracy"],
    )

    def one_hot(images, labels):
        return tf.cast(images, tf.float32), tf.one_hot(labels, 10)

    training = (
        training.cache()
        .shuffle(settings.train_scenes, seed=settings.seed)
        .batch(batch, drop_remainder=True)
        .map(one_hot)
        .map(random_crop((side, side), seed=settings.seed), num_parallel_calls=2)
        .prefetch(2)
    )
    # Keras warns that the data set does its own shuffling, which is what is wanted.
    warnings.filterwarnings("ignore", "`shuffle=True` was passed", UserWarning)
    history = model.fit(
        training,
        validation_data=validation.batch(100).map(one_hot).cache(),
        epochs=settings.epochs,
        verbose=0,
        callbacks=[
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            ProgressBar(batch, console),
        ],
    )
    return model, history.history


def run_demo(
    out: Path, settings: DemoSettings = DemoSettings(), console: Console | None = None
) -> dict:
    """Train, evaluate, export, evaluate the files, time them, and write a report folder.

    Args:
        out: Folder of the report: `report.json`, `report.png`, `model.keras`,
            `model_fp32.tflite`, `model_int8.tflite`, `labels.txt`, and the data set.
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
    keras.utils.set_random_seed(settings.seed)

    with console.status("Preparing digit scenes"):
        training, validation, test = load_data(settings, out / "data")
        images, truth = (np.stack(x) for x in zip(*test.as_numpy_iterator(), strict=True))
        calibration = [x for x, _ in training.take(settings.calibration_images).as_numpy_iterator()]
    console.print(f"{settings.train_scenes} train and {len(images)} test scenes, no digit shared")
    model, history = train(settings, training, validation, console)

    with console.status("Exporting to .tflite"), conversion_process():
        with replacing(out / "model.keras") as temporary:
            model.save(temporary, include_optimizer=False)
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
        "settings": asdict(settings),
        "machine": f"{platform.machine()} {platform.system()}, {_cores()} cores",
        "versions": _versions(),
        "history": {key: [float(v) for v in values] for key, values in history.items()},
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
