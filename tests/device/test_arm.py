"""What the tools and the runtimes do on ARM Linux, under emulation."""

import csv
import sys
from pathlib import Path

import keras
import masks
import numpy as np
import pytest
import tensorflow as tf
from clients import ARM, EMULATION, TARGETS, TOOLS, command
from PIL import Image
from tflite_models import HALVES, attach_metadata, conv_net, convert, half_white, halves

import keras_parc

RUN_ARM = EMULATION / "run_arm"

pytestmark = [pytest.mark.arm, pytest.mark.usefixtures("emulation")]
on_each_target = pytest.mark.parametrize("target", TARGETS)


def compare(folder, *arguments):
    """Run compare.py; return its exit code and its rows by model and target."""
    path = folder / "rows.csv"
    done = command(sys.executable, EMULATION / "compare.py", *arguments, "--csv", path)
    assert done.returncode in (0, 1), done.stderr
    with open(path) as file:
        return done.returncode, {(row["model"], row["target"]): row for row in csv.DictReader(file)}


def pictures():
    """Eight 96 x 96 images of coloured squares: noise would drown in quantization noise."""
    squares = np.random.default_rng(1).integers(0, 256, (8, 6, 6, 3))
    return squares.repeat(16, 1).repeat(16, 2).astype(np.float32)


def mobilenet():
    """MobileNetV2 x0.35 with random weights, its statistics fitted to the pictures: 1.7 MB."""
    keras.utils.set_random_seed(0)
    image = keras.Input((96, 96, 3))
    backbone = keras.applications.MobileNetV2(
        input_tensor=keras.layers.Rescaling(1 / 127.5, -1)(image),
        alpha=0.35,
        weights=None,
        classes=10,
        classifier_activation=None,
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0
    backbone([pictures()], training=True)
    return backbone


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arm")


def dense(biased):
    """Four rows through one dense layer: int8, it has one scale per output channel."""
    kernel = np.random.default_rng(2).normal(size=(8, 16)).astype(np.float32)
    bias = np.arange(16, dtype=np.float32) * biased
    return lambda rows: (
        tf.matmul(rows / 64 - 2, kernel) + bias if biased else tf.matmul(rows, kernel)
    )


@pytest.fixture(scope="session")
def models(folder):
    """Paths of a small and a medium model, in float and in int8."""
    paths = {}
    backbone = mobilenet()
    variables = [variable.value for variable in backbone.variables]
    for name, io in [("float", None), ("int8", tf.float32)]:
        paths[f"small_{name}"] = convert(folder / f"small_{name}.tflite", conv_net(), io=io)
        paths[f"medium_{name}"] = convert(
            folder / f"medium_{name}.tflite",
            lambda image: backbone([image], training=False),
            shape=(1, 96, 96, 3),
            io=io,
            images=pictures()[:, None],
            variables=variables,
        )
    return paths


@pytest.fixture(scope="session")
def rows(folder, models):
    """What compare.py found: one image of squares through all models on all targets."""
    found = {}
    for name, side in [("small", 32), ("medium", 96)]:
        image = pictures()[:1, :side, :side]
        np.savez(folder / f"{name}.npz", input_0=image)
        files = [models[f"{name}_float"], models[f"{name}_int8"]]
        code, some = compare(folder, *files, "--inputs", folder / f"{name}.npz")
        assert code == 0, some
        found.update(some)
    return found


@on_each_target
@pytest.mark.parametrize("size", ["small", "medium"])
def test_arm_computes_what_x86_computes(rows, size, target):
    float_row, int8_row = (rows[f"{size}_{dtype}.tflite", target] for dtype in ("float", "int8"))
    assert 0 < float(float_row["rel"]) < 1e-4  # 0 would mean that both ran on one machine
    assert float(int8_row["lsb"]) <= 4
    for row in (float_row, int8_row):
        assert (row["verdict"], row["top1_same"]) == ("ok", "True")
        assert row["machine"] == ("aarch64" if target == "arm64" else "armv7l")
        assert (int(row["partitions"]) > 0) == (target != "armv7")  # that wheel has no XNNPACK


def test_instruction_counts(folder, models, rows):
    """They repeat to 0.1 %, grow with the model, and XNNPACK needs fewer."""
    _, again = compare(folder, models["small_float"], "--targets", "armv7x")
    count = {key: int(row["instructions"]) for key, row in rows.items()}
    first = count["small_float.tflite", "armv7x"]
    assert int(again["small_float.tflite", "armv7x"]["instructions"]) == pytest.approx(first, 1e-3)
    assert first > 50_000
    assert count["medium_float.tflite", "armv7x"] > 5 * first
    for model in ("medium_float.tflite", "medium_int8.tflite"):
        assert count[model, "armv7x"] < 0.7 * count[model, "armv7"]


def test_a_difference_is_found(folder, models):
    arguments = [models["small_float"], "--targets", "armv7", "arm64", "--rel", 0]
    code, found = compare(folder, *arguments)
    assert code == 1
    assert {row["verdict"] for row in found.values()} == {"differs"}


def test_dense_layer_without_bias_crashes_armv7(folder):
    """A fault of the ARMv7 built-in kernels: int8, a scale per channel, no bias, several rows.

    Known and not ours to mend; what matters here is that the tools say so, not going quiet.
    """
    for biased in (True, False):
        path = folder / f"dense_{biased}.tflite"
        convert(path, dense(biased), shape=(4, 8), io=tf.float32)
        code, found = compare(folder, path)
        verdicts = [found[path.name, target]["verdict"] for target in TARGETS]
        crashes = ["crashed on armv7x: SIGSEGV", "crashed on armv7: SIGSEGV", "ok"]
        assert (code, verdicts) == ((0, ["ok"] * 3) if biased else (1, crashes))
    done = command(RUN_ARM, "armv7x", EMULATION / "infer.py", path, folder / "o.npz")
    assert done.returncode == 128 + 11
    assert "run_arm: killed by SIGSEGV on armv7x" in done.stderr


def test_our_dense_layer_without_bias_runs(folder):
    """The export keeps clear of that fault."""
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Dense(16, use_bias=False)(image))
    path = keras_parc.to_tflite(
        model,
        folder / "our_dense.tflite",
        quantize="int8",
        calibration=pictures()[:, :32:4, :32:4] / 255,
    )
    code, found = compare(folder, path)
    assert code == 0, found


