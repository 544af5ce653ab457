"""`fit`: what it computes, and that it survives."""

import dataclasses
import io
import json
import os
import resource
import signal

import keras
import numpy as np
import pytest
from registered import register_for_test
from rich.console import Console

import small_training
from keras_parc.tasks.classification.training import ClassificationLearner
from keras_parc.training import fit as fitting
from keras_parc.training.average import MovingAverage, mean_of_weights
from keras_parc.training.checkpoint import read_state
from keras_parc.training.compiling import rate_schedule, training_model
from keras_parc.training.distribute import ONE_DEVICE, Devices
from keras_parc.training.fit import Interrupted
from small_training import RECIPE, batches_of, finished, rows, run, start

SHORT = dataclasses.replace(RECIPE, epochs=2)
ON_TENSORFLOW = keras.config.backend() == "tensorflow"


def arrays(folder):
    with np.load(folder / "checkpoint.npz") as file:
        return {name: file[name] for name in file.files}


def assert_same_bits(one, other):
    a, b = arrays(one), arrays(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not np.array_equal(a[name], b[name])] == []
    assert rows(one) == rows(other)
    for x, y in zip(
        keras.models.load_model(one / "model.keras").get_weights(),
        keras.models.load_model(other / "model.keras").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of two epochs."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, SHORT)
    return folder


@pytest.mark.slow
def test_kills_change_no_bit(tmp_path):
    output = finished(start(tmp_path, "kills", 1, 10))
    assert "kills: 10" in output
    assert "in the middle of a checkpoint" in output
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")
    assert list((tmp_path / "killed").rglob(".????????.*")) == []


def stopping_at(step, act):
    """The training data, with `act()` when step number `step` of the run is fetched."""
    seen = []

    def training(epoch, plan, start):
        def fetch(images, labels):
            seen.append(0)
            if len(seen) == step:
                act()
            return images, labels

        import tensorflow as tf

        data = batches_of(epoch, plan, start)
        shapes = data.element_spec
        return tf.data.Dataset.from_generator(
            lambda: (fetch(*batch) for batch in data.as_numpy_iterator()), output_signature=shapes
        )

    return training


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=[pytest.mark.any_backend, pytest.mark.slow]),
        {"mixed_precision": "float16", "gradient_accumulation": 3, "clip_norm": 0.5},
    ],
    ids=["plain", "options"],
)
def test_sigterm_saves_and_the_same_call_goes_on(changes, tmp_path):
    """With every kind of state: of the optimizer, loss scale, gradients in waiting, seeds."""
    recipe = dataclasses.replace(SHORT, **changes)
    run(tmp_path / "whole", recipe)
    terminate = stopping_at(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match=r"stopped after step \d of epoch 1 of small_run"):
        run(tmp_path / "stopped", recipe, training=terminate)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (tmp_path / "stopped" / "model.keras").exists()
    console = Console(record=True, file=io.StringIO())
    run(tmp_path / "stopped", recipe, console=console)
    assert "going on after step" in console.export_text()
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")
    run(tmp_path / "stopped", recipe)  # a finished run stays as it is
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")
    values = keras.models.load_model(tmp_path / "stopped" / "model.keras").get_weights()
    assert {value.dtype.name for value in values} == {"float32"}


def test_results_are_written_down(whole):
    history = rows(whole)
    assert [row["epoch"] for row in history] == [1, 2]
    assert history[1]["loss"] < history[0]["loss"]
    assert history[1]["val_loss"] < history[0]["val_loss"]
    assert set(history[0]) == {
        *("epoch", "loss", "top1", "top5", "learning_rate"),
        *("val_loss", "val_top1", "val_top5"),
    }
    result = json.loads((whole / "result.json").read_text())
    assert [row["val_loss"] for row in result["history"]] == [row["val_loss"] for row in history]
    assert json.loads((whole / "recipe.json").read_text())["epochs"] == 2
    steps = rate_schedule(SHORT, [7, 7])
    assert history[0]["learning_rate"] == float(steps(6))
    from tensorflow.python.summary.summary_iterator import summary_iterator

    (events,) = (whole / "tensorboard").iterdir()
    seen = {(e.step, v.tag) for e in summary_iterator(str(events)) for v in e.summary.value}
    assert {(1, "loss"), (2, "val_top1"), (2, "learning_rate")} <= seen


