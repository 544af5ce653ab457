"""The deliberate mistakes fit the code, and their script tells which tests notice them."""

import subprocess
import textwrap

import pytest
from mutations import ROOT, Mistake, mistakes, tried


@pytest.mark.parametrize("mistake", mistakes(), ids=str)
def test_it_can_be_made(mistake):
    """Its text occurs once, and its tests exist."""
    assert mistake.problem(ROOT) is None


def test_what_cannot_be_made_is_told():
    """A text that is not there, one that occurs twice, a test that is not there."""
    good = {"file": "LICENSE", "text": "APPENDIX", "instead": "", "fails": ("LICENSE",)}
    for changes, problem in (
        ({}, None),
        ({"file": "LICENCE"}, "there is no LICENCE"),
        ({"text": "no such text"}, "occurs 0 times in LICENSE, expected once"),
        ({"text": "License"}, "times in LICENSE, expected once"),
        ({"instead": "APPENDIX"}, "it changes nothing"),
        ({"fails": ()}, "it names no tests"),
        ({"fails": ("tests/test_mutations.py::test_none",)}, "there is no test tests/test_mut"),
    ):
        found = Mistake("room", "something", **{**good, **changes}).problem(ROOT)
        assert found == problem or (problem and problem in found)


@pytest.mark.slow
def test_noticed_and_not_noticed(tmp_path, capsys):
    """In a repository of one function, one test that guards it and one that does not."""
    tests = """
        import code_of_room

        def test_sum():
            assert code_of_room.add(1, 2) == 3

        def test_nothing():
            assert code_of_room.add
    """
    (tmp_path / "code_of_room.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "test_room.py").write_text(textwrap.dedent(tests))
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    change = ("code_of_room.py", "a + b", "a - b")
    noticed = Mistake("room", "a difference", *change, ("test_room.py::test_sum",))
    missed = Mistake("room", "a weak test", *change, ("test_room.py::test_nothing",))
    broken = Mistake("room", "no Python", *change[:2], "a +", ("test_room.py::test_sum",))
    problems = tried([noticed, missed, broken], tmp_path)
    assert problems == [
        "room: a weak test: not noticed by test_room.py::test_nothing",
        "room: no Python: test_room.py cannot be collected",
    ]
    assert "a difference: noticed" in capsys.readouterr().out
    assert (tmp_path / "code_of_room.py").read_text().count("a + b") == 1
