"""Files for NPUs: compiled by Vela, and run in TensorFlow Lite for microcontrollers.

The reference kernels, that runtime and an Ethos-U compute the same integers. Optimized kernels and
XNNPACK round otherwise, which the tests of other targets compare.
"""

import csv
import subprocess
import sys

import keras
import numpy as np
import pytest
from clients import NPU, TOOLS, micro
from rewritten import enliven

import keras_parc
from keras_parc.models.registry import find_model

pytestmark = [pytest.mark.npu, pytest.mark.usefixtures("npu_environment")]

VELA = NPU / "venv/bin/vela"
SIDE, CLASSES = 64, 10
# What else each has: TFLite Micro has no GELU, an Ethos-U does.
MODELS = {
    "parc_net_xs": True,
    "parc_resnet50": True,
    "parc_mobilenet_v2": True,
    "parc_convnext_xt": False,
    "mobilevit_s": True,
    "efficientnet_lite0": True,
    "mobilenet_v3_small": True,
}


def exported(key, folder, activation=None, **arguments):
    keras.utils.set_random_seed(0)
    shape = (SIDE, SIDE, 3)
    facts = {"classes": CLASSES, "classifier_activation": activation}
    model = find_model(key).build(input_shape=shape, include_preprocessing=True, **facts)
    enliven(model)
    images = np.random.default_rng(0).integers(0, 256, (8, *shape)).astype("float32")
    path = folder / f"{key}.tflite"
    keras_parc.to_tflite(
        model, path, quantize="int8", calibration=images, **({"target": "npu"} | arguments)
    )
    return path


def estimated(*arguments):
    """The tool's exit code, and its rows."""
    csv_file = arguments[0].with_suffix(".csv")
    command = [sys.executable, TOOLS / "npu.py", *arguments, "--vela", VELA, "--csv", csv_file]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert not done.stderr, done.stderr
    with open(csv_file, newline="") as file:
        return done.returncode, list(csv.DictReader(file))


def by_reference_kernels(path, inputs):
    """Raw outputs, one operation after the other."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    (first,), (last,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for value in inputs:
        interpreter.set_tensor(first["index"], value)
        interpreter.invoke()
        found.append(interpreter.get_tensor(last["index"]))
    return np.stack(found)


@pytest.mark.parametrize(
    ("key", "activation"), [("parc_net_tiny", "softmax"), *((key, None) for key in MODELS)]
)
def test_vela_leaves_nothing_to_the_cpu(key, activation, tmp_path):
    """Also in TFLite Micro: the same integers."""
    path = exported(key, tmp_path, activation)
    status, rows = estimated(path)
    assert [row["on_cpu"] for row in rows] == ["0"] * 3
    assert status == 0
    assert all(float(row["ms"]) > 0 and int(row["sram_kib"]) > 0 for row in rows)
    inputs = np.random.default_rng(1).integers(-128, 128, (3, 1, SIDE, SIDE, 3)).astype("int8")
    reference = by_reference_kernels(path, inputs)
    assert reference.dtype == np.int8
    assert np.ptp(reference.astype(int)) > 100
    if MODELS.get(key, True):
        np.testing.assert_array_equal(micro(path, inputs, tmp_path), reference)


def test_the_tool_says_what_is_left_to_the_cpu(tmp_path):
    path = exported("parc_net_tiny", tmp_path, "softmax", target="litert", io="int8")
    status, (row,) = estimated(path, "--npu", "ethos-u55-128")
    assert status == 1
    assert (row["on_cpu"], row["cpu"]) == ("3", "Dequantize Quantize Softmax")
