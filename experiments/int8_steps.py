"""What each step of the int8 export brings, measured on the files: a table as CSV.

Run `python -m experiments.int8_steps tflite/results/int8_steps.csv model.keras ...` for
classifiers of digit scenes, such as the one that `keras-parc demo` trains. Where fine-tuning
left itself out, its row says so: it differs from that without only by the images of its ranges.
"""

import csv
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from experiments.int8_trials import TRIALS
from keras_parc.lite.convert import to_tflite
from keras_parc.lite.file.runtime import TFLiteModel
from keras_parc.lite.process import conversion_process
from keras_parc.lite.quantize import int8
from keras_parc.lite.quantize.fine_tuning import MAX_IMAGES, fine_tune
from keras_parc.support.files import replacing
from keras_parc.tasks.classification.measuring import top_k_accuracy
from keras_parc.tasks.outputs import class_scores

STEPS = (  # Name, part of the export, how ranges are chosen, images, what else is done.
    ("min/max by the converter's calibrator", False, "converter", 300, None),
    ("min/max of tensors kept apart", True, "minmax", 300, None),
    ("least squared error", True, "mse", 300, None),
    ("least squared error behind the activation", False, "mse_seen", 300, None),
    ("the same, no image above the median one", True, "mse_median", 300, None),
    ("behind the activation, 50 images", False, "mse_seen", 50, None),
    ("behind the activation, 100 images", False, "mse_seen", 100, None),
    ("behind the activation, 500 images", False, "mse_seen", 500, None),
    ("min/max, biases corrected", False, "minmax", 300, "correct_biases"),
    ("min/max, channels equalized", False, "minmax", 300, "equalize"),
    ("behind the activation, biases corrected", False, "mse_seen", 300, "correct_biases"),
    ("behind the activation, channels equalized", False, "mse_seen", 300, "equalize"),
    ("min/max, fine-tuned", False, "minmax", MAX_IMAGES, "fine_tune"),
    ("behind the activation, fine-tuned", "option", "mse_seen", MAX_IMAGES, "fine_tune"),
)
COLUMNS = ("step", "in_export", "images", "top1_float", "top1_int8", "agreement", "logits_snr_db")


def measure_steps(model: keras.Model, training: np.ndarray, images: np.ndarray, labels) -> list:
    """Measure every step on a classifier.

    Args:
        model: A Keras classifier.
        training: `(n, height, width, channels)` images to calibrate on, 4096 or more.
        images: `(n, height, width, channels)` test images.
        labels: Their classes.

    Returns:
        A row of `COLUMNS` for each step: shares of 0 to 1; decibels of the logits, centred.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder, conversion_process():
        folder = Path(folder)
        # The part that is quantized: as the export does it, without a last softmax.
        body = _without_softmax(model)
        reference = to_tflite(body, folder / "float.tflite")
        content = reference.read_bytes()
        expected = class_scores(TFLiteModel(reference), images)
        for name, kept, method, count, trial in STEPS:
            path = folder / "int8.tflite"
            result, left_out = _quantized(content, training[:count], method, trial)
            path.write_bytes(result)
            found = class_scores(TFLiteModel(path), images)
            rows.append(
                (
                    f"{name} (left out)" if left_out else name,
                    {True: "yes", False: "no"}.get(kept, kept),
                    count,
                    top_k_accuracy(expected, labels),
                    top_k_accuracy(found, labels),
                    float(np.mean(found.argmax(1) == expected.argmax(1))),
                    round(_decibels(expected, found), 2),
                )
            )
    return rows


def _without_softmax(model: keras.Model) -> keras.Model:
    config = model.get_config()
    if config["layers"][-1]["config"].get("activation") == "softmax":
        config["layers"][-1]["config"]["activation"] = "linear"
    body = model.__class__.from_config(config)
    body.set_weights(model.get_weights())
    return body


def _quantized(content: bytes, images, method: str, trial: str | None) -> tuple[bytes, bool]:
    """The int8 file, and whether fine-tuning left itself out."""
    before, after = TRIALS.get(trial, (None, None))
    left_out = False
    if before is not None:
        content = before(content, images[:100])
    if trial == "fine_tune":
        tuned = fine_tune(content, images, method)
        content, images, left_out = tuned.content, tuned.calibration, not tuned.kept
    if method == "converter":
        return _by_converter(content, images), left_out
    result = int8.quantize(content, images, method=method)
    if after is not None:
        result = after(content, result, images[:100])
    return result, left_out


def _by_converter(content: bytes, images) -> bytes:
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    calibrated = Calibrator(content).calibrate(lambda: ([image[None]] for image in images))
    return mlir_quantize(calibrated)


def _decibels(expected: np.ndarray, found: np.ndarray) -> float:
    expected, found = (each - each.mean(1, keepdims=True) for each in (expected, found))
    return float(10 * np.log10(np.sum(expected**2) / np.sum((found - expected) ** 2)))


def main(out: str, *model_paths: str) -> None:
    """Measure models of digit scenes, 1000 test images, and write the table."""
    from keras_parc.data import SceneConfig, digit_scenes

    rows = []
    for path in model_paths:
        model = keras.models.load_model(path, compile=False)
        config = SceneConfig(image_size=model.input_shape[1:3])
        test = digit_scenes("test", 1000, config)
        training = digit_scenes("train", MAX_IMAGES, config).image.astype("float32")
        steps = measure_steps(model, training, test.image.astype("float32"), test.label)
        rows += [(model.name, *row) for row in steps]
    with replacing(Path(out)) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("model", *COLUMNS))
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python -m experiments.int8_steps OUT.csv MODEL.keras ...")
    main(*sys.argv[1:])
