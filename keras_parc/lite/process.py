"""Conversion in a process of its own.

TensorFlow's converter does not release 100 MB and more after each conversion, and it prints to the
terminal, which no option prevents.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar

MAX_TASKS = 20  # Then a new process takes over, so that memory is returned.


def module_path() -> str:
    """PYTHONPATH with which a child process imports what this process would."""
    return os.pathsep.join(each or os.getcwd() for each in sys.path)


class TaskError(RuntimeError):
    """A task failed; the process goes on."""


class ConversionProcess:
    """A child process that runs the tasks of `keras_parc.lite.worker`, one after the other."""

    def __init__(self):
        self._process = None
        self._log = None
        self._tasks = 0

    def start(self) -> None:
        """Start the process if none runs, without waiting: it imports TensorFlow on its own."""
        if self._tasks >= MAX_TASKS:
            self.close()
        if self._process is not None:
            return
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._tasks = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "keras_parc.lite.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # The converter needs no GPU, and TensorFlow would take all of its memory.
            env=os.environ | {"PYTHONPATH": module_path(), "CUDA_VISIBLE_DEVICES": "-1"},
            # So that Ctrl-C reaches only the caller, who ends the process.
            start_new_session=True,
        )

    def run(self, task: str, *arguments) -> bytes:
        """Run a task and wait for its result.

        Args:
            task: A name of `worker.TASKS`.
            arguments: What the task takes.

        Returns:
            The bytes of a `.tflite` file.

        Raises:
            TaskError: The task failed.
            RuntimeError: The process died.
        """
        self.start()
        self._tasks += 1
        try:
            pickle.dump((task, *arguments), self._process.stdin)
            self._process.stdin.flush()
            is_result, answer = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise RuntimeError(self._cause_of_death()) from None
        except BaseException:
            self.close()
            raise
        if not is_result:
            raise TaskError(answer)
        return answer

    def _cause_of_death(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # It closed its output but still runs.
            self._process.kill()
            code = 0
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        self.close()
        return _cause(code, lines)

    def close(self) -> None:
        """Kill the process if one runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._log.close()
            self._process = None


def _cause(code: int, log: list[str]) -> str:
    if code == -signal.SIGKILL:
        return (
            "The conversion process was killed by the system (SIGKILL), most likely because memory "
            "ran out. Close other programs, or export at a smaller `input_size`."
        )
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return (
        f"The conversion process ended with {how}: {' | '.join(log[-3:]) or 'it printed nothing'}."
    )


_current: ContextVar[ConversionProcess | None] = ContextVar("conversion_process", default=None)


@contextlib.contextmanager
def conversion_process() -> Iterator[ConversionProcess]:
    """The process that conversions in this block share; nested blocks share the outermost's.

    Yields:
        A `ConversionProcess`, not yet started. It ends, and returns its memory, with the outermost
        block.

    Example:
        >>> import keras_parc, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> folder = tempfile.mkdtemp()
        >>> with conversion_process():
        ...     for name in ("a", "b"):
        ...         path = keras_parc.to_tflite(model, f"{folder}/{name}.tflite")
        >>> path.name
        'b.tflite'
    """
    current = _current.get()
    if current is not None:
        yield current
        return
    current = ConversionProcess()
    token = _current.set(current)
    try:
        yield current
    finally:
        _current.reset(token)
        current.close()
