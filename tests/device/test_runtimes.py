"""The same files on every runtime: they load, they agree. `make runtimes` writes down the figures.

With --runtimes-csv every runtime gets the files of both targets of `to_tflite`, of 256x256;
without, those meant for it, at sizes that keep the emulation short: only then the reference kernels
are held to their limit.
"""

import functools
import itertools
import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from clients import MEDIAPIPE, WEB, compare, mediapipe, python_says, shown
from every_model import LABELS, MODELS, pictures, taught
from PIL import Image

import keras_parc
from keras_parc.lite.file.delegation import outside
from keras_parc.lite.file.metadata import Metadata

# Runtime: the target of `to_tflite` meant for it, the marker of its tests, what it needs.
RUNTIMES = {
    "litert": ("litert", None, None),  # this machine's, against Keras: for the table only
    "x86": ("portable", "arm", "emulation"),
    "armv7x": ("portable", "arm", "emulation"),
    "armv7": ("portable", "arm", "emulation"),
    "arm64": ("litert", "arm", "emulation"),
    "mediapipe": ("litert", "mediapipe", "mediapipe_environment"),
    "browser": ("litert", "web", "browse"),
}
LIMITS = {"lsb": 4, "rel": 1e-4, "probability": 1e-4}
# What XNNPACK does not take runs in a runtime's own optimized kernels, which round int8 otherwise
# on each machine, by a step an operation: then the limits above are for its reference kernels. Of
# the optimized ones in float32, only LOGISTIC on ARMv7 is much worse: 6.8e-6, elsewhere 2e-7.
LOGISTIC_OF_ARMV7 = 7e-6
COLUMNS = ["model", "size", "dtype", "target", "runtime", "version", "partitions", "outside"]
COLUMNS += ["difference", "unit", "top1_same", "reference_difference", "noise"]


def pytest_generate_tests(metafunc):
    full = metafunc.config.getoption("runtimes_csv")
    rows = []
    for case in MODELS:
        for quantize, target in itertools.product((None, "int8"), case.targets):
            for runtime, (own, marker, _) in RUNTIMES.items():
                meant = own == target or len(case.targets) == 1
                if case.measured if full else case.emulated and marker and meant:
                    name = f"{case.name}-{quantize or 'fp32'}-{target}-{runtime}"
                    marks = getattr(pytest.mark, marker) if marker else ()
                    values = ((case, quantize, target), runtime)
                    rows.append(pytest.param(*values, marks=marks, id=name))
    metafunc.parametrize(("kind", "runtime"), rows)


@dataclass(frozen=True)
class File:
    """An exported file, one image for it, and what Keras makes of that."""

    model: str
    dtype: str
    target: str
    path: Path
    image: np.ndarray  # (height, width, 3), 0..255
    expected: np.ndarray  # Keras's logits

    @property
    def inputs(self):
        return self.path.with_suffix(".inputs.npz")

    def here(self, kernels="AUTO"):
        """The result of ai-edge-litert on this machine: with XNNPACK, or plain code."""
        path = self.path.with_suffix(f".{kernels}.npz")
        if not path.exists():
            compare.infer(str(self.path), str(path), inputs=self.inputs, kernels=kernels, runs=1)
        return path

    def noise(self):
        """What quantization costs: the root mean square distance from Keras, here."""
        return distance(self.here(), self.expected)


def distance(result, expected):
    return float(np.sqrt(np.mean((logits(result) - expected) ** 2)))


def logits(result):
    with np.load(result) as arrays:
        return arrays["output_0"][0]


@pytest.fixture(scope="module")
def rows(request):
    """The lines of the table; written if no runtime is missing."""
    rows = []
    yield rows
    path = request.config.getoption("runtimes_csv")
    if path:
        found, wanted = len(rows), len(request.session.items)
        assert found == wanted, f"{path} is not written: {found} results, expected {wanted}"
        compare.write_csv(path, rows)


@pytest.fixture(scope="module")
def export(request, tmp_path_factory):
    """The file of a model, a dtype and a target; made once."""

    @functools.cache
    def make(case, quantize, target):
        full = request.config.getoption("runtimes_csv")
        size = case.measured if full else case.emulated
        model, images = taught(case, size), pictures(*size)
        path = keras_parc.to_tflite(
            model,
            tmp_path_factory.mktemp("file") / "model.tflite",
            quantize=quantize,
            calibration=images,
            target=target,
            metadata=Metadata(labels=LABELS),
        )
        expected = np.asarray(model(images[:1], training=False))[0]
        file = File(case.name, quantize or "fp32", target, path, images[0], expected)
        np.savez(file.inputs, input_0=images[:1])
        return file

    return make


