"""tflite/run.py and tflite/benchmark.py as a user meets them: as commands, on models made here."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tflite_models import (
    HALVES,
    SIDE,
    attach_metadata,
    convert,
    detector,
    half_white,
    halves,
    scores,
)

TOOLS = Path(__file__).parents[2] / "tflite"
sys.path.insert(0, str(TOOLS))
import benchmark  # noqa: E402
import run  # noqa: E402


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tflite")


@pytest.fixture(scope="session")
def model(folder):
    return convert(folder / "halves.tflite", halves)


@pytest.fixture(scope="session")
def labels(folder):
    path = folder / "halves.txt"
    path.write_text("\n".join(HALVES) + "\n")
    return str(path)


@pytest.fixture(scope="session")
def image(folder):
    return half_white(folder, "top.png", (0, 0, 64, 32))


def tool(name, *arguments, env=None):
    command = [sys.executable, TOOLS / name, *map(str, arguments)]
    env = {**os.environ, **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)


def answers(done):
    """The (score, text) pairs run.py printed."""
    assert done.returncode == 0, done.stderr
    return [(float(a), b) for a, b in re.findall(r"^ +([\d.]+)%?  (.+)$", done.stdout, re.M)]


def check_error(done, *words):
    """One line on stderr besides the runtime's own, exit code 2, nothing on stdout."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), (done.stdout, done.stderr)
    for word in words:
        assert str(word) in lines[0], (word, lines[0])


@pytest.mark.parametrize("io", [None, tf.float32, tf.uint8, tf.int8], ids=str)
def test_classification_in_every_dtype(folder, image, labels, io):
    path = convert(folder / f"halves_{getattr(io, 'name', 'float')}.tflite", halves, io=io)
    found = answers(tool("run.py", image, path, "--labels", labels))
    expected = np.exp([8, 4, 4, 0]) / np.exp([8, 4, 4, 0]).sum()
    assert found[0][1] == "top"
    assert [name for _, name in found if name != "top"][-1] == "bottom"
    np.testing.assert_allclose([score for score, _ in found], expected, atol=0.02)


def test_logits_become_probabilities(folder, image):
    path = convert(folder / "logits.tflite", scores)
    found = answers(tool("run.py", image, path, "--top", 2, "--threads", 1))
    assert len(found) == 2
    assert found[0] == (pytest.approx(0.9643, abs=5e-3), "class 0")


def test_image_is_turned_upright(folder, model, labels):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees, clockwise: the top becomes the right
    turned = half_white(folder, "turned.jpg", (0, 0, 64, 32), exif=exif)
    assert answers(tool("run.py", turned, model, "--labels", labels))[0][1] == "right"


def test_centre_crop(folder, model, labels):
    """Of 160x64 the middle 64 are left: white left of x = 80 is the left half, all else is cut."""
    wide = half_white(folder, "wide.png", (0, 0, 80, 64), size=(160, 64))
    score, name = answers(tool("run.py", wide, model, "--labels", labels))[0]
    assert (name, score) == ("left", pytest.approx(0.9643, abs=5e-3))


def test_crop_keeps_eight_ninths():
    """The evaluation rule: the short side goes to 288 where 256 are cut out."""
    ramp = np.tile(np.arange(288)[:, None] // 2, (576, 1, 3)).astype("uint8")
    cut = run.resize(Image.fromarray(ramp), 256, 256, crop=256 / 288)
    np.testing.assert_array_equal(cut, ramp[:256, 16:272])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "I;16", "CMYK", "LA"])