def test_sigterm_while_evaluating_the_last_epoch(whole, tmp_path, monkeypatch):
    """The call that goes on takes no step more, and still ends with the same bits."""
    plain, evaluations = small_training.validation, []

    def terminating():
        import tensorflow as tf

        data = plain()

        def batches():
            evaluations.append(0)
            if len(evaluations) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield from data.as_numpy_iterator()

        return tf.data.Dataset.from_generator(batches, output_signature=data.element_spec)

    with monkeypatch.context() as patch:
        patch.setattr(small_training, "validation", terminating)
        with pytest.raises(Interrupted, match="while evaluating after step 8 of epoch 2"):
            run(tmp_path, SHORT)
    run(tmp_path, SHORT)
    assert_same_bits(whole, tmp_path)


def test_a_last_batch_that_is_not_full_counts_image_by_image(whole):
    """The reported validation is that of the saved model over all 20 images."""
    model = keras.models.load_model(whole / "model.keras")
    images, labels = (
        np.concatenate(x)
        for x in zip(*small_training.validation().as_numpy_iterator(), strict=True)
    )
    scores = model.predict(images, verbose=0)
    result = json.loads((whole / "result.json").read_text())["validation"]
    assert result["top1"] == pytest.approx(np.mean(scores.argmax(1) == labels), abs=1e-6)
    picked = scores[np.arange(len(labels)), labels]
    assert result["loss"] == pytest.approx(-np.log(picked).mean(), rel=1e-5)