def run_tflite(file, runtime, out):
    """A TFLite runtime on this machine or emulated: its facts, and how far it is from here."""
    here = runtime == "litert"
    facts = compare.infer(str(file.path), str(out), None if here else runtime, file.inputs, runs=1)
    with np.load(out) as arrays:
        graph = json.loads(str(arrays["graph"]))
    left = Counter(each["op_name"] for each in outside(graph["nodes"], graph["outputs"]))
    facts = {"version": facts["runtime"], "partitions": facts["partitions"], "outside": left}
    if not here:
        return facts, compare.difference(file.here(compare.KERNELS[runtime]), out)
    reference = out.with_name("keras.npz")
    with np.load(out) as arrays:
        np.savez(reference, output_0=file.expected[None], lsb=arrays["lsb"])
    return facts, compare.difference(reference, out)


def with_reference_kernels(case, file, runtime, out, limited):
    """The difference from here where both run TFLite's reference kernels, which are plain code."""
    arguments = (str(file.path), str(out), runtime, file.inputs, "BUILTIN_REF", 1)
    if runtime in case.without_reference:
        with pytest.raises(compare.ToolError, match="Didn't find op"):
            compare.infer(*arguments)
        return ""
    compare.infer(*arguments)
    found = compare.difference(file.here("BUILTIN_REF"), out)
    assert found.pop("top1_same")
    ((unit, amount),) = found.items()
    assert not limited or amount <= LIMITS[unit]
    return float(f"{amount:.2g}")


def run_mediapipe(file, out):
    """MediaPipe's ImageClassifier, whose scores are the logits."""
    answer = mediapipe("classify", file.path.read_bytes(), file.image[None].astype("uint8"), out)
    (categories,) = answer["results"]
    assert sorted(label for _, label, _ in categories) == LABELS
    scores = np.zeros((1, len(LABELS)), "float32")
    for index, label, score in categories:
        assert label == LABELS[index]
        scores[0, index] = score
    with np.load(file.here()) as arrays:
        np.savez(out / "scores.npz", output_0=scores, lsb=arrays["lsb"])
    version = (MEDIAPIPE / ".recipe").read_text().strip().replace("==", " ")
    return {"version": version}, compare.difference(file.here(), out / "scores.npz")


def run_browser(file, browse, folder):
    """The page: the five best classes, with four digits, against run.py; int8 in its own steps."""
    shutil.copy(file.path, folder / "model.tflite")
    Image.fromarray(file.image.astype("uint8")).save(folder / "picture.png")
    found = [line.split("  ") for line in shown(browse("model.tflite", "picture.png"))]
    expected = [line.split("  ") for line in python_says(file.path, folder / "picture.png")]
    expected = {name: float(score) for score, name in expected}
    assert expected.keys() == {name for _, name in found}
    amount = max(abs(float(score) - expected[name]) for score, name in found)
    with np.load(file.here()) as arrays:
        (step,) = arrays["lsb"]
    difference = {"lsb": round(amount / float(step), 2)} if step else {"probability": amount}
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    version = lock["node_modules/@litertjs/core"]["version"]
    same = found[0][1] == next(iter(expected))
    return {"version": f"@litertjs/core {version}"}, difference | {"top1_same": same}


def test_runs_and_agrees(kind, runtime, export, rows, request, tmp_path):
    full, fixture = request.config.getoption("runtimes_csv"), RUNTIMES[runtime][2]
    needed = fixture and request.getfixturevalue(fixture)
    file, out = export(*kind), tmp_path / "out.npz"
    if runtime == "browser":
        folder = request.getfixturevalue("server").folder
        facts, found = run_browser(file, needed, folder)
    elif runtime == "mediapipe":
        facts, found = run_mediapipe(file, tmp_path)
    else:
        facts, found = run_tflite(file, runtime, out)
    same = found.pop("top1_same")
    ((unit, amount),) = found.items()
    row = dict.fromkeys(COLUMNS, "")
    row.update(model=file.model, dtype=file.dtype, target=file.target, runtime=runtime, **facts)
    row["size"] = "x".join(map(str, file.image.shape[:2]))
    row.update(difference=float(f"{amount:.2g}"), unit=unit, top1_same=same)
    if "outside" in facts and file.dtype == "int8":  # beside this machine's
        row["noise"] = float(f"{distance(out, file.expected) / file.noise():.2f}")
    left = facts.get("outside", {})
    row["outside"] = ", ".join(f"{count} {name}" for name, count in sorted(left.items()))
    if left and runtime in compare.KERNELS:
        reference = tmp_path / "reference.npz"
        found = with_reference_kernels(kind[0], file, runtime, reference, limited=not full)
        row["reference_difference"] = found
    rows.append(row)
    assert same
    if unit == "lsb" and (left or runtime == "litert"):
        # Two ways to round are as far from each other as each is from Keras. Of ten logits the
        # noise of equally good ones differs by less than a factor of 2 in 97 cases of 100.
        assert distance(out, file.expected) <= 2 * file.noise()
    else:
        inexact = left.get("LOGISTIC", 0) if runtime.startswith("armv7") else 0
        assert amount <= LIMITS[unit] + inexact * LOGISTIC_OF_ARMV7