def test_any_mode(folder, image, model, labels, mode):
    path = folder / f"mode_{mode.replace(';', '')}.{'tif' if mode == 'CMYK' else 'png'}"
    if mode == "I;16":
        grey = np.asarray(Image.open(image).convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(path)
    else:
        Image.open(image).convert(mode).save(path)
    assert run.read_image(path).mode == "RGB"
    np.testing.assert_array_equal(run.read_image(path), run.read_image(image))


def test_metadata_normalizes_and_names(folder, image):
    path = convert(folder / "normalized.tflite", lambda image: halves(image * 127.5 + 127.5))
    attach_metadata(path, [127.5], [127.5], ["probability"], HALVES)
    assert run.read_metadata(path) == (
        *([127.5], [127.5], "rgb", 256 / 288, ["probability"], HALVES, True),
    )
    score, name = answers(tool("run.py", image, path))[0]
    assert (name, score) == ("top", pytest.approx(0.9643, abs=5e-3))
    other = answers(tool("run.py", image, path, "--mean", 0, "--std", 1))[0]
    assert other[0] == 1  # 0..255 where -1..1 is expected: overconfident


def test_metadata_with_three_means_for_int8_input(folder, image):
    std = np.float32([64, 128, 255])
    path = convert(
        folder / "three.tflite",
        lambda image: halves(image * std + 100),
        io=tf.int8,
        images=[(np.full((1, SIDE, SIDE, 3), value) - 100) / std for value in np.float32([0, 255])],
    )
    attach_metadata(path, [100.0] * 3, std.tolist(), ["probability"], HALVES)
    score, name = answers(tool("run.py", image, path))[0]
    assert (name, score) == ("top", pytest.approx(0.9643, abs=0.03))


def test_detection_by_name_and_not_past_the_count(folder, labels):
    path = convert(folder / "detector.tflite", detector)
    wide = half_white(folder, "wide_boxes.png", (0, 0, 1, 1), size=(200, 100))
    assert answers(tool("run.py", wide, path, "--labels", labels)) == [
        (0.75, "bottom  x 100 to 200, y 50 to 100"),
        (0.25, "top  x 0 to 50, y 0 to 50"),
    ]


def test_detection_by_metadata_names(folder, image):
    outputs = {"a": "detection_boxes", "b": "detection_classes", "c": "detection_scores"}
    outputs["d"] = "num_detections"
    path = convert(
        folder / "unnamed.tflite",
        lambda image: {name: detector(image)[output] for name, output in outputs.items()},
    )
    check_error(tool("run.py", image, path), "named like 'box'", "'a'")
    # In the file the outputs lie in an order of their own: name them by their shapes.
    interpreter = run.open_model(path)
    signature = interpreter.get_signature_runner().get_output_details()
    index = {detail["index"]: name for name, detail in signature.items()}
    mediapipe = {"a": "location", "b": "category", "c": "score", "d": "number of detections"}
    names = [mediapipe[index[each["index"]]] for each in interpreter.get_output_details()]
    attach_metadata(path, [0.0], [1.0], names, ["cat", "dog"])
    found = answers(tool("run.py", image, path))
    assert [name.split()[0] for _, name in found] == ["dog", "cat"]


def test_segmentation(folder):
    path = convert(folder / "colours.tflite", lambda image: image[:, ::2, ::2] * 2.0)
    picture = Image.new("RGB", (64, 128), (255, 0, 0))
    picture.paste((0, 0, 255), (0, 96, 64, 128))
    picture.save(folder / "colours.png")
    found = answers(tool("run.py", folder / "colours.png", path))
    assert found == [(75.0, "class 0"), (25.0, "class 2")]


def test_several_images(folder, image, model):
    done = tool("run.py", image, image, model, "--top", 1)
    assert done.stdout.count(image) == 2
    assert len(answers(done)) == 2


def test_wrong_images(folder, model):
    check_error(tool("run.py", folder / "no.png", model), "no file", folder / "no.png")
    (folder / "text.jpg").write_text("not an image")
    check_error(tool("run.py", folder / "text.jpg", model), "text.jpg", "not an image")
    cut = folder / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    check_error(tool("run.py", cut, model), "cut.png", "not an image")


@pytest.mark.parametrize("name", ["run.py", "benchmark.py", "memory.py"])
def test_wrong_models(folder, image, model, name):
    before = [image] if name == "run.py" else []
    check_error(tool(name, *before, folder / "no.tflite"), "no.tflite", "No such file")
    check_error(tool(name, *before, image), "is not a .tflite", "TFL3")
    (folder / "cut.tflite").write_bytes(Path(model).read_bytes()[:5000])
    check_error(tool(name, *before, folder / "cut.tflite"), "cut.tflite is damaged", "copy or")


def test_model_of_another_kind(folder, image):
    flat = convert(folder / "flat.tflite", lambda x: x * 2.0, shape=(1, 8))
    check_error(tool("run.py", image, flat), "(1, height, width, 3)", "(1, 8)")
    three = convert(folder / "three_outputs.tflite", lambda x: {"a": x, "b": x + 1, "c": x + 2})
    check_error(tool("run.py", image, three), "expected 1 output", "has 3")


def test_wrong_labels(folder, image, model):
    (folder / "two.txt").write_text("a\nb\n")
    check_error(tool("run.py", image, model, "--labels", folder / "two.txt"), "4 labels", "got 2")
    check_error(tool("run.py", image, model, "--labels", folder / "no.txt"), "no.txt")


def test_damaged_metadata(folder, image, model):
    path = folder / "damaged.tflite"
    path.write_bytes(Path(model).read_bytes())
    attach_metadata(path, [127.5], [127.5], ["probability"], HALVES)
    data = path.read_bytes()
    start = data.index(b"M001") - 4
    path.write_bytes(data[:start] + b"\xff" * 24 + data[start + 24 :])
    check_error(tool("run.py", image, path), "metadata", "damaged")


@pytest.mark.parametrize("name", ["run.py", "benchmark.py"])
def test_without_a_runtime(tmp_path, image, model, name):
    for runtime in run.RUNTIMES:
        (tmp_path / f"{runtime}.py").write_text("raise ImportError('not here')")
    before = [image] if name == "run.py" else []
    done = tool(name, *before, model, env={"PYTHONPATH": str(tmp_path)})
    check_error(done, "pip install ai-edge-litert", "not here")


def test_without_pillow(tmp_path, image, model):
    (tmp_path / "PIL.py").write_text("raise ImportError('not here')")
    check_error(
        tool("run.py", image, model, env={"PYTHONPATH": str(tmp_path)}), "pip install pillow"
    )
    done = tool("benchmark.py", model, "--runs", 1, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_memory(folder, model):
    """What a model takes grows with its weights and with the maps it makes."""
    kernel = np.ones((2048, 4096), "float32")  # 32 MB
    weights = convert(folder / "weights.tflite", lambda x: x @ kernel, shape=(1, 2048))
    maps = convert(
        folder / "maps.tflite",  # 64 MB
        lambda x: tf.nn.conv2d(x, tf.ones((1, 1, 3, 16)), 1, "SAME"),
        shape=(1, 1024, 1024, 3),
    )
    path = folder / "memory.csv"
    done = tool("memory.py", model, weights, maps, "--csv", path)
    assert done.returncode == 0, done.stderr
    with open(path) as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    small, heavy, wide = (rows[f"{name}.tflite"] for name in ("halves", "weights", "maps"))
    assert float(heavy["file_mb"]) == pytest.approx(kernel.nbytes / 1e6, rel=0.01)
    assert float(heavy["loaded_mb"]) > float(small["loaded_mb"]) + 20
    # An image of 3 channels and 16 maps of 1024 x 1024 numbers of 4 bytes.
    assert float(wide["arena_mb"]) == pytest.approx(4 * (3 + 16), rel=0.01)
    assert float(heavy["arena_mb"]) < 0.1
    for row, least in ((small, 0), (wide, 50)):
        assert float(row["peak_mb"]) >= float(row["loaded_mb"])
        assert float(row["peak_mb"]) > float(small["peak_mb"]) - 1 + least


def changed_memory(change, model):
    """memory.py after a line of code; not here, where the runtime is imported already."""
    code = f"import os, sys, memory; {change}; sys.exit(memory.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, model]
    env = {**os.environ, "PYTHONPATH": str(TOOLS)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)


def test_memory_needs_no_command_for_python(model):
    """On a device a launcher starts Python, past which it cannot be started."""
    done = changed_memory("sys.executable = os.devnull", model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("halves.tflite  arena ")


def test_memory_of_a_file_that_ends_the_runtime(model):
    done = changed_memory("memory.open_model = lambda *arguments: os.abort()", model)
    check_error(done, f"error: the runtime dies of {model}: copy or export it again")


def test_benchmark_table_and_csv(folder, model):
    heavy = convert(
        folder / "heavy.tflite",
        lambda image: tf.nn.conv2d(image, tf.ones((9, 9, 3, 64)) / 243, 1, "SAME"),
    )
    path = folder / "times.csv"
    arguments = [model, heavy, "--runs", 9, "--warmup", 2, "--cpus", 0, "--csv", path]
    done = tool("benchmark.py", *arguments)
    assert done.returncode == 0, done.stderr
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == [model, heavy]
    assert float(rows[0]["ratio"]) == 1
    assert float(rows[1]["ratio"]) > 2
    for row in rows:
        low, p10, median, p90 = (float(row[f"{n}_ms"]) for n in ("min", "p10", "median", "p90"))
        assert 0 < low <= p10 <= median <= p90
        assert row["runtime"].startswith("ai-edge-litert ")
        assert (row["runs"], row["threads"], row["cpus"]) == ("9", "1", "0")
        assert row["model"] in done.stdout
    assert not Path(f"{path}.part").exists()


def test_benchmark_statistics():
    rows = benchmark.summarize(["a", "b"], np.float64([[1, 2], [2, 4], [9, 18]]))
    assert [row["median_ms"] for row in rows] == [2, 4]
    assert rows[1] == {
        "model": "b",
        "median_ms": 4,
        "p10_ms": 2.4,
        "p90_ms": 15.2,
        "min_ms": 2,
        "ratio": 2,
    }


def test_benchmark_takes_turns(monkeypatch):
    """Warm-up rounds are run and not counted; the models alternate."""
    calls, now = [], [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])

    class Fake:
        def __init__(self, name):
            self.name = name

        def invoke(self):
            now[0] += 1 if len(calls) < 2 else 0.002 if self.name == "a" else 0.003
            calls.append(self.name)

    times = benchmark.measure([Fake("a"), Fake("b")], runs=2, warmup=1)
    np.testing.assert_allclose(times, [[2, 3], [2, 3]])
    assert calls == ["a", "b"] * 3


def test_benchmark_reads_sensors(tmp_path):
    for zone, kind, value in [("0", "cpu-thermal", "48250"), ("1", "gpu-thermal", "99000")]:
        folder = tmp_path / "class" / "thermal" / f"thermal_zone{zone}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(f"{kind}\n")
        (folder / "temp").write_text(f"{value}\n")
    for cpu, word in [("0", "ondemand"), ("1", "performance"), ("2", "ondemand")]:
        folder = tmp_path / "devices" / "system" / "cpu" / f"cpu{cpu}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{word}\n")
    assert benchmark.temperature(tmp_path) == 48.25
    assert benchmark.governor(tmp_path) == "ondemand+performance"
    assert benchmark.temperature(tmp_path / "none") is None
    assert benchmark.governor(tmp_path / "none") == ""


def test_benchmark_mistakes(folder, model):
    check_error(tool("benchmark.py", model, "--cpus", "0,many"), "0,many", "expected 0,1")
    done = tool("benchmark.py", model, "--runs", 0)
    assert (done.returncode, "expected 1 or more" in done.stderr) == (2, True)
    done = tool("benchmark.py", model, "--runs", 1, "--csv", folder / "none" / "x.csv")
    assert (done.returncode, "cannot write" in done.stderr) == (2, True)


def test_emulation_says_what_is_missing(tmp_path):
    """On a machine without apt the set-up stops with code 3, which the ARM tests take as a skip."""
    for name in ("sh", "uname", "cat", "cksum", "dirname", "mkdir"):
        (tmp_path / name).symlink_to(shutil.which(name))
    command = [shutil.which("sh"), TOOLS / "emulation" / "setup.sh"]
    env = {"PATH": str(tmp_path)}
    done = subprocess.run([*command, tmp_path / "arm"], env=env, capture_output=True, text=True)
    assert (done.returncode, "apt-get" in done.stderr) == (3, True), done.stderr
    done = subprocess.run(
        [*command, tmp_path / "arm", "mips"], env=env, capture_output=True, text=True
    )
    assert (done.returncode, "got mips" in done.stderr) == (2, True), done.stderr
