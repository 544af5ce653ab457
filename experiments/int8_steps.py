"""What each step of the int8 export brings, measured on the files: a table as CSV.

    python -m experiments.int8_steps OUT.csv [RUN ...] [--photos FOLDER]

A RUN is what `keras-parc train` leaves, of any task: calibrated on images of its training split,
judged on those of its test or validation split. `--photos`: EfficientNet-Lite0 with its ImageNet
weights, on pieces of photographs (`experiments.clip_art` says which). Rows of other models stay.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import keras
import numpy as np

import keras_parc
from experiments import int8_trials
from experiments.clip_art import photographs
from keras_parc.lite import detector
from keras_parc.lite.file.inspection import compared
from keras_parc.lite.file.outputs import OpenFile, values_of
from keras_parc.lite.process import conversion_process
from keras_parc.lite.proof import converted
from keras_parc.lite.quantize import bias_correction, int8, ranges
from keras_parc.lite.rewrite.checked import Reference
from keras_parc.lite.rewrite.signature import model_inputs
from keras_parc.models.deeplab_v3 import low_resolution
from keras_parc.report.exporting import calibration_of
from keras_parc.report.report import measured_split
from keras_parc.report.run import Run
from keras_parc.support.files import add_rows, read_rows, replacing
from keras_parc.tasks.task import find_task
from keras_parc.training.train import open_data

CALIBRATION, TEST = 200, 300  # images
CONVERTER = "converter"
SURE = 0.3  # probability


@dataclasses.dataclass(frozen=True)
class Case:
    """A float32 file as the export quantizes it, without a last softmax.

    Args:
        name: Of the model.
        content: The bytes of the file.
        method: How the export chooses ranges for it.
        calibration: Images.
        test: Others.
        labels: Their classes; None where there are none.
    """

    name: str
    content: bytes
    method: str
    calibration: list[np.ndarray]
    test: list[np.ndarray]
    labels: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Step:
    """How an int8 file is made: `change`, as `int8_trials` has them, comes on top of the export."""

    name: str
    method: str = ""  # how ranges are chosen; "": as the export does
    correct: bool = False
    always: bool = False  # whether corrected biases are kept though they do not help
    before: Callable | None = None  # of the float file and the images
    grids: Callable | None = None  # of the float file and the ranges
    after: Callable | None = None  # of both files and the images
    in_export: bool = False


STEPS = (
    Step("min/max by the converter's calibrator", CONVERTER),
    Step("min/max of tensors kept apart", "minmax"),
    Step("least squared error", "mse"),
    Step("least squared error behind the activation", "mse_seen"),
    Step("ranges of the export", in_export=True),
    Step("the export: biases corrected where it helps", correct=True, in_export=True),
    Step("biases corrected always", correct=True, always=True),
    Step("weights rounded by their products", after=int8_trials.round_by_products),
    Step("channels equalized", correct=True, before=int8_trials.equalize),
    Step("residual sums on one grid", correct=True, grids=int8_trials.on_one_grid),
)


def made(case: Case, step: Step) -> bytes:
    """The int8 file of one step."""
    content = case.content
    if step.method == CONVERTER:
        return _by_converter(content, case.calibration)
    if step.before is not None:
        content = step.before(content, case.calibration)
    choose, grids = int8.choose_ranges, step.grids or (lambda _, chosen: chosen)
    with (
        mock.patch.object(int8, "choose_ranges", lambda *args: grids(content, choose(*args))),
        mock.patch.object(
            bias_correction, "NOISE_KEPT", np.inf if step.always else bias_correction.NOISE_KEPT
        ),
    ):
        method = step.method or case.method
        result = int8.quantize(content, case.calibration, method=method, correct=step.correct)
    if step.after is not None:
        result = step.after(content, result, case.calibration[: bias_correction.MAX_IMAGES])
    return result


def _by_converter(content: bytes, images) -> bytes:
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    calibrated = Calibrator(content).calibrate(lambda: ([image[None]] for image in images))
    return mlir_quantize(calibrated)


def rows_of(case: Case) -> list[dict]:
    """A row for each step."""
    expected, rows = _outputs(case.content, case.test), []
    for step in STEPS:
        start = time.perf_counter()
        with conversion_process():
            content = made(case, step)
        seconds = time.perf_counter() - start
        found = _outputs(content, case.test)
        close = compared(list(zip(found, expected, strict=True)))
        sure = _sure(expected[0]) if len(expected) == 1 else None
        same = found[0].argmax(-1) == expected[0].argmax(-1)
        rows.append(
            {
                "model": case.name,
                "step": step.name,
                "in_export": "yes" if step.in_export else "no",
                "images": len(case.calibration),
                "top1_float": _accuracy(expected, case.labels),
                "top1_int8": _accuracy(found, case.labels),
                "agreement": f"{close.same_class:.4f}",
                "agreement_where_sure": "" if sure is None else f"{same[sure].mean():.4f}",
                "logits_snr_db": f"{close.signal_to_noise_db:.2f}",
                "seconds": f"{seconds:.0f}",
            }
        )
        print(", ".join(f"{value}" for value in rows[-1].values() if value != ""), flush=True)
    return rows


def _outputs(content: bytes, images) -> list[np.ndarray]:
    run = OpenFile(content)
    return [np.concatenate(each) for each in zip(*map(run, map(values_of, images)), strict=True)]


def _sure(logits: np.ndarray) -> np.ndarray:
    """Where the largest probability is above `SURE`."""
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return 1 / shares.sum(-1) > SURE


def _accuracy(outputs: list[np.ndarray], labels: np.ndarray | None) -> str:
    return "" if labels is None else f"{np.mean(outputs[0].argmax(-1) == labels):.4f}"


def float_file(model: keras.Model, images: list[np.ndarray]) -> bytes:
    """What the export quantizes: the rewritten model's float32 file, without a last softmax."""
    model = low_resolution(model)
    with conversion_process() as process:
        process.start()
        reference = Reference(model, model_inputs(model), [list(values_of(x)) for x in images[:2]])
        return converted(reference, "int8", process).content


