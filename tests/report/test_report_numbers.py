"""What the demonstration says: its settings, its table, and that it starts anew."""

import io

import pytest
from rich.console import Console

from keras_parc.report import demo
from keras_parc.report.demo import demo_settings, run_demo


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_quick_settings(task):
    quick, whole = demo_settings(task, quick=True), demo_settings(task)
    assert quick.recipe.task == whole.recipe.task == task
    assert quick.recipe.epochs == 1 < whole.recipe.epochs
    assert quick.recipe.data.endswith("tiny")
    assert quick.calibration_images < whole.calibration_images
    assert quick.timing_rounds < whole.timing_rounds


def test_a_task_that_there_is_not():
    with pytest.raises(ValueError, match=r"no task 'detect'\. Did you mean 'detection'"):
        demo_settings("detect")


def test_the_table(tmp_path):
    console = Console(file=io.StringIO(), width=120)
    report = {
        "measures": ["top_1"],
        "top_1": {"keras": 0.987, "int8": 0.5},
        "bytes": {"int8": 2_500_000},
        "time_one_image_one_thread": {
            "keras": {"median_ms": 12.34, "ratio": 1.0},
            "int8": {"median_ms": 1.5, "ratio": 0.1234},
        },
        "seconds": 61.7,
    }
    demo._print(console, report, tmp_path)
    head, keras_row, int8_row, *_ = (
        line for line in console.file.getvalue().splitlines() if any(map(str.isalnum, line))
    )
    assert "top 1" in head
    assert [each for each in keras_row.split() if each[0].isdigit()] == ["98.7", "12.34", "1.000"]
    shown = [each for each in int8_row.split() if each[0].isdigit()]
    assert shown == ["50.0", "2.50", "1.50", "0.123"]


def test_the_run_starts_anew(tmp_path, monkeypatch):
    """A run of other settings in the folder would be refused, one of the same not be trained."""

    class StopError(Exception):
        pass

    def stop(*_):
        raise StopError

    monkeypatch.setattr(demo, "load_data", stop)
    arguments = (tmp_path / "report", demo_settings(quick=True), Console(quiet=True))
    with pytest.raises(StopError):
        run_demo(*arguments)
    (tmp_path / "report/training").mkdir()
    (tmp_path / "report/training/recipe.json").write_text("of another time")
    with pytest.raises(StopError):
        run_demo(*arguments)
    assert not (tmp_path / "report/training").exists()


@pytest.mark.parametrize("content", [None, "{}", "[]", "text", '{"demonstration": "detection"}'])
def test_what_a_demonstration_did_not_write_is_not_touched(content, tmp_path, monkeypatch):
    """A folder of the user's own, or of another task's demonstration."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training/thesis.txt").write_text("months of work")
    if content is not None:
        (tmp_path / demo.MARKER).write_text(content)
    monkeypatch.setattr(demo, "load_data", lambda *_: pytest.fail("went on"))
    with pytest.raises(ValueError, match=r"choose another with --out") as caught:
        run_demo(tmp_path, demo_settings(quick=True), Console(quiet=True))
    named = "of detection" if content and "detection" in content else "not a demonstration's"
    assert named in str(caught.value)
    assert (tmp_path / "training/thesis.txt").read_text() == "months of work"
