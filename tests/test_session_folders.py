"""The session's own folders: what would be written elsewhere is noticed, and the order is free."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import pytest
from session_folders import ROOT, VARIABLE, Watch, user_environment

SETTINGS = ("HOME", "TMPDIR", "KERAS_HOME", "TFDS_DATA_DIR", "XDG_CACHE_HOME", "MPLCONFIGDIR")


def test_homes_lie_in_the_sessions_folder():
    session = os.environ[VARIABLE]
    for folder in (tempfile.gettempdir(), Path.home(), *(os.environ[name] for name in SETTINGS)):
        assert Path(folder).is_relative_to(session)
    cached = keras.utils.get_file("some.txt", f"file://{__file__}", cache_subdir="tests")
    assert Path(cached).is_relative_to(os.environ["KERAS_HOME"])
    assert user_environment().get("HOME") != os.environ["HOME"]


def git(root, *arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def watched(tmp_path):
    """A home and a repository with one file each."""
    home, root = tmp_path / "home", tmp_path / "root"
    for folder in (home / ".keras", home / "documents", root):
        folder.mkdir(parents=True)
    (home / ".keras/keras.json").write_text("{}")
    (root / "file.txt").write_text("as it was")
    (root / ".gitignore").write_text("build/\n__pycache__/\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "first")
    return home, root


CHANGES = {
    "home/new.txt": "wrote into the home folder: .*new.txt",
    "home/.keras/keras.json": "wrote into the home folder: .*keras.json",
    "home/.keras/models/new.h5": "wrote into the home folder: .*new.h5",
    "home/tensorflow_datasets/new": "wrote into the home folder: .*tensorflow_datasets",
    "root/file.txt": "changed the repository:  M file.txt",
    "root/new/new.txt": "changed the repository: .. new/new.txt",
    "root/build/new.txt": "changed the repository: !! build/",
}


@pytest.mark.parametrize("path", CHANGES)
def test_what_is_written_is_noticed(watched, tmp_path, path):
    watch = Watch(tmp_path, *watched)
    assert watch.written() == []
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("something else")
    (first, *_) = watch.written()
    assert re.search(CHANGES[path], first)


@pytest.mark.parametrize("path", ["home/documents/mine.txt", "root/__pycache__/code.pyc"])
def test_what_others_write_is_not(watched, tmp_path, path):
    watch = Watch(tmp_path, *watched)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("something else")
    assert watch.written() == []


TESTS = """
import os, pathlib
import pytest

@pytest.mark.parametrize("number", range(6))
def test_in_order(number):
    with open(os.environ["ORDER"], "a") as file:
        file.write(f"{pathlib.Path(__file__).stem[-1]}{number} ")

def test_writes_into_the_home():
    if "GUILTY" in os.environ:
        pathlib.Path(os.environ["GUILTY"], "new.txt").write_text("")
"""


def run_pytest(folder, *arguments, **environment):
    """A session of two files with these plugins and a home of its own; the order of its tests."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    for name in "ab":
        (folder / f"test_{name}.py").write_text(TESTS)
    environment = {**user_environment(), "HOME": str(home), **environment}
    environment |= {"ORDER": str(folder / "order.txt"), "PYTHONPATH": str(ROOT / "tests")}
    (folder / "order.txt").write_text("")
    plugins = ["-p", "no:cacheprovider", "-p", "session_folders", "-p", "order"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done, (folder / "order.txt").read_text().split()


def test_a_session_that_writes_into_the_home_fails(tmp_path):
    done, _ = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout
    done, _ = run_pytest(tmp_path, GUILTY=str(tmp_path / "home"))
    assert done.returncode == 1
    assert "wrote into the home folder" in done.stdout
    assert "14 passed" in done.stdout


def test_a_guilty_worker_fails_the_session(tmp_path):
    done, order = run_pytest(tmp_path, "--numprocesses=2", GUILTY=str(tmp_path / "home"))
    assert len(order) == 12
    assert done.returncode == 1
    assert "wrote into the home folder" in done.stdout


def test_random_order(tmp_path):
    orders = [run_pytest(tmp_path, *option)[1] for option in ([], *[["--random-order=1"]] * 2)]
    plain, shuffled, again = orders
    assert plain == sorted(plain)
    assert shuffled == again
    assert sorted(shuffled) == plain
    # Files in one piece, their tests out of order.
    files = [name[0] for name in shuffled]
    assert files in (sorted(files), sorted(files, reverse=True))
    assert [name for name in shuffled if name[0] == "a"] != plain[:6]
