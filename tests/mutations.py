"""Are the tests able to fail? Makes the deliberate mistakes of tests/mistakes/, one by one.

    python tests/mutations.py [ROOM ...] [--check] [--jobs N]

Each mistake is made in a temporary copy of the repository, where the tests that it names must fail;
without it they must pass. `--check` only looks whether the text to replace is there, exactly once.
Exit status 1 and a list of what was not noticed, else 0.

A mistake is a table `[[mistake]]` of tests/mistakes/ROOM.toml:

    says     what is wrong, in a few words
    file     path in the repository
    text     exact text that occurs there once
    instead  what replaces it
    fails    the tests that must fail: `path::test` (of a parametrized one some case), or a file

TensorFlow, Keras and pytest are imported once: each mistake has a fork of its own.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "mistakes"
SECONDS = 600


@dataclass(frozen=True)
class Mistake:
    room: str
    says: str
    file: str
    text: str
    instead: str
    fails: tuple[str, ...]

    def __str__(self):
        return f"{self.room}: {self.says}"

    def problem(self, root: Path) -> str | None:
        """Why it cannot be made, if so."""
        path = root / self.file
        if not path.is_file():
            return f"there is no {self.file}"
        if (count := path.read_text().count(self.text)) != 1:
            return f"the text occurs {count} times in {self.file}, expected once"
        if self.text == self.instead:
            return "it changes nothing"
        if not self.fails:
            return "it names no tests"
        for name in self.fails:
            file, *names = name.split("::")
            source = (root / file).read_text() if (root / file).is_file() else ""
            if not source or any(f"def {each.partition('[')[0]}(" not in source for each in names):
                return f"there is no test {name}"
        return None


def mistakes(rooms=()) -> list[Mistake]:
    """All of them, or those of some rooms.

    Raises:
        ValueError: There is no such room.
    """
    files = {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
    if unknown := set(rooms) - set(files):
        raise ValueError(f"There are no mistakes for {', '.join(sorted(unknown))}.")
    return [
        Mistake(room, **{**each, "fails": tuple(each["fails"])})
        for room, path in files.items()
        if not rooms or room in rooms
        for each in tomllib.loads(path.read_text())["mistake"]
    ]


def copied(root: Path, folder: Path) -> Path:
    """What git knows or would add, as it is now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to((root / name).readlink())
        elif (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    return folder


class _Outcomes:
    """A pytest plugin: the tests that ran and failed, and files that could not be imported."""

    def __init__(self):
        self.ran, self.failed, self.broken = set(), set(), []

    def pytest_collectreport(self, report):
        if report.failed:
            self.broken.append(f"{report.nodeid} cannot be collected")

    def pytest_runtest_logreport(self, report):
        self.ran.add(report.nodeid)
        if report.failed:
            self.failed.add(report.nodeid)


def _in_fork(root: str, scratch: str, tests: list[str], answer) -> None:
    """Run tests in `root`; send what ran, what failed and what is broken."""
    import pytest

    os.chdir(root)
    os.environ.update({"TMPDIR": scratch, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"})
    sys.dont_write_bytecode = True
    tempfile.tempdir = None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    outcomes = _Outcomes()
    options = ["-q", "-p", "no:cacheprovider", "-m", "", f"--rootdir={root}"]
    pytest.main([*options, *tests], plugins=[outcomes])
    answer.send((outcomes.ran, outcomes.failed, outcomes.broken))


class Copy:
    """A copy of the repository, and the processes that run its tests."""

    def __init__(self, root: Path, folder: Path):
        self.root, self.scratch = copied(root, folder / "root"), folder / "scratch"
        self.scratch.mkdir()
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["keras", "pytest"])

    def run(self, tests: tuple[str, ...]) -> tuple[set[str], set[str], list[str]]:
        """What ran, what failed, and what is broken."""
        ours, theirs = self.context.Pipe(duplex=False)
        arguments = (str(self.root), str(self.scratch), list(tests), theirs)
        process = self.context.Process(target=_in_fork, args=arguments)
        process.start()
        theirs.close()
        try:
            if ours.poll(SECONDS):
                return ours.recv()
            return set(), set(), [f"not done in {SECONDS} s"]
        except EOFError:
            process.join()
            return set(), set(), [f"pytest ended with exit code {process.exitcode}"]
        finally:
            process.kill()
            process.join()

    def trial(self, mistake: Mistake) -> str | None:
        """Make a mistake, run its tests, take it back; what is wrong with them, if so."""
        path = self.root / mistake.file
        before = path.read_text()
        path.write_text(before.replace(mistake.text, mistake.instead))
        try:
            _, failed, broken = self.run(mistake.fails)
        finally:
            path.write_text(before)
        if broken:
            return "; ".join(broken)
        passed = [test for test in mistake.fails if not any(_is_of(each, test) for each in failed)]
        return f"not noticed by {', '.join(passed)}" if passed else None

    def untouched(self, tests: tuple[str, ...]) -> str | None:
        """Whether tests run and pass without a mistake; what is wrong, if so."""
        ran, failed, broken = self.run(tests)
        wrong = [*broken, *(f"{each} fails without a mistake" for each in sorted(failed))]
        if not broken:
            missing = [test for test in tests if not any(_is_of(each, test) for each in ran)]
            wrong += [f"{test} did not run" for test in missing]
        return "; ".join(wrong) or None


def _is_of(node: str, test: str) -> bool:
    """Whether what ran is the test, a case of it, or in the file."""
    return node == test or node.startswith((f"{test}[", f"{test}::"))


def tried(chosen: list[Mistake], root: Path = ROOT, jobs: int = 1) -> list[str]:
    """Make mistakes, each told when it is done; return what is wrong, in lines."""
    problems = [f"{each}: {why}" for each in chosen if (why := each.problem(root))]
    if problems:
        return problems
    with (
        tempfile.TemporaryDirectory(prefix="mutations_") as folder,
        mock.patch.dict(os.environ, KERAS_HOME=folder),  # which the import of Keras writes into
    ):
        copies = [Copy(root, Path(folder) / str(number)) for number in range(jobs)]
        tests = tuple(sorted({test for each in chosen for test in each.fails}))
        if problem := copies[0].untouched(tests):
            return [problem]

        def work(number: int) -> list[str]:
            found = []
            for mistake in chosen[number::jobs]:
                start = time.perf_counter()
                problem = copies[number].trial(mistake)
                took = time.perf_counter() - start
                print(f"{took:5.1f} s  {mistake}: {problem or 'noticed'}", flush=True)
                found += [f"{mistake}: {problem}"] if problem else []
            return found

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            return [line for found in pool.map(work, range(jobs)) for line in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", help="default: all")
    parser.add_argument("--check", action="store_true", help="run nothing")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    chosen = mistakes(arguments.rooms)
    if arguments.check:
        problems = [f"{each}: {why}" for each in chosen if (why := each.problem(ROOT))]
    else:
        problems = tried(chosen, jobs=arguments.jobs)
    print(f"{len(chosen)} mistakes, {len(problems)} problems")
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()
