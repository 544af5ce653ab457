"""A pytest plugin: the session's own home and temporary files; to write elsewhere is an error.

The environment is changed when this is imported: before Keras, which reads its settings in the
home. Processes that tests start inherit it, and so do pytest-xdist's workers.
"""

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VARIABLE = "KERAS_PARC_TEST_SESSION"  # the session's folder
# Where Keras, TensorFlow Datasets, matplotlib and Jupyter write in a home.
WATCHED = (
    ".keras",
    "tensorflow_datasets",
    ".cache/keras_parc",
    ".cache/matplotlib",
    ".cache/jax",
    ".config/matplotlib",
    ".ipython",
    ".jupyter",
    ".local/share/jupyter",
)
# What Python, pytest and the tools of this repository leave behind in it, and git ignores: also the
# other runtimes, installed once and kept.
LEFT_BY_TOOLS = (
    *("__pycache__/", ".pytest_cache/", ".ruff_cache/", ".egg-info/", ".venv/"),
    *("node_modules/", ".arm/", ".mediapipe/", ".npu/"),
)


def user_environment() -> dict[str, str]:
    """The environment that the session was started in, for what is installed once and kept."""
    return json.loads((Path(os.environ[VARIABLE]) / "user_environment.json").read_text())


def enter() -> "Watch | None":
    """Point the environment to the session's folders; the first process of a session makes them."""
    if VARIABLE in os.environ:
        return None
    home = Path(os.environ.get("HOME") or Path.home())
    # pytest's `tmp_path` folders stay where they always are, and outlive the session.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    session = Path(tempfile.mkdtemp(prefix="keras_parc_tests_"))
    (session / "user_environment.json").write_text(json.dumps(dict(os.environ)))
    folders = {
        "HOME": session / "home",
        "TMPDIR": session / "tmp",
        "KERAS_HOME": session / "home/.keras",
        "TFDS_DATA_DIR": session / "home/tensorflow_datasets",
        "XDG_CACHE_HOME": session / "home/.cache",
        "XDG_CONFIG_HOME": session / "home/.config",
        "XDG_DATA_HOME": session / "home/.local/share",
        "MPLCONFIGDIR": session / "home/.config/matplotlib",
    }
    for variable, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(folder)
    tempfile.tempdir = None  # Python's own, found anew
    os.environ[VARIABLE] = str(session)
    atexit.register(shutil.rmtree, session, ignore_errors=True)
    return Watch(session, home)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """In the process that made the folders: fail where something was written elsewhere."""
    written = WATCH.written() if WATCH else []
    for line in written:
        session.config.get_terminal_writer().line(line, red=True)
    if written:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class Watch:
    """What lies in the user's home and in the repository when the session starts."""

    def __init__(self, session: Path, home: Path, root: Path = ROOT):
        self.session, self.home, self.root = session, home, root
        self._home, self._tree = home_files(home), working_tree(root)

    def written(self) -> list[str]:
        """What is new or changed since then."""
        now = home_files(self.home)
        home = sorted(str(path) for path, _ in now.items() - self._home.items())
        tree = sorted(working_tree(self.root) - self._tree)
        return [
            *(f"The tests wrote into the home folder: {path}" for path in home),
            *(f"The tests changed the repository: {line}" for line in tree),
        ]


def home_files(home: Path) -> dict[Path, tuple | None]:
    """The entries of a home, and size and time of every file that our libraries may write there.

    Other programs write into their own folders meanwhile; a new entry is ours all the same.
    """
    found = dict.fromkeys(home.iterdir()) if home.is_dir() else {}
    for name in WATCHED:
        for path in (home / name).rglob("*"):
            if path.is_file():
                state = path.stat()
                found[path] = state.st_size, state.st_mtime_ns
    return found


def working_tree(root: Path) -> set[str]:
    """What `git status` says, ignored files too; nothing where there is no git repository.

    It sees no second change of a file that differs already.
    """
    lines = git_status(root, "--untracked-files=all")
    lines += [line for line in git_status(root, "--ignored") if line.startswith("!!")]
    return {line for line in lines if not line.rstrip('"').endswith(LEFT_BY_TOOLS)}


def git_status(root: Path, option: str) -> list[str]:
    command = ["git", "status", "--porcelain", option]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.stdout.splitlines()


WATCH = enter()