def case_of_run(folder: Path) -> Case:
    """The model of a finished run, on images of its own data."""
    run = Run(folder)
    recipe, task, source = run.recipe, find_task(run.recipe.task), open_data(run.recipe, out=folder)
    calibration = calibration_of(run, source)[:CALIBRATION]
    batches = task.data.dataset(
        source,
        measured_split(recipe, task, source),
        training=False,
        batch=1,
        size=recipe.size,
        **task.learner.validation_options(recipe),
    )
    examples = list(batches.take(TEST).as_numpy_iterator())
    labels = None
    if recipe.task == "classification":
        labels = np.array([target[0].argmax() for _, target in examples])  # shares of classes
    return Case(
        run.model.name,
        float_file(run.model, calibration),
        detector.RANGES if recipe.task == "detection" else ranges.DEFAULT,
        calibration,
        [images[0] for images, _ in examples],
        labels,
    )


def case_of_photographs(folder: Path, size: int = 224) -> Case:
    """EfficientNet-Lite0 with its ImageNet weights, judged on photographs not calibrated on."""
    model = keras_parc.EfficientNetLite0(weights="imagenet", input_shape=(size, size, 3))
    photos, rng = photographs(folder), np.random.default_rng(0)

    def pieces(split: str, count: int) -> list[np.ndarray]:
        return [_piece(photos[split][n % len(photos[split])], size, rng) for n in range(count)]

    calibration, test = pieces("train", CALIBRATION), pieces("test", TEST)
    name = f"{model.name} (ImageNet)"
    return Case(name, float_file(model, calibration), ranges.DEFAULT, calibration, test)


def _piece(photo, size: int, rng: np.random.Generator) -> np.ndarray:
    side = int(min(photo.size) * rng.uniform(0.5, 1))
    left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
    piece = photo.crop((left, top, left + side, top + side)).resize((size, size))
    return np.asarray(piece, "float32")


def main(arguments: list[str] | None = None) -> None:
    """Measure, and replace the rows of the same models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the table")
    parser.add_argument("runs", type=Path, nargs="*", help="folders of runs")
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    args = parser.parse_args(arguments)
    cases = [lambda folder=folder: case_of_run(folder) for folder in args.runs]
    if args.photos is not None:
        cases.append(lambda: case_of_photographs(args.photos))
    for case in cases:
        rows = rows_of(case())
        old = read_rows(args.out) if args.out.exists() else []
        others = [row for row in old if row["model"] != rows[0]["model"]]
        with replacing(args.out) as temporary:
            add_rows(temporary, [*others, *rows])


if __name__ == "__main__":
    main()
