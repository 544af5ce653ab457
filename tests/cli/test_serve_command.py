"""keras-parc serve: what it serves and prints, and one line for each mistake."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from rich.console import Console
from tflite_models import convert, halves

from keras_parc.device import libraries, serving
from keras_parc.device.tools.web import serve


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, as far as the command looks at it."""
    folder = tmp_path_factory.mktemp("pets") / "run"
    folder.mkdir()
    convert(folder / "model_float32.tflite", halves)
    shutil.copy(folder / "model_float32.tflite", folder / "model_int8.tflite")
    (folder / "model.keras").write_text("of no interest")
    (folder / "damaged").mkdir()
    content = (folder / "model_int8.tflite").read_bytes()
    (folder / "damaged" / "cut.tflite").write_bytes(content[: len(content) // 2])
    (folder / "damaged" / "picture.tflite").write_bytes(b"\x89PNG and so on")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A home without libraries, and an npm that makes them, or does what the test says."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(libraries, "PAGE", tmp_path / "page")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "page").mkdir()
    for name in libraries.LISTS:
        (tmp_path / "page" / name).write_text("{}")

    def does(code):
        program = tmp_path / "bin" / "npm"
        program.write_text(f"#!{sys.executable}\nimport os, pathlib, sys\n{code}\n")
        program.chmod(0o755)

    return does


MAKES = f"""
found = ",".join(sorted(os.listdir()))
for name in {serve.LIBRARIES!r}:
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("made of " + found)
"""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("none", r"There is no file or folder '.*none'\."),
        ("empty", r"There is no \.tflite file in '.*empty': keras-parc train writes two when .*"),
        ("model.keras", r"'.*model\.keras' is not a \.tflite file: keras-parc export makes one .*"),
        ("damaged/cut.tflite", r".*cut\.tflite is damaged: .*: copy or export it again\."),
        ("damaged/picture.tflite", r".*picture\.tflite is not a \.tflite: expected TFL3 .*"),
    ],
)
def test_what_cannot_be_served(run, run_cli, name, line):
    status, printed, errors = run_cli("serve", run / name)
    assert (status, printed) == (2, "")
    assert re.fullmatch(f"keras-parc: {line}\n", errors)


def test_a_port_that_is_taken(run, run_cli, npm):
    npm(MAKES)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, errors = run_cli("serve", run, "--port", port)
    expected = f"keras-parc: port {port} is taken: give another (--port)\n"
    assert (status, errors) == (2, expected)
    assert "65535" in run_cli("serve", run, "--port", "65536")[2]


def test_without_npm(run, run_cli, npm):
    status, _, errors = run_cli("serve", run, "--port", 0)
    assert status == 2
    assert errors.count("\n") == 1
    assert "install npm (sudo apt-get install npm" in errors


def test_npm_that_fails_leaves_nothing(run, run_cli, npm, tmp_path):
    npm("print('npm error code ENOTFOUND', file=sys.stderr); sys.exit(1)")
    status, _, errors = run_cli("serve", run, "--port", 0)
    said = "npm cannot get LiteRT.js, which the page needs: npm error code ENOTFOUND"
    assert (status, errors) == (2, f"keras-parc: {said}\n")
    assert list((tmp_path / "keras/models/keras_parc").iterdir()) == []


def test_libraries_are_got_once(npm, tmp_path):
    npm(MAKES)
    console = Console(quiet=True)
    folder = libraries.libraries(console)
    assert folder.parent == tmp_path / "keras/models/keras_parc"
    assert (folder / serve.LIBRARIES[0]).read_text() == "made of package-lock.json,package.json"
    npm("sys.exit(1)")
    assert libraries.libraries(console) == folder
    (folder / serve.LIBRARIES[-1]).unlink()  # somebody made room
    npm(MAKES)
    assert libraries.libraries(console) == folder
    assert (folder / serve.LIBRARIES[-1]).is_file()
    assert [each.name for each in folder.parent.iterdir()] == [folder.name]


def test_other_versions_are_other_libraries(npm, tmp_path):
    npm(MAKES)
    before = libraries.libraries(Console(quiet=True))
    (tmp_path / "page" / libraries.LISTS[1]).write_text('{"other": 1}')
    assert libraries.libraries(Console(quiet=True)) != before


def test_what_it_prints_and_serves_until_ctrl_c(run, npm, tmp_path):
    npm(MAKES)
    code = "from keras_parc.device import libraries; import pathlib, sys; "
    code += "libraries.PAGE = pathlib.Path(sys.argv.pop(1)); "
    code += "from keras_parc.cli.main import main; main()"
    command = [sys.executable, "-c", code, tmp_path / "page", "serve", run, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        try:
            first = process.stdout.readline()
            found = re.fullmatch(
                r"model_float32\.tflite, model_int8\.tflite at (http://localhost:(\d+)/)\n", first
            )
            assert found, (first, process.stderr.read())
            with urllib.request.urlopen(f"{found[1]}models.json") as answer:
                names = [each["name"] for each in json.load(answer)]
            with urllib.request.urlopen(f"{found[1]}models/model_int8.tflite") as answer:
                assert answer.read() == (run / "model_int8.tflite").read_bytes()
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{found[1]}models/model.keras")
            with contextlib.suppress(OSError):  # of a machine without a network
                address = serving.lan_address()
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((address, int(found[2])), 5)
            process.send_signal(signal.SIGINT)
            # Not communicate(), which loses what readline() has read ahead.
            printed, errors = process.stdout.read(), process.stderr.read()
            process.wait(30)
        finally:
            process.kill()
    assert sorted(names) == ["model_float32.tflite", "model_int8.tflite"]
    assert f"adb reverse tcp:{found[2]} tcp:{found[2]}" in printed
    assert printed.endswith("stopped\n")
    assert (process.returncode, errors) == (0, "")


def test_the_network(monkeypatch):
    """The address, what does not work there, and a code that a phone reads as it."""
    lines = serving.directions(8000, [], "192.0.2.7")
    assert any("http://192.0.2.7:8000/" in line for line in lines)
    assert any("no camera" in line and "HTTPS" in line for line in lines)
    pytest.importorskip("segno")
    import segno

    drawn = serving.qr_code("http://192.0.2.7:8000/").splitlines()
    upper, lower = ({"▀": 0, "▄": 1, "█": 0, " ": 1}, {"▀": 1, "▄": 0, "█": 0, " ": 1})
    rows = [[each[character] for character in line] for line in drawn for each in (upper, lower)]
    matrix = segno.make("http://192.0.2.7:8000/", error="l").matrix_iter(border=2)
    expected = [list(row) for row in matrix]
    assert rows[: len(expected)] == expected


def test_no_code_without_segno(monkeypatch):
    monkeypatch.setitem(sys.modules, "segno", None)
    assert "pip install 'keras_parc[serve]'" in serving.qr_code("http://192.0.2.7:8000/")


def test_the_page_of_the_package_is_the_repository_s():
    """One copy: a link, which a wheel replaces by the files."""
    assert os.path.realpath(libraries.PAGE).endswith("tflite/web")
