"""Fine-tuning: what moves when, how fast, when it ends, and that a stop changes no bit."""

import dataclasses
import io
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import staged_model  # noqa: F401 (registers the model "staged")
from rich.console import Console

from keras_parc.tasks.classification.options import ClassificationOptions
from keras_parc.tasks.classification.training import ClassificationLearner
from keras_parc.training import fit as fitting
from keras_parc.training.compiling import rate_schedule, training_model
from keras_parc.training.fit import Interrupted
from keras_parc.training.recipe import Recipe
from small_training import rows, run

RECIPE = Recipe(
    "tuned",
    "staged",
    ClassificationOptions(short_side=32),
    size=32,
    sizes=(32,),
    batch=16,
    replicas=1,
    epochs=4,
    freeze_epochs=2,
    freeze_norm=True,
    head_rate=10.0,
    stage_rate=0.5,
    start_rate=1e-3,
    peak_rate=1e-2,
    end_rate=1e-4,
    warm_up_steps=2,
    cosine_by="step",
    average_best=1,
    mixed_precision="none",
    seed=3,
)
STEPS = 4  # of an epoch
NORM, HEAD = "_norm", "predictions"


def states(folder, recipe=RECIPE, **options):
    """The weights of the model that trains by layer: at the start, and after every epoch."""
    found, after = [], fitting._Run.validate

    def kept(run):
        return {x.name: [v.numpy() for v in x.weights] for x in run.trained.layers if x.weights}

    def validate(self, validation):
        found.append(kept(self))
        after(self, validation)

    begin = fitting._Run.restore

    def restore(self):
        found.append(kept(self))
        begin(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Run, "validate", validate)
        patch.setattr(fitting._Run, "restore", restore)
        run(folder, recipe, **options)
    return found


def moved(before, after):
    """Names of the layers of which any weight moved, and of those of which all did."""
    same = {
        n: [np.array_equal(a, b) for a, b in zip(before[n], after[n], strict=True)] for n in after
    }
    return {n for n in same if not all(same[n])}, {n for n in same if not any(same[n])}


@pytest.mark.any_backend
def test_the_head_alone_moves_then_all_but_the_norms(tmp_path):
    start, _, frozen, _, end = states(tmp_path)
    some, every = moved(start, frozen)
    assert some == every == {HEAD}  # statistics too: bit by bit
    some, every = moved(frozen, end)
    assert some == every == {name for name in start if not name.endswith(NORM)}
    history = rows(tmp_path)
    # Each phase has a warm-up and a cosine of its own.
    schedule = rate_schedule(RECIPE, [STEPS] * 2)
    expected = [float(schedule(step)) for step in (STEPS - 1, 2 * STEPS - 1)] * 2
    assert [row["learning_rate"] for row in history] == pytest.approx(expected, rel=1e-6)


def test_without_freeze_norm_the_norms_learn_after_the_frozen_epochs(tmp_path):
    recipe = dataclasses.replace(RECIPE, freeze_norm=False, epochs=2, freeze_epochs=1)
    start, frozen, end = states(tmp_path, recipe)
    assert moved(start, frozen)[0] == {HEAD}
    assert moved(frozen, end)[1] == set(start)


def test_rates_by_stage():
    recipe = dataclasses.replace(RECIPE, freeze_norm=False, freeze_epochs=0, weight_decay=0.0)
    model = training_model(ClassificationLearner(recipe, 3), rate_schedule(recipe, [4]))
    factors = {"P2": 0.125, "P3": 0.25, "P4": 0.5, "P5": 1.0}
    before = {v.path: v.numpy() for v in model.trainable_variables}
    images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float32")
    model.fit(images, np.eye(3)[np.arange(8) % 3], batch_size=8, verbose=0)
    # The first step of Adam is as long as the rate, whatever the gradient.
    for layer in model.layers:
        for variable in layer.trainable_variables:
            factor = factors.get(layer.name[:2], 10.0)
            step = np.abs(variable.numpy() - before[variable.path]).max()
            assert step == pytest.approx(factor * recipe.start_rate, rel=0.02), variable.path


