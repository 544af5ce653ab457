"""One model of the zoo in one precision, converted in three ways, measured and timed.

`python -m experiments.zoo_row MODEL PRECISION FOLDER STEP...` is the child process of
`experiments.export_zoo`: each step, a way or "time", leaves `FOLDER/STEP.json`.
"""

import json
import re
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from experiments.zoo_models import MODELS, ZooModel
from keras_parc.lite.convert import to_tflite
from keras_parc.lite.file.delegation import outside
from keras_parc.lite.file.runtime import open_file
from keras_parc.support import compat
from keras_parc.support.files import replacing
from keras_parc.support.timing import interleaved

PRECISIONS = {"float32": None, "int8": "int8"}
BASE = "plain, batch 1"  # what times are relative to
TIME = "time"
CALIBRATION, TEST = 16, 8  # images
MEMORY = 18 << 30  # bytes of addresses: a conversion that takes more ends, not the machine
ROUNDS = 30
Arrays = list[np.ndarray]


def ours(model: keras.Model, path: Path, precision: str, images: Arrays) -> None:
    """Convert a model with `keras_parc.to_tflite`."""
    names = [each.name for each in model.inputs]
    several = [dict(zip(names, each, strict=True)) for each in zip(*images, strict=True)]
    calibration = images[0] if len(images) == 1 else several
    to_tflite(model, path, quantize=PRECISIONS[precision], calibration=calibration)


def plain(model: keras.Model, path: Path, precision: str, images: Arrays) -> None:
    """Convert a model as TensorFlow's documentation does."""
    import tensorflow as tf

    _finish(tf.lite.TFLiteConverter.from_keras_model(model), path, precision, images)


def plain_batch_1(model: keras.Model, path: Path, precision: str, images: Arrays) -> None:
    """Convert a function of one image: which alone removes many partitions."""
    import tensorflow as tf

    names = [each.name for each in model.inputs]
    specs = [
        tf.TensorSpec((1, *each.shape[1:]), tf.float32, name)
        for each, name in zip(model.inputs, names, strict=True)
    ]

    def call(*inputs):
        return model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", call, input_signature=specs)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        _finish(tf.lite.TFLiteConverter.from_saved_model(folder), path, precision, images)


def _finish(converter, path: Path, precision: str, images: Arrays) -> None:
    import tensorflow as tf

    if precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # Post-training quantization with the inputs and outputs left in float32, as ours are.
        converter.representative_dataset = lambda: (
            [each[None] for each in one] for one in zip(*images, strict=True)
        )
    with replacing(path) as temporary:
        temporary.write_bytes(converter.convert())


WAYS: dict[str, Callable] = {"ours": ours, "plain": plain, BASE: plain_batch_1}


class Runner:
    """A file as a function of one input for each of the model's."""

    def __init__(self, path: Path, model: keras.Model):
        self.interpreter = open_file(path)
        signature = self.interpreter.get_signature_runner()
        inputs, outputs = signature.get_input_details(), signature.get_output_details()
        names = [each.name for each in model.inputs]
        if set(names) != set(inputs):  # a converter's own names, which count them
            names = sorted(inputs)
        self._inputs = [inputs[name] for name in names]
        self._outputs = [outputs[name]["index"] for name in sorted(outputs)]

    def set(self, inputs: Arrays) -> None:
        for detail, value in zip(self._inputs, inputs, strict=True):
            self.interpreter.set_tensor(detail["index"], value[None])

    def __call__(self, inputs: Arrays) -> Arrays:
        self.set(inputs)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(index)[0] for index in self._outputs]

    def parts(self) -> tuple[int, int]:
        """Partitions, and operations outside XNNPACK."""
        nodes = compat.operation_details(self.interpreter)
        partitions = sum(node["op_name"] == "DELEGATE" for node in nodes)
        return partitions, len(outside(nodes, self._outputs))


def differences(expected: list[Arrays], found: list[Arrays]) -> tuple[float, float]:
    """`max|a - b| / max|b|`, and the ratio of signal to noise in dB, of the worst output."""
    worst, decibels = [], []
    for wanted, got in zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True):
        b, a = np.stack(wanted).astype("float64"), np.stack(got).astype("float64")
        worst.append(np.abs(a - b).max() / np.abs(b).max())
        noise = np.mean((a - b) ** 2)
        decibels.append(10 * np.log10(np.mean(b**2) / noise) if noise else np.inf)
    return float(np.max(worst)), float(np.min(decibels))  # NaN if one is


def measure(zoo: ZooModel, model: keras.Model, way: str, precision: str, path: Path) -> dict:
    """Convert a model and describe the file.

    Returns:
        `converts`, "yes" or a line that says why not, and what the table has of a file.
    """
    try:
        WAYS[way](model, path, precision, zoo.inputs(model, CALIBRATION, seed=1))
        run = Runner(path, model)
        inputs = [list(one) for one in zip(*zoo.inputs(model, TEST, seed=2), strict=True)]
        found = [run(one) for one in inputs]
        expected = [_outputs(model, one) for one in inputs]
        difference, decibels = differences(expected, found)
        partitions, left = run.parts()
    except Exception as error:  # whatever a converter raises is a result
        return {"converts": one_line(error)}
    return {
        "converts": "yes",
        "difference": f"{difference:.2g}",
        "decibels": f"{decibels:.1f}",
        "partitions": partitions,
        "outside": left,
        "megabytes": f"{path.stat().st_size / 1e6:.2f}",
    }


def _outputs(model: keras.Model, inputs: Arrays) -> Arrays:
    batch = [each[None] for each in inputs]
    outputs = model(batch[0] if len(batch) == 1 else batch, training=False)
    return [keras.ops.convert_to_numpy(each)[0] for each in keras.tree.flatten(outputs)]


def one_line(error: Exception) -> str:
    """Why a conversion failed, in one line: the operations that are not built in, if it is that."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    missing = re.search(r"(?:TF Select|Custom) ops: ([^\n]*)", text)
    if missing:
        return f"operations that are not built in: {missing[1]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [repr(error)]
    if lines[0].startswith("Exception encountered when calling") and len(lines) > 1:
        lines[0] = f"{lines[0]} {lines[1]}"  # Keras: where, then what
    named = [line for line in lines if "error:" in line] or lines
    return f"{type(error).__name__}: {named[0][:200]}"


def times(zoo: ZooModel, model: keras.Model, folder: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of each file in `folder`, taking turns, and the ratio to `BASE`'s."""
    inputs = [each[0] for each in zoo.inputs(model, 1, seed=3)]
    runners = {
        way: Runner(folder / f"{way}.tflite", model)
        for way in (BASE, *WAYS)
        if (folder / f"{way}.tflite").exists()
    }
    for each in runners.values():
        each.set(inputs)
    found = interleaved({k: v.interpreter.invoke for k, v in runners.items()}, rounds=ROUNDS)
    return {
        way: {
            "milliseconds": f"{each['median_ms']:.3g}",
            "ratio": f"{each['ratio']:.3f}" if BASE in runners else "",
        }
        for way, each in found.items()
    }


def main(key: str, precision: str, folder: Path, steps: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    zoo = next(each for each in MODELS if each.key == key)
    model = zoo.build()
    for step in steps:
        if step == TIME:
            result = times(zoo, model, folder)
        else:
            result = measure(zoo, model, step, precision, folder / f"{step}.tflite")
            result["parameters"] = model.count_params()
        with replacing(folder / f"{step}.json") as temporary:
            temporary.write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
