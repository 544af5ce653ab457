"""Processes that have imported the models already: forks of one server, which imports them once.

Each import of its own would take 5 s of a core. `import keras_parc` alone imports next to nothing.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["keras_parc.models.parc_net", "keras_parc.models.checkpoints"])


class Child:
    """Runs Python code in a fork; used as `subprocess.Popen`."""

    def __init__(self, code: str, *arguments, **environment):
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name) / name for name in ("output", "errors")]
        command = list(map(str, arguments))
        # The server's environment is that of its start.
        environment = {**os.environ, **environment}
        arguments = (code, command, environment, [*map(str, self._outputs)])
        self._process = CONTEXT.Process(target=_run, args=arguments)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def communicate(self) -> tuple[str, str]:
        self._process.join()
        return tuple(path.read_text() if path.is_file() else "" for path in self._outputs)


def _run(code: str, arguments: list[str], environment: dict[str, str], outputs: list[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(code, "child", "exec"), {"__name__": "__main__"})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