@on_each_target
def test_the_tools_run_on_the_device(folder, target):
    """run.py, benchmark.py and memory.py, as they are, on the device's Python."""
    model = convert(folder / "halves.tflite", halves)
    attach_metadata(model, [0.0], [1.0], ["probability"], HALVES)
    image = half_white(folder, "left.jpg", (0, 0, 32, 64))
    done = command(RUN_ARM, target, TOOLS / "run.py", image, model, "--top", 1)
    here = command(sys.executable, TOOLS / "run.py", image, model, "--top", 1)
    assert done.returncode == 0, done.stderr
    assert "left" in done.stdout
    assert done.stdout == here.stdout
    done = command(RUN_ARM, target, TOOLS / "benchmark.py", model, model, "--runs", 3)
    assert done.returncode == 0, done.stderr
    assert "tflite-runtime 2.1" in done.stdout or "ai-edge-litert 2.3" in done.stdout
    done = command(RUN_ARM, target, TOOLS / "memory.py", model)
    assert (done.returncode, "halves.tflite  arena" in done.stdout) == (0, True), done.stderr
    done = command(RUN_ARM, target, TOOLS / "run.py", image, TOOLS / "run.py")
    assert (done.returncode, "is not a .tflite" in done.stderr) == (2, True)
    (folder / "cut.tflite").write_bytes(Path(model).read_bytes()[:-2000])
    done = command(RUN_ARM, target, TOOLS / "run.py", image, folder / "cut.tflite")
    assert (done.returncode, "cut.tflite is damaged" in done.stderr) == (2, True)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_detectors(folder, detector_files, found_by_keras, quantize):
    """Every target finds what this machine finds, and run.py prints it."""
    images, _ = found_by_keras
    path, raw = (detector_files[quantize, is_raw] for is_raw in (False, True))
    np.savez(folder / "squares.npz", input_0=images[1:2])
    # int8 operations outside XNNPACK round otherwise.
    arguments = [path, raw, "--inputs", folder / "squares.npz", "--rel", 0.05 if quantize else 1e-4]
    code, rows = compare(folder, *arguments)
    assert code == 0, rows
    assert {row["top1_same"] for row in rows.values()} == {"True"}
    image = folder / "square.png"
    Image.fromarray(images[1].astype("uint8")).save(image)
    here = command(sys.executable, TOOLS / "run.py", image, path, "--top", 1)
    label = here.stdout.split()[2]
    assert label in ("dark", "bright")
    for target in TARGETS:
        done = command(RUN_ARM, target, TOOLS / "run.py", image, path, "--top", 1)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[2] == label
        if not quantize:
            assert done.stdout == here.stdout


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_segmenters(folder, segmenter_files, quantize):
    """Every target finds what this machine finds, and run.py paints it."""
    images, _ = masks.images_and_masks(2, seed=2)
    path = segmenter_files[quantize, "float32"]
    np.savez(folder / "masks.npz", input_0=images[1:2])
    # int8 operations outside XNNPACK round otherwise.
    arguments = [path, "--inputs", folder / "masks.npz", "--rel", 0.05 if quantize else 1e-4]
    code, rows = compare(folder, *arguments)
    assert code == 0, rows
    image, painted = folder / "mask.png", folder / "painted.png"
    Image.fromarray(images[1].astype("uint8")).save(image)
    here = command(sys.executable, TOOLS / "run.py", image, path, "--paint", painted)
    assert here.returncode == 0, here.stderr
    expected = np.asarray(Image.open(painted)).astype(int)
    for target in TARGETS:
        done = command(RUN_ARM, target, TOOLS / "run.py", image, path, "--paint", painted)
        assert done.returncode == 0, done.stderr
        assert (np.asarray(Image.open(painted)) != expected).any(-1).mean() <= 0.02


