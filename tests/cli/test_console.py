"""What every command does: choices with a hint, backends, extras, quiet imports."""

import builtins
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import typer
from PIL import Image

import keras_parc
from keras_parc.cli import console
from keras_parc.support.extras import EXTRAS, needs_extra


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--task", "detect"], "no task 'detect'. Did you mean 'detection'? There are cl"),
        (["export", "a.keras", "b", "--quantize", "int4"], "Did you mean 'int8'? There are none,"),
        (["export", "a.keras", "b", "--target", "lite"], "Did you mean 'litert'?"),
        (["export", "a.keras", "b", "--io", "int"], "There are float32, uint8, int8."),
        (["evaluate", "a.keras", "--protocol", "author"], "Did you mean 'authors'?"),
        (["benchmark", "--mixed-precision", "half"], "There are none, float16, bfloat16."),
        (["train", "--recipe", "digit_scene", "--out", "x"], "Did you mean 'digit_scenes'?"),
        (["--import", "no_such_module", "presets"], "--import no_such_module: ModuleNotFound"),
        (["trainn"], "No such command 'trainn'"),
    ],
)
def test_a_wrong_value_ends_in_one_line(run_cli, arguments, message):
    code, output, errors = run_cli(*arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("keras-parc: ")
    assert errors.count("\n") == 1
    assert message in errors


def _dropped():
    """A Ctrl-C where Python drops it."""

    class Dropped:
        def __del__(self):
            raise KeyboardInterrupt

    Dropped()
    time.sleep(5)  # until it comes again, which ends the wait


def _pressed():
    raise KeyboardInterrupt


def _too_large():
    np.empty((10**9, 10**9))


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (_pressed, 130, "keras-parc: stopped\n"),
        (_dropped, 130, "keras-parc: stopped\n"),
        (_too_large, 2, "keras-parc: Memory ran out: Unable to allocate"),
    ],
)
def test_what_ends_a_command(run_cli, monkeypatch, command, code, message):
    app = typer.Typer()
    app.command()(command)
    monkeypatch.setattr("keras_parc.cli.main.app", app)
    found, output, errors = run_cli()
    assert (found, output, errors.count("\n")) == (code, "", 1)
    assert errors.startswith(message)


def test_the_bare_command_prints_its_help(run_cli):
    code, output, errors = run_cli()
    assert (code, errors) == (2, "")
    assert "Commands" in output


def test_capitals_do_not_matter(run_cli):
    code, _, errors = run_cli("export", "no.keras", "b.tflite", "--quantize", "INT8")
    assert code == 2
    assert "There is no model file" in errors


@pytest.mark.parametrize(
    ("backend", "message"),
    [("tensorflo", "Did you mean 'tensorflow'?"), ("torch", "pip install torch")],
)
def test_a_backend_that_is_not_there_ends_in_one_line(run_cli, monkeypatch, backend, message):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(console.importlib.util, "find_spec", lambda name: None)
    code, _, errors = run_cli("predict", "a.keras", "a.png")
    assert code == 2
    assert errors.count("\n") == 1
    assert message in errors


def test_a_missing_extra_is_named(monkeypatch, run_cli):
    plain = builtins.__import__

    def without_matplotlib(name, *arguments, **options):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install 'keras_parc\[plots\]'"):
        keras_parc.visualize.fields_figure({"even": [[1.0]]})


def test_every_extra_names_packages_of_pyproject():
    assert set(EXTRAS.values()) == {"train", "plots"}
    for package, extra in EXTRAS.items():
        command = rf"pip install 'keras_parc\[{extra}\]'"
        with pytest.raises(ImportError, match=command), needs_extra():
            raise ModuleNotFoundError(name=f"{package}.part")
    with pytest.raises(ModuleNotFoundError), needs_extra():
        raise ModuleNotFoundError(name="another")


def test_a_command_prints_no_notices(tmp_path):
    """In a new process: nothing on standard error, of TensorFlow, absl, oneDNN or LiteRT."""
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    path = keras_parc.to_tflite(model, tmp_path / "tiny.tflite", input_range="0..255")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    command = [sys.executable, "-m", "keras_parc", "predict", path, tmp_path / "red.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "255.000" in done.stdout
