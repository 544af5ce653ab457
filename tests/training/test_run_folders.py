"""The folder of a run: Ctrl-C, a second run in it, damaged files, a full disk."""

import dataclasses
import io
import json
import os
import signal

import filelock
import keras
import numpy as np
import pytest
from rich.console import Console

from keras_parc.training import fit as fitting
from keras_parc.training.checkpoint import read_state
from keras_parc.training.fit import Interrupted
from keras_parc.training.run_folder import alone
from small_training import RECIPE, batches_of, run

SHORT = dataclasses.replace(RECIPE, epochs=2)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that was stopped after step 4 of its first epoch, by Ctrl-C."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    patch = pytest.MonkeyPatch()
    after = fitting._Run.on_train_batch_end

    def interrupt(self, *arguments, **keywords):
        if self.facts.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        after(self, *arguments, **keywords)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        patch.setattr(fitting._Run, "on_train_batch_end", interrupt)
        with pytest.raises(Interrupted, match="stopped after step 4 of epoch 1"):
            run(folder, SHORT)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        patch.undo()
        signal.signal(signal.SIGINT, before)
    return folder


def copy_of(begun, folder):
    """The checkpoint and the recipe alone."""
    folder.mkdir()
    for name in ("checkpoint.npz", "recipe.json"):
        (folder / name).write_bytes((begun / name).read_bytes())
    return folder


def test_ctrl_c_saves(begun):
    assert read_state(begun / "checkpoint.npz")[0]["step"] == 4
    assert not (begun / "model.keras").exists()


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def training(epoch, plan, start):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return batches_of(epoch, plan, start)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", SHORT, training=training)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / "run/checkpoint.npz").exists()


def test_an_ignored_ctrl_c_stays_ignored(tmp_path):
    """A shell starts what it puts in the background so."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with fitting._on_stop(lambda: pytest.fail("called")):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_run_is_refused_while_the_first_lives(begun, tmp_path):
    folder = copy_of(begun, tmp_path / "run")
    living = folder / ".12345678.checkpoint.npz"
    living.touch()
    with filelock.FileLock(folder / ".lock"):
        with pytest.raises(ValueError, match=r"Another process trains in '.*run': wait"):
            run(folder, SHORT)
        assert living.exists()
    with alone(folder):
        assert not living.exists()


def changed(facts=None, **arrays):
    """A function that writes a checkpoint with other facts, or arrays."""

    def write(path):
        with np.load(path) as file:
            found = {name: file[name] for name in file.files}
        stored = json.loads(str(found["facts"]))
        stored["facts"] |= facts or {}
        found["facts"] = np.array(json.dumps(stored))
        np.savez(path, **found | arrays)

    return write


def overwritten(content):
    return lambda path: path.write_bytes(content)


DAMAGES = {
    "empty": overwritten(b""),
    "text": overwritten(b"hello"),
    "pickle": lambda path: np.savez(path, facts=np.array({"a": 1}, dtype=object)),
    "one_array": lambda path: path.write_bytes(_npy(np.zeros(3))),
    "facts_of_numbers": lambda path: np.savez(path, facts=np.zeros(2)),
    "unknown_field": changed({"lives": 9}),
    "epoch_of_text": changed({"epoch": "1"}),
    "epoch_nan": changed({"epoch": float("nan")}),
    "epoch_negative": changed({"epoch": -1}),
    "epoch_past_the_end": changed({"epoch": 7}),
    "step_past_the_end": changed({"step": 99}),
    "step_negative": changed({"step": -4}),
    "history_of_text": changed({"history": "none"}),
    "best_of_the_future": changed({"best": [{"epoch": 1, "score": 0.5}]}),
    "logs_of_text": changed({"logs": {"loss": "high"}}),
    "weights_nan": changed(**{"weights/0": np.full((3, 3, 3, 8), np.nan, "float32")}),
    "weights_of_another_shape": changed(**{"weights/0": np.zeros((2, 2), "float32")}),
}


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_one_line(begun, tmp_path, name):
    folder = copy_of(begun, tmp_path / "run")
    DAMAGES[name](folder / "checkpoint.npz")
    with pytest.raises(ValueError, match="checkpoint") as caught:
        run(folder, SHORT)
    assert "\n" not in str(caught.value)
    assert "does not fit the model" in str(caught.value) or str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "3", '"text"', "{}", '{"task": "classification"}', "null", "[" * 100_000),
        '{"task": ["classification"], "options": {}}',
        '{"task": "classification", "options": 7}',
        '{"task": "classification", "options": {"augmentation": null}}',
    ],
)
def test_a_damaged_recipe_is_one_line(begun, tmp_path, text):
    folder = copy_of(begun, tmp_path / "run")
    (folder / "recipe.json").write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.json' cannot be read") as caught:
        run(folder, SHORT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["size", "epochs", "peak_rate", "sizes", "model", "seed"])
@pytest.mark.parametrize("value", [None, "many", [], {}, -3])
def test_a_recipe_of_wrong_values_is_one_line(begun, tmp_path, field, value):
    folder = copy_of(begun, tmp_path / "run")
    path = folder / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ValueError, match=r"recipe\.json' cannot be read|another recipe") as caught:
        run(folder, SHORT)
    assert "\n" not in str(caught.value)


def test_a_disk_that_is_full_from_the_start(tmp_path, monkeypatch):
    """No checkpoint is claimed where there is none."""

    def full(*_):
        raise OSError(28, "No space left on device", "checkpoint.npz")

    console = Console(record=True, width=200, file=io.StringIO())
    monkeypatch.setattr(fitting, "write_state", full)
    with pytest.raises(OSError, match="starts from the beginning") as caught:
        run(tmp_path / "run", SHORT, console=console)
    assert "untouched" not in str(caught.value)
    said = console.export_text()
    assert "there is none yet; training goes on" in said
    assert "untouched" not in said


def test_a_disk_that_is_full_for_the_best_weights_is_one_line(begun, tmp_path, monkeypatch):
    """HDF5 says it by a RuntimeError of several lines, and leaves a part of the file."""
    folder = copy_of(begun, tmp_path / "run")
    before = (folder / "checkpoint.npz").read_bytes()

    def full(model, path):
        path.write_bytes(b"part")
        raise RuntimeError("file write failed: time = now\n, error message = 'No space left'")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save_weights", full)
        with pytest.raises(OSError, match=r"'No space left'.* goes on from there") as caught:
            run(folder, SHORT)
    assert "\n" not in str(caught.value)
    assert (folder / "checkpoint.npz").read_bytes() != before  # of the end of the epoch
    assert not list(folder.rglob(".????????.*"))
    run(folder, SHORT)
