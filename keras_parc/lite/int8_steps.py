"""What each step of the int8 export brings, measured on the files: a table as CSV.

Run `python -m keras_parc.lite.int8_steps model.keras tflite/results/int8_steps.csv` for a
classifier of digit scenes, such as the one that `keras-parc demo` trains.
"""

import csv
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_parc.evaluate import class_scores, top_k_accuracy
from keras_parc.files import replacing
from keras_parc.lite import int8
from keras_parc.lite.convert import to_tflite
from keras_parc.lite.int8_trials import TRIALS
from keras_parc.lite.process import conversion_process
from keras_parc.lite.runtime import TFLiteModel

STEPS = (  # Name, kept in the export, how ranges are chosen, images, what else is done.
    ("min/max by the converter's calibrator", False, "converter", 300, None),
    ("min/max of tensors kept apart", True, "minmax", 300, None),
    ("least squared error", True, "mse", 300, None),
    ("least squared error behind the activation", True, "mse_seen", 300, None),
    ("the same, 50 images", False, "mse_seen", 50, None),
    ("the same, 100 images", False, "mse_seen", 100, None),
    ("the same, 500 images", False, "mse_seen", 500, None),
    ("min/max, biases corrected", False, "minmax", 300, "correct_biases"),
    ("min/max, channels equalized", False, "minmax", 300, "equalize"),
    ("behind the activation, biases corrected", False, "mse_seen", 300, "correct_biases"),
    ("behind the activation, channels equalized", False, "mse_seen", 300, "equalize"),
)
COLUMNS = ("step", "in_export", "images", "top1_float", "top1_int8", "agreement", "logits_snr_db")


def measure_steps(model: keras.Model, training: np.ndarray, images: np.ndarray, labels) -> list:
    """Measure every step on a classifier.

    Args:
        model: A Keras classifier.
        training: `(n, height, width, channels)` images to calibrate on, 500 or more.
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
            path.write_bytes(_quantized(content, training[:count], method, trial))
            found = class_scores(TFLiteModel(path), images)
            rows.append(
                (
                    name,
                    "yes" if kept else "no",
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


def _quantized(content: bytes, images, method: str, trial: str | None) -> bytes:
    before, after = TRIALS.get(trial, (None, None))
    if before is not None:
        content = before(content, images[:100])
    if method == "converter":
        return _by_converter(content, images)
    result = int8.quantize(content, images, method=method)
    return after(content, result, images[:100]) if after is not None else result


def _by_converter(content: bytes, images) -> bytes:
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    calibrated = Calibrator(content).calibrate(lambda: ([image[None]] for image in images))
    return mlir_quantize(calibrated)


def _decibels(expected: np.ndarray, found: np.ndarray) -> float:
    expected, found = (each - each.mean(1, keepdims=True) for each in (expected, found))
    return float(10 * np.log10(np.sum(expected**2) / np.sum((found - expected) ** 2)))


def main(model_path: str, out: str) -> None:
    """Measure a model of digit scenes, 1000 test images, and write the table."""
    from keras_parc.data import SceneConfig, digit_scenes

    model = keras.models.load_model(model_path, compile=False)
    config = SceneConfig(image_size=model.input_shape[1:3])
    test = digit_scenes("test", 1000, config)
    training = digit_scenes("train", 500, config).image.astype("float32")
    rows = measure_steps(model, training, test.image.astype("float32"), test.label)
    with replacing(Path(out)) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("model", *COLUMNS))
        writer.writerows((model.name, *row) for row in rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