@pytest.mark.any_backend
def test_moving_average_takes_weights_and_statistics(tmp_path):
    """Against the definition, worked out in numpy after every step: from the start, and later."""
    schedule = rate_schedule(SHORT, [4])
    recipe = dataclasses.replace(SHORT, sizes=(32,))
    task = ClassificationLearner(recipe, 4)
    model, average = training_model(task, schedule), task.averaged()
    average.set_weights(model.get_weights())
    expected = model.get_weights()

    shares = iter([0.1, 2 / 11, 3 / 12, 4 / 13, *[0.9] * 4])

    class Check(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            share = next(shares)
            for value, now in zip(expected, model.get_weights(), strict=True):
                value[...] = share * value + (1 - share) * now

    images = small_training.images_of(np.arange(16) % 4, 32, np.random.default_rng(0))
    truth = np.eye(4, dtype="float32")[np.arange(16) % 4]
    before = model.get_weights()
    moving = MovingAverage(average, 0.9)
    for moving.steps in (0, 100):
        model.fit(images, truth, batch_size=4, verbose=0, callbacks=[moving, Check()])
    assert moving.steps == 104
    moved = [not np.allclose(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(moved)
    for ours, value in zip(average.get_weights(), expected, strict=True):
        np.testing.assert_allclose(ours, value, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="less than 1"):
        MovingAverage(average, 1.0)


def test_the_finished_model_is_the_mean_of_the_best(whole):
    best = sorted((whole / "best").iterdir())
    assert [path.name for path in best] == ["epoch_0001.weights.h5", "epoch_0002.weights.h5"]
    model = keras.models.load_model(whole / "model.keras")
    values = []
    for path in best:
        model.load_weights(path)
        values.append(model.get_weights())
    final = keras.models.load_model(whole / "model.keras").get_weights()
    for ours, *theirs in zip(final, *values, strict=True):
        np.testing.assert_allclose(ours, np.mean(theirs, 0), rtol=1e-6)
    with pytest.raises(ValueError, match="no weights"):
        mean_of_weights(model, [])


def test_only_the_best_are_kept(tmp_path):
    recipe = dataclasses.replace(RECIPE, average_best=1, sizes=(32,))
    run(tmp_path, recipe)
    tops = [row["val_top1"] for row in rows(tmp_path)]
    best = max(range(4), key=lambda i: (tops[i], i)) + 1
    assert [p.name for p in (tmp_path / "best").iterdir()] == [f"epoch_{best:04d}.weights.h5"]


@pytest.mark.parametrize(
    "jit_compile",
    [False, pytest.param(True, marks=[pytest.mark.any_backend, pytest.mark.slow])],
)
def test_a_size_is_traced_once(jit_compile, tmp_path, monkeypatch):
    traced = []

    class Counting(keras.layers.Layer):
        def call(self, x, training=False):
            if training:
                traced.append(tuple(x.shape))
            return x

        def compute_output_shape(self, shape):
            return shape

    def counting(input_shape, *arguments, **options):
        model = small_training.small_model(input_shape, *arguments, **options)
        image = keras.Input(input_shape)
        return keras.Model(image, model(Counting()(image)))

    register_for_test(monkeypatch, counting, "small")
    counts = []

    def training(epoch, plan, start):
        counts.append((len(traced), {size for size, _ in plan}))
        return batches_of(epoch, plan, start)

    recipe = dataclasses.replace(RECIPE, jit_compile=jit_compile, epochs=5)
    run(tmp_path, recipe, training=training)
    assert {32, 40} <= counts[0][1] | counts[1][1]
    assert counts[2][0] >= 1
    assert len(traced) == counts[2][0]  # nothing new once both sizes were seen
    if ON_TENSORFLOW:
        assert len(traced) <= 2 * len(recipe.sizes)


def test_weight_decay_spares_what_it_is_told_to():
    """With gradients of zero only the decay moves a weight."""
    for decay_all in (True, False):
        recipe = dataclasses.replace(SHORT, decay_all=decay_all)
        model = training_model(ClassificationLearner(recipe, 4), rate_schedule(recipe, [7, 7]))
        for variable in model.trainable_variables:
            variable.assign(keras.ops.ones_like(variable))
        model.optimizer.apply([keras.ops.zeros_like(v) for v in model.trainable_variables])
        names = {
            variable.name
            for variable in model.trainable_variables
            if np.all(keras.ops.convert_to_numpy(variable) == 1)
        }
        assert names == (set() if decay_all else {"gamma", "beta", "bias", "base_position"})


def _run(recipe, folder):
    learner = ClassificationLearner(recipe, 4)
    return fitting._Run(learner, folder, 60, ONE_DEVICE, 500, Console(quiet=True))


def test_the_moving_average_counts_updates(tmp_path):
    """Three steps of one update move it as one step does without accumulation."""
    recipe = dataclasses.replace(SHORT, gradient_accumulation=3)
    run_of = fitting._Run(
        ClassificationLearner(recipe, 4), tmp_path, 60, ONE_DEVICE, 500, Console(quiet=True)
    )
    for steps, share in ((0, 0.1), (2, 0.1), (3, 2 / 11), (300, recipe.ema_momentum)):
        run_of.moving.steps = steps
        assert run_of.moving.share() ** 3 == pytest.approx(share)


@pytest.mark.parametrize(("epochs", "momentum"), [(1, 0.0), (15, 1 - 1 / 7), (10_000, 0.9995)])
def test_the_momentum_fits_the_number_of_steps(tmp_path, monkeypatch, epochs, momentum):
    """Of seven steps an epoch, and where the recipe does not say it."""
    monkeypatch.setattr(fitting._Run, "plan", lambda self, epoch: [(32, 8)] * 7)
    recipe = dataclasses.replace(SHORT, epochs=epochs, ema_momentum=None)
    run_of = fitting._Run(
        ClassificationLearner(recipe, 4), tmp_path, 60, ONE_DEVICE, 500, Console(quiet=True)
    )
    assert run_of.moving.momentum == pytest.approx(momentum)


def test_a_short_run_does_not_save_the_start(tmp_path):
    """Of the random weights hardly anything is left, whatever the momentum."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    average = keras.models.clone_model(model)
    average.set_weights([np.full_like(each, 1e3) for each in average.get_weights()])
    moving = MovingAverage(average, 0.9995)
    model.fit(np.ones((24, 1)), np.ones((24, 1)), batch_size=1, verbose=0, callbacks=[moving])
    assert max(np.abs(each).max() for each in average.get_weights()) < 2


def test_gradients_accumulate():
    recipe = dataclasses.replace(SHORT, gradient_accumulation=2, sizes=(32,), weight_decay=0)
    model = training_model(ClassificationLearner(recipe, 4), rate_schedule(recipe, [7, 7]))
    images = small_training.images_of(np.arange(8) % 4, 32, np.random.default_rng(0))
    truth = np.eye(4, dtype="float32")[np.arange(8) % 4]
    kernels = []
    for _ in range(3):
        kernels.append(keras.ops.convert_to_numpy(model.trainable_variables[0]).copy())
        model.train_on_batch(images, truth)
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[1], kernels[2])


def test_a_failed_write_leaves_the_checkpoint_and_says_so(tmp_path, whole, monkeypatch):
    """A real failure of the system: from step 4 on files may not grow beyond 15 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    step = fitting._Run.on_train_batch_end

    def step_and_full(self, *arguments, **keywords):
        step(self, *arguments, **keywords)
        if self.facts.step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, before[1]))

    console = Console(record=True, width=200, file=io.StringIO())
    message = r"large.*last checkpoint in .* is untouched"
    try:
        with monkeypatch.context() as patch, pytest.raises(OSError, match=message):  # noqa: PT012
            patch.setattr(fitting._Run, "on_train_batch_end", step_and_full)
            run(tmp_path, SHORT, console=console)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = console.export_text()
    assert "after step 6 of epoch 1 of small_run could not be written" in said
    assert "the one before is untouched" in said
    assert list(tmp_path.rglob(".????????.*")) == []
    assert read_state(tmp_path / "checkpoint.npz")[0]["step"] == 3
    run(tmp_path, SHORT)
    assert_same_bits(whole, tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    recipe = dataclasses.replace(SHORT, peak_rate=1e30, clip_norm=0.0)
    with pytest.raises(FloatingPointError, match=r"loss is .* at step \d of epoch \d of small_run"):
        run(tmp_path, recipe, checkpoint_steps=1)
    values = [v for k, v in arrays(tmp_path).items() if k.startswith("weights")]
    assert len(values) > 5


def test_folders_that_do_not_fit_are_refused(whole, tmp_path):
    with pytest.raises(ValueError, match="holds a run of another recipe: epochs 2 there, 3 now"):
        run(whole, dataclasses.replace(SHORT, epochs=3))
    options = dataclasses.replace(SHORT.options, short_side=48)  # that alone, not all options
    with pytest.raises(ValueError, match=r"another recipe: short_side 32 there, 48 now\. Choose"):
        run(whole, dataclasses.replace(SHORT, options=options))
    run(tmp_path, SHORT)
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"checkpoint.npz' is damaged"):
        run(tmp_path, SHORT)
    with pytest.raises(ValueError, match="cannot be divided evenly among 3 devices"):
        run(tmp_path / "new", SHORT, devices=Devices(3))
    with pytest.raises(ValueError, match="fewer than one batch"):
        run(tmp_path / "big", dataclasses.replace(SHORT, batch=100))
    with pytest.raises(ValueError, match="at least 1"):
        run(tmp_path / "never", SHORT, checkpoint_steps=0)