def interrupted_after(number, folder, recipe=RECIPE):
    """A run that is told to stop in a step, counted over all epochs, and then goes on."""
    count, after = [0], fitting._Run.on_train_batch_end

    def terminate(self, *arguments, **keywords):
        count[0] += 1
        self.terminated = count[0] == number
        after(self, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Run, "on_train_batch_end", terminate)
        with pytest.raises(Interrupted) as stopped:
            run(folder, recipe)
    console = Console(record=True, file=io.StringIO())
    run(folder, recipe, console=console)
    return str(stopped.value), console.export_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder, RECIPE)
    return folder


def assert_same_bits(one, other):
    states = []
    for folder in (one, other):
        with np.load(folder / "checkpoint.npz") as file:
            states.append({name: file[name] for name in file.files})
    a, b = states
    assert a.keys() == b.keys()
    assert [name for name in a if not np.array_equal(a[name], b[name])] == []
    assert rows(one) == rows(other)
    for x, y in zip(
        keras.models.load_model(one / "model.keras").get_weights(),
        keras.models.load_model(other / "model.keras").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("step", "place"),
    [
        pytest.param(STEPS + 2, "step 2 of epoch 2", marks=pytest.mark.slow),
        # The last step of the frozen epochs: seen while it evaluates, with the head still alone.
        (2 * STEPS, "while evaluating after step 4 of epoch 2"),
        pytest.param(2 * STEPS + 1, "step 1 of epoch 3", marks=pytest.mark.slow),
        pytest.param(3 * STEPS + 2, "step 2 of epoch 4", marks=pytest.mark.slow),
    ],
)
def test_a_stop_in_any_phase_changes_no_bit(whole, tmp_path, step, place):
    said, went_on = interrupted_after(step, tmp_path)
    assert place in said
    assert place.removeprefix("while evaluating after ") in went_on
    assert_same_bits(whole, tmp_path)


def test_a_stop_between_the_phases_changes_no_bit(whole, tmp_path):
    """The checkpoint is that of the boundary: no step of the second phase is done."""
    validate = fitting._Run.validate

    def stop(self, validation):
        validate(self, validation)
        if self.facts.epoch == RECIPE.freeze_epochs:
            raise Interrupted("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Run, "validate", stop)
        with pytest.raises(Interrupted, match="killed"):
            run(tmp_path, RECIPE)
    run(tmp_path, RECIPE)
    assert_same_bits(whole, tmp_path)


@pytest.mark.parametrize(
    ("scores", "freeze", "patience", "ends"),
    [
        ([0.5, 0.6, 0.6, 0.6, 0.9, 0.9], 0, 2, 4),  # the first of equals is the best
        ([0.5, 0.4, 0.6, 0.5, 0.6, 0.6], 0, 2, 5),
        ([0.9, 0.5, 0.5, 0.5, 0.5, 0.5], 3, 2, 5),  # the frozen epochs do not count
        ([0.9, 0.5, 0.5, 0.5, 0.5, 0.5], 0, 0, 6),
        ([0.9, 0.5, 0.5, 0.5, 0.5, 0.5], 6, 2, 3),  # frozen throughout: patience counts again
    ],
)
def test_patience(scores, freeze, patience, ends):
    recipe = dataclasses.replace(RECIPE, epochs=6, freeze_epochs=freeze, patience=patience)
    console = Console(record=True, file=io.StringIO())
    run = SimpleNamespace(
        recipe=recipe, facts=fitting._Facts(), learner=ClassificationLearner, console=console
    )
    while fitting._Run.goes_on(run):
        run.facts.history.append({"val_top1": scores[run.facts.epoch]})
        run.facts.epoch += 1
    assert run.facts.epoch == ends
    said = f"No better score in {patience} epochs" in console.export_text()
    assert said == (ends < 6)


def test_patience_after_a_stop(tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=6, freeze_epochs=0, patience=2)
    scores, validate, stopping = [0.5, 0.6, 0.6, 0.6, 0.9, 0.9], fitting._Run.validate, [True]

    def scored(self, validation):
        score = scores[self.facts.epoch]
        self.evaluate = lambda data: {"top1": score, "loss": 1.0}
        validate(self, validation)
        if self.facts.epoch == 3 and stopping:
            stopping.clear()
            raise Interrupted("here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Run, "validate", scored)
        with pytest.raises(Interrupted, match="here"):
            run(tmp_path, recipe)
        for _ in range(2):  # to go on, and again when it is finished
            run(tmp_path, recipe)
            assert [row["val_top1"] for row in rows(tmp_path)] == scores[:4]
