"""keras-parc package: each folder has what its README says, and the model runs there."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree
from pathlib import Path

import keras
import numpy as np
import pytest
from clients import WEB, command, serve
from PIL import Image
from tflite_models import HALVES, SIDE, convert, halves, halves_kernel

import keras_parc
from keras_parc.device import libraries, packing


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files, of which one has labels, and a picture that is bright on the left."""
    folder = tmp_path_factory.mktemp("packed") / "halves"
    folder.mkdir()
    image = keras.Input((SIDE, SIDE, 3))
    dense = keras.layers.Dense(4, use_bias=False, activation="softmax")
    model = keras.Model(image, dense(keras.layers.Flatten()(image)))
    dense.set_weights([halves_kernel()])
    metadata = keras_parc.Metadata(labels=HALVES)
    keras_parc.to_tflite(model, folder / "labelled.tflite", metadata=metadata)
    convert(folder / "plain.tflite", halves)
    pixels = np.zeros((40, 40, 3), "uint8")
    pixels[:, :20] = 255
    Image.fromarray(pixels).save(folder / "left.png")
    return folder


@pytest.fixture
def with_libraries(monkeypatch, tmp_path):
    """The page's libraries, without npm."""
    for name in serve.LIBRARIES:
        (tmp_path / "page" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "page" / name).write_text(name)
    for name in (*serve.PAGE, "serve.py", *libraries.LISTS):
        shutil.copy(WEB / name, tmp_path / "page")
    monkeypatch.setattr(libraries, "PAGE", tmp_path / "page")
    monkeypatch.setattr(packing, "PAGE", tmp_path / "page")


def contents(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}


def test_web(files, run_cli, tmp_path, with_libraries):
    """The server that is in it serves it; another finds the list of models as a file."""
    out = tmp_path / "web"
    status, printed, _ = run_cli("package", files, "--for", "web", "--out", out)
    assert status == 0
    models = {"models/labelled.tflite", "models/plain.tflite", "models.json"}
    assert contents(out) == {
        *(serve.PAGE + serve.LIBRARIES),
        *({"serve.py", "README.md"} | models),
    }
    assert printed.startswith(f"{out}: ")
    assert "README.md" in printed
    with subprocess.Popen(
        [sys.executable, "serve.py", "--port", "0"], cwd=out, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            address = process.stdout.readline().strip()
            with urllib.request.urlopen(address + "models.json") as answer:
                listed = json.load(answer)
            with urllib.request.urlopen(address + "models/plain.tflite") as answer:
                assert answer.read() == (files / "plain.tflite").read_bytes()
        finally:
            process.terminate()
    assert listed == json.loads((out / "models.json").read_text())
    assert {each["name"] for each in listed} == {"labelled.tflite", "plain.tflite"}


def test_pi(files, run_cli, tmp_path, monkeypatch):
    """The command of README, without the environment that it makes first."""
    monkeypatch.chdir(tmp_path)
    assert run_cli("package", files / "labelled.tflite", "--for", "pi")[0] == 0
    out = tmp_path / "labelled_pi"  # the name where none is given
    assert contents(out) == {"labelled.tflite", "README.md", *packing.SCRIPTS}
    (line,) = re.findall(r"venv/bin/python (run\.py .*)", (out / "README.md").read_text())
    words = line.replace("photo.jpg", str(files / "left.png")).split()
    monkeypatch.chdir(out)
    done = command(sys.executable, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].endswith("left")


def test_android(files, run_cli, tmp_path):
    out = tmp_path / "android"
    assert run_cli("package", files, "--for", "android", "--out", out)[0] == 0
    assets = out / "app/src/main/assets"
    assert contents(assets) == {"model.tflite"}
    assert (assets / "model.tflite").read_bytes() == (files / "labelled.tflite").read_bytes()
    values = xml.etree.ElementTree.parse(out / "app/src/main/res/values/model.xml").getroot()
    found = {each.get("name"): each.text for each in values}
    assert found == {"task": "classification", "crop": str(256 / 288), "aspect": "1.0"}
    kotlin = (out / "app/src/main/kotlin/Model.kt").read_text()
    assert all(f"R.string.{name}" in kotlin for name in found)
    assert "Not compiled" in (out / "README.md").read_text()
    for name in contents(out):
        if name.endswith(".xml"):
            xml.etree.ElementTree.parse(out / name)


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_android_of_the_other_tasks(run_cli, tmp_path, detector_files, segmenter_files, task):
    """The sample has a branch for each."""
    file = {
        "detection": detector_files["int8", False],
        "segmentation": segmenter_files["int8", "uint8"],
    }[task]
    assert run_cli("package", file, "--for", "android", "--out", tmp_path / "out")[0] == 0
    values = (tmp_path / "out/app/src/main/res/values/model.xml").read_text()
    assert f">{task}<" in values
    kotlin = (tmp_path / "out/app/src/main/kotlin/Model.kt").read_text()
    assert f'"{task}" -> ' in kotlin


def test_rk3288(files, run_cli, tmp_path):
    """Of a file; of a run: tests/report/test_exporting.py."""
    arguments = ("package", files / "labelled.tflite", "--for", "rk3288", "--out", tmp_path / "out")
    assert run_cli(*arguments)[0] == 0
    setup = {f"setup/{name}" for name in packing.SETUP}
    assert contents(tmp_path / "out") == {
        *("README.md", "labelled.tflite"),
        *(packing.SCRIPTS + tuple(setup)),
    }
    text = (tmp_path / "out/setup/setup.sh").read_text()
    named = set(re.findall(r"\$here/([\w.]+)", text))
    assert named == set(packing.SETUP)  # what it calls is there


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["plain.tflite", "--for", "android"], r"MediaPipe cannot run plain\.tflite: it needs .*"),
        (["none", "--for", "pi"], r"There is no file or folder '.*none'\."),
        (["left.png", "--for", "web"], r"'.*left\.png' is not a \.tflite file: .*"),
        (
            ["plain.tflite", "--for", "ios"],
            r"Invalid value for '--for': There is no device 'ios'.*",
        ),
    ],
)
def test_what_cannot_be_packed_leaves_nothing(files, run_cli, tmp_path, arguments, line):
    model, *rest = arguments
    status, _, errors = run_cli("package", files / model, *rest, "--out", tmp_path / "out")
    assert status == 2
    assert re.fullmatch(f"keras-parc: {line}\n", errors), errors
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_stays_as_it_is(files, run_cli, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    status, _, errors = run_cli("package", files, "--for", "pi", "--out", tmp_path)
    expected = (
        f"keras-parc: There is something in {str(tmp_path)!r} already: give another folder.\n"
    )
    assert (status, errors) == (2, expected)
    assert contents(tmp_path) == {"notes.txt"}


def test_a_file_for_a_newer_runtime(files, run_cli, tmp_path, monkeypatch):
    """ARMv7 has 2.12 at most."""
    monkeypatch.setattr(packing, "ARMV7", "1.0.0")
    arguments = ("package", files / "plain.tflite", "--for", "rk3288", "--out", tmp_path / "out")
    status, _, errors = run_cli(*arguments)
    assert status == 2
    assert re.search(r"'plain\.tflite' needs TensorFlow Lite [\d.]+, ARMv7 has 1\.0\.0", errors)
    assert list(tmp_path.iterdir()) == []
