"""Things made once for all processes of a session: data sets, trained models, exported files."""

import os
from collections.abc import Callable
from pathlib import Path

import filelock
from session_folders import VARIABLE


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """A folder of the session that `make` has filled; the other processes wait meanwhile."""
    folder = Path(os.environ[VARIABLE]) / "shared" / name
    done = folder / "done"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(f"{name}.lock")):
        if not done.exists():
            make(folder)
            done.touch()
    return folder
