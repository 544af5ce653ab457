"""The process that conversions run in: what it leaves, and what it says when it dies."""

import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest

import keras_parc
from keras_parc.lite import process
from keras_parc.lite.process import ConversionProcess, TaskError, conversion_process


def apart(function):
    """Call outside of the block that the tests share."""
    return contextvars.Context().run(function)


@pytest.fixture
def own():
    own = ConversionProcess()
    yield own
    own.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_block_shares_one_process_and_ends_it(tmp_path, monkeypatch):
    """Without a block every conversion has its own; either way none is left."""
    started, start = [], ConversionProcess.start

    def recorded(self):
        start(self)
        if self._process not in started:
            started.append(self._process)

    monkeypatch.setattr(ConversionProcess, "start", recorded)
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
    x = np.linspace(0, 1, 128, dtype="float32").reshape(2, 8, 8, 1)

    def export(name):
        path = tmp_path / f"{name}.tflite"
        return keras_parc.to_tflite(model, path, quantize="int8", calibration=x).read_bytes()

    def block():
        with conversion_process():
            return export("a"), export("b")

    a, b = apart(block)
    assert (len(started), started[0].poll()) == (1, -signal.SIGKILL)
    c = apart(lambda: export("c"))
    assert (len(started), started[1].poll()) == (2, -signal.SIGKILL)
    assert a == b == c


@pytest.mark.slow
def test_a_process_is_replaced_after_so_many_tasks(own, monkeypatch):
    monkeypatch.setattr(process, "MAX_TASKS", 2)
    pids = []
    for _ in range(3):
        with pytest.raises(TaskError, match="does not exist"):
            own.run("convert", "/nonexistent", None)
        pids.append(own._process.pid)
    assert pids[0] == pids[1] != pids[2]
    assert not alive(pids[0])


def test_a_killed_process_is_told_and_replaced(own):
    for number, message in (
        (signal.SIGKILL, "killed by the system.*memory.*input_size"),
        (signal.SIGSEGV, "SIGSEGV"),
    ):
        own.start()
        os.kill(own._process.pid, number)
        with pytest.raises(RuntimeError, match=message):
            own.run("convert", "/nonexistent", None)
    with pytest.raises(TaskError):
        own.run("convert", "/nonexistent", None)


def test_what_the_process_said_last_is_told(own):
    with pytest.raises(RuntimeError, match=r"exit code 1.*KeyError: 'no such task'"):
        own.run("no such task")


def test_a_killed_export_leaves_nothing(tmp_path, monkeypatch):
    """As the system ends the process in the middle of a conversion."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
    run = ConversionProcess.run

    def killed(self, *arguments):
        self.start()
        os.kill(self._process.pid, signal.SIGKILL)
        return run(self, *arguments)

    monkeypatch.setattr(ConversionProcess, "run", killed)
    with pytest.raises(RuntimeError, match="killed by the system"):
        apart(lambda: keras_parc.to_tflite(model, tmp_path / "m.tflite"))
    left = [each.name for each in tmp_path.rglob("*")]
    # TensorFlow's own, removed when this process ends: of what it traces for the first time.
    assert [name for name in left if not name.startswith("__autograph_generated_")] == ["scratch"]


def test_interrupt(tmp_path):
    """Ctrl-C during a conversion ends both processes and leaves neither file nor folder."""
    script = textwrap.dedent("""
        import signal, sys, keras, keras_parc
        from keras_parc.lite.process import ConversionProcess

        # A shell starts what it puts in the background with Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run = ConversionProcess.run

        def told(self, *arguments):
            self.start()
            print(self._process.pid, flush=True)
            return run(self, *arguments)

        ConversionProcess.run = told
        image = keras.Input((8, 8, 1))
        model = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
        keras_parc.to_tflite(model, sys.argv[1] + "/m.tflite")
    """)
    (tmp_path / "scratch").mkdir()
    caller = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "scratch"), "KERAS_BACKEND": "tensorflow"},
    )
    child = int(caller.stdout.readline())
    caller.send_signal(signal.SIGINT)
    error = caller.communicate(timeout=100)[1]
    assert "KeyboardInterrupt" in error
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)
    assert [each.name for each in tmp_path.iterdir()] == ["scratch"]
    # Where the child had come far enough, of TensorFlow's AutoGraph what Python compiled of it.
    assert {each.name for each in (tmp_path / "scratch").iterdir()} <= {"__pycache__"}


def test_a_conversion_says_nothing(tmp_path, capfd):
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
    capfd.readouterr()  # Building a first model starts TensorFlow, which looks for GPUs.
    keras_parc.to_tflite(model, tmp_path / "m.tflite")
    assert capfd.readouterr() == ("", "")
