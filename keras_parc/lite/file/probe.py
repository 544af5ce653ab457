"""Whether a `.tflite` file runs, found out in a process of its own.

The runtime hardly checks a file: a damaged one can end the whole process, and no `except` helps.
So a file from elsewhere is run once in a child process before it is opened in this one.
"""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from keras_parc.lite.process import module_path
from keras_parc.support.text import printable

SECONDS = 120  # for starting Python, which takes 0.1 s, and two inferences
_CHILD = Path(__file__).with_name("probe_child.py")
_safe: set[tuple[bytes, str, int] | bytes] = set()  # what was found to run, and what we wrote


def mark_safe(content: bytes) -> None:
    """Let a file with this content, which this process has made, be opened without a probe."""
    _safe.add(hashlib.sha256(content).digest())


def check_runs(path: Path, kernels: str, threads: int) -> None:
    """Run a file in a child process on an image of zeros and on a random one.

    Done once for each content, and not for content given to `mark_safe`. A file can still be made
    so that it fails on other images alone: no probe finds that.

    Args:
        path: The file.
        kernels: The name of a member of the runtime's `OpResolverType`.
        threads: Threads of the runtime.

    Raises:
        ValueError: The runtime refuses the file, or dies of it, or does not come to an end, or
            needs more memory than the machine has.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    if _safe & {digest, (digest, kernels, threads)}:
        return
    # The script and no module of the package, whose import would take seconds; -P: its folder, with
    # names such as `runtime`, is no place to import from.
    command = [sys.executable, "-P", str(_CHILD), str(path), kernels, str(threads)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            env=os.environ | {"PYTHONPATH": module_path(), "CUDA_VISIBLE_DEVICES": "-1"},
        )
        problem = done.returncode and _problem(done.returncode, done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        problem = f"two inferences do not end within {SECONDS} s"
    if problem:
        raise ValueError(refusal(path, problem))
    _safe.add((digest, kernels, threads))


def refusal(path: str | os.PathLike, problem: str) -> str:
    """What to say of a file that does not run, on one line; the problem may quote the runtime."""
    problem = printable(" ".join(problem.split()))[:300].rstrip(".")
    return f"{str(path)!r} cannot be run: {problem}; export it again or fetch it again."


def _problem(code: int, output: bytes, errors: bytes) -> str:
    if code > 0:
        lines = (output or errors).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the runtime ends with exit code {code}"
    if -code == signal.SIGKILL:
        return "the runtime is killed by the system, most likely because memory runs out"
    return f"the runtime dies of it ({signal.Signals(-code).name})"