@on_each_target
def test_the_launcher_alone_is_enough(target):
    """A target is a folder to copy to a device: it runs on a Linux with no library of its own."""
    qemu = ARM / "qemu"
    libraries = [qemu / "lib" / "x86_64-linux-gnu", qemu / "usr" / "lib" / "x86_64-linux-gnu"]
    emulator = "qemu-aarch64" if target == "arm64" else "qemu-arm"
    words = [libraries[0] / "ld-linux-x86-64.so.2", "--library-path", ":".join(map(str, libraries))]
    words.append(qemu / "usr" / "bin" / emulator)
    code = "import sys, numpy, PIL.Image; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    done = command(ARM / target / "python", "-c", code, EMULATOR="\n".join(map(str, words)))
    assert done.stdout.split() == [TARGETS[target], str(ARM / target / "usr")], done.stderr


def test_setup_finishes_what_was_left(tmp_path):
    """Downloads are kept, half-made folders are not taken for done, what is done is left alone."""
    (tmp_path / ".cache").symlink_to(ARM / ".cache")
    (tmp_path / "qemu").symlink_to(ARM / "qemu")
    (tmp_path / "armv7x" / "usr").mkdir(parents=True)
    (tmp_path / ".build" / "armv7x").mkdir(parents=True)
    (tmp_path / ".build" / "armv7x" / "python").write_text("half-written")
    offline = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
    for is_made in (True, False):
        done = command(EMULATION / "setup.sh", tmp_path, "armv7x", **offline)
        assert done.returncode == 0, done.stderr
        assert ("tflite_runtime 2.12.0 on armv7l" in done.stdout) == is_made
    assert not (tmp_path / ".build").exists()
    assert (tmp_path / "armv7x" / "python").exists()


def test_a_target_that_is_not_there(tmp_path):
    done = command(RUN_ARM, "armv7x", "x.py", KERAS_PARC_ARM=tmp_path)
    assert (done.returncode, "setup.sh" in done.stderr) == (2, True)
