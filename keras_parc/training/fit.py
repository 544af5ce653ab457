"""Training by `model.fit`, one call an epoch, so that it survives a kill at any moment.

A run is a function of its recipe and its data. Every few hundred steps all of its state goes to
one file; the same call again goes on from there and, on one device of the TensorFlow CPU backend,
ends with the same bits as a run that was never stopped.
"""

import contextlib
import csv
import dataclasses
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from rich.console import Console

from keras_parc.support.files import replacing
from keras_parc.support.progress import ProgressBar
from keras_parc.tasks.task import find_task
from keras_parc.training.average import MovingAverage, default_momentum, mean_of_weights, sync
from keras_parc.training.checkpoint import (
    assign_all,
    damaged,
    read_state,
    write_state,
    writing_model,
)
from keras_parc.training.compiling import compile_model, rate_schedule, training_model
from keras_parc.training.distribute import ONE_DEVICE, Devices
from keras_parc.training.recipe import Recipe
from keras_parc.training.run_folder import alone, check_recipe
from keras_parc.training.sampler import epoch_plan
from keras_parc.training.schedule import WarmUpCosine

Plan = Sequence[tuple[int, int]]


class Interrupted(Exception):  # noqa: N818 (not an error)
    """Training was stopped by SIGTERM or Ctrl-C; it is saved, and the same call continues it.

    Example:
        >>> try:
        ...     model = train(find_recipe("digit_scenes"), "run")  # doctest: +SKIP
        ... except Interrupted as stopped:
        ...     print(f"{stopped}; call again to go on")
    """


@dataclass
class _Facts:
    """Where a run stands, apart from its variables."""

    epoch: int = 0
    step: int = 0  # of the epoch, done
    logs: dict | None = None  # of the epoch, once its last step is done
    history: list[dict] = field(default_factory=list)
    best: list[dict] = field(default_factory=list)  # epoch and score, best first
    examples: int | None = None  # of the training set


def fit(
    recipe: Recipe,
    training: Callable[[int, Plan, int], "tf.data.Dataset"],  # noqa: F821
    validation: "tf.data.Dataset",  # noqa: F821
    out: str | os.PathLike,
    *,
    examples: int,
    classes: int,
    names: Sequence[str] | None = None,
    devices: Devices = ONE_DEVICE,
    checkpoint_steps: int = 500,
    console: Console | None = None,
) -> keras.Model:
    """Train a model, or go on with a run that was stopped.

    Args:
        recipe: The run.
        training: A function of an epoch (from 0), its plan (`(size, images)` of every step, of all
            hosts) and the first step wanted, that gives a data set of the steps from there on:
            images `(n, size, size, 3)` RGB 0..255 and what is true of them, as the `dataset` of the
            task's data room does. It must be a function of its arguments for a stopped run to end
            with the same bits.
        validation: A data set of images `(n, recipe.size, recipe.size, 3)` and what is true of
            them, of at most `recipe.batch` images at a time.
        out: Folder of the run: `recipe.json`, `checkpoint.npz`, `best/`, `history.csv`,
            `tensorboard/`, and when all is done `model.keras` and `result.json`.
        examples: Images of the training set.
        classes: Number of classes.
        names: Their names, by which the head of another run is taken over or not.
        devices: Where to compute. The number of devices does not change what a step learns from.
        checkpoint_steps: Steps from one checkpoint to the next.
        console: Where to print.

    Returns:
        The finished model, float32, of RGB 0..255 at `recipe.size`: the mean of the best moving
        averages.

    Raises:
        Interrupted: SIGTERM or Ctrl-C came; the state is saved. A second Ctrl-C stops at once.
        FloatingPointError: The loss is not a number.
        OSError: A file could not be written; the last checkpoint is untouched.
        ValueError: `out` holds another run, one that another process trains, or a damaged
            checkpoint, or the recipe does not fit the data or the devices.

    Example:
        >>> from keras_parc.training.recipes import find_recipe
        >>> def training(epoch, plan, first_step):
        ...     return "your data set of this epoch's steps, from `first_step` on"
        >>> model = fit(  # doctest: +SKIP
        ...     find_recipe("digit_scenes"), training, validation, "run", examples=8000, classes=10
        ... )
    """
    if checkpoint_steps < 1:
        raise ValueError(f"`checkpoint_steps` must be at least 1, got {checkpoint_steps}.")
    for size, images in recipe.choices:
        if images % devices.total:
            raise ValueError(
                f"A step of {images} images at {size} pixels cannot be divided evenly among "
                f"{devices.total} devices: change `batch` or `replicas`."
            )
    out = Path(out)
    check_recipe(out, recipe)
    keras.utils.set_random_seed(recipe.seed)
    with devices.scope():
        learner = find_task(recipe.task).learner(recipe, classes, names)
        run = _Run(learner, out, examples, devices, checkpoint_steps, console or Console())
        # Only now, so that a recipe that cannot be built claims no folder.
        with alone(out) if devices.host == 0 else contextlib.nullcontext():
            run.restore()
            if devices.host == 0:
                with replacing(out / "recipe.json") as temporary:
                    temporary.write_text(recipe.to_json())
            try:
                with _on_stop(run.terminate), run.bar:
                    while run.goes_on():
                        run.train(training)
                        run.validate(validation)
                    return run.finish(validation)
            except OSError as error:
                advice = "Once this is mended, the same call starts from the beginning."
                if run.checkpoint.exists():
                    advice = (
                        f"The last checkpoint in {str(out)!r} is untouched; once this is mended, "
                        "the same call goes on from there."
                    )
                raise OSError(f"{error}. {advice}") from error


class _Run(keras.callbacks.Callback):
    """The two models of a run and where it stands; as a callback it minds every step."""

    def __init__(self, learner, out, examples, devices, checkpoint_steps, console):
        super().__init__()
        recipe = learner.recipe
        self.learner, self.recipe, self.out, self.devices = learner, recipe, out, devices
        self.checkpoint = out / "checkpoint.npz"
        self.examples, self.checkpoint_steps, self.console = examples, checkpoint_steps, console
        self.steps = [len(self.plan(epoch)) for epoch in range(recipe.epochs)]
        self.facts, self.metrics, self.writer, self.terminated = (
            _Facts(examples=examples),
            [],
            None,
            False,
        )
        self.schedule, frozen = self.phase()
        start = not self.checkpoint.exists()
        self.trained = training_model(
            learner, self.schedule, devices.total, frozen=frozen, start=start
        )
        self.average = learner.averaged()
        self.average.set_weights(self.trained.get_weights())
        batch = math.ceil(recipe.batch / devices.total) * devices.total
        # Every host evaluates all images: the mean is the same, and hosts cannot fall out of step.
        self.evaluate = self.learner.evaluator(self.average, batch, self.check)
        accumulation, momentum = recipe.gradient_accumulation, recipe.ema_momentum
        if momentum is None:
            momentum = default_momentum(sum(self.steps) / accumulation)
        self.moving = MovingAverage(self.average, momentum, accumulation)
        self.bar = ProgressBar(sum(self.steps), console)

    def plan(self, epoch) -> Plan:
        return epoch_plan(self.examples, self.recipe.choices, seed=self.recipe.seed, epoch=epoch)

    def phase(self) -> tuple[WarmUpCosine, bool]:
        """The learning rate of these epochs, and whether the head learns alone in them."""
        freeze, epochs = self.recipe.freeze_epochs, self.recipe.epochs
        frozen = self.facts.epoch < freeze or freeze >= epochs
        steps = self.steps[:freeze] if frozen else self.steps[freeze:]
        return rate_schedule(self.recipe, steps), frozen

    def begin_phase(self):
        self.schedule, frozen = self.phase()
        compile_model(self.learner, self.trained, self.schedule, frozen)

    def goes_on(self) -> bool:
        """Whether there are epochs left, and patience for them."""
        facts, recipe = self.facts, self.recipe
        scores = [row[f"val_{self.learner.score}"] for row in facts.history]
        best = scores.index(max(scores)) + 1 if scores else 0  # the first of equals
        # Where the head alone learns throughout, its epochs are those that count.
        frozen = recipe.freeze_epochs if recipe.freeze_epochs < recipe.epochs else 0
        lost = recipe.patience and facts.epoch - max(best, frozen) >= recipe.patience
        if lost and facts.epoch < recipe.epochs:
            self.console.print(f"No better score in {recipe.patience} epochs: this is the end.")
        return facts.epoch < recipe.epochs and not lost

    def terminate(self):
        self.terminated = True

    def restore(self):
        if not self.checkpoint.exists():
            return
        facts, arrays = read_state(self.checkpoint)
        self.facts = facts = self._checked(facts, arrays)
        self.metrics = arrays["metrics"]
        if 0 < self.recipe.freeze_epochs <= facts.epoch:
            self.begin_phase()
        groups = self._variables()
        for name in ("weights", "optimizer", "average"):
            assign_all(groups[name], arrays[name])
        self.moving.steps = sum(self.steps[: facts.epoch]) + facts.step
        self.console.print(f"going on after {self.place()}")

    def _checked(self, stored, arrays) -> _Facts:
        """The facts of a checkpoint, if they and its arrays can be of this run."""
        try:
            facts = _Facts(**stored)
            steps = [*self.steps, 1][facts.epoch]
            best = {each["epoch"]: float(each["score"]) for each in facts.best}
            sound = (
                facts.epoch >= 0
                and (0 <= facts.step < steps if facts.logs is None else facts.step == steps)
                and [row["epoch"] for row in facts.history] == [*range(1, facts.epoch + 1)]
                and best.keys() <= set(range(facts.epoch))
                and all(isinstance(value, float) for value in (facts.logs or {}).values())
                and all(np.isfinite(a).all() for n in ("weights", "average") for a in arrays[n])
                and arrays.keys() >= {"optimizer", "metrics"}
            )
        except (TypeError, KeyError, IndexError, AttributeError, ValueError) as error:
            raise damaged(self.checkpoint, error) from error
        if facts.examples not in (None, self.examples):
            raise ValueError(
                f"The run in {str(self.out)!r} began with {facts.examples} training images, the "
                f"data now has {self.examples}: bring them back to go on, or choose another folder."
            )
        if not sound:
            reason = "it does not fit the run, or holds values that are no numbers"
            raise damaged(self.checkpoint, reason)
        return facts

    def save(self):
        if self.devices.host == 0:
            sync(self.trained)
            facts = dataclasses.asdict(self.facts)
            write_state(self.checkpoint, self._variables(), facts)

    def _variables(self):
        model = self.trained
        within_epoch = self.facts.step > 0 and self.facts.logs is None
        return {
            "weights": model.trainable_variables + model.non_trainable_variables,  # and seeds
            "optimizer": model.optimizer.variables,
            "average": self.average.weights,
            "metrics": model.metrics_variables if within_epoch else [],
        }

    def place(self) -> str:
        return f"step {self.facts.step} of epoch {self.facts.epoch + 1} of {self.recipe.name}"

    def train(self, training):
        facts, plan = self.facts, self.plan(self.facts.epoch)
        if facts.logs is not None:  # stopped after the last step of the epoch
            return
        self.bar.begin(plan[facts.step :], sum(self.steps[: facts.epoch]) + facts.step)
        history = self.trained.fit(
            self.learner.batches(training(facts.epoch, plan, facts.step)),
            initial_epoch=facts.epoch,
            epochs=facts.epoch + 1,
            steps_per_epoch=len(plan) - facts.step,
            shuffle=False,
            verbose=0,
            callbacks=[self.moving, self, self.bar],
        ).history
        facts.logs = {name: float(values[-1]) for name, values in history.items()}
        updates = int(keras.ops.convert_to_numpy(self.trained.optimizer.iterations))
        facts.logs["learning_rate"] = float(self.schedule(max(updates - 1, 0)))
        self.save()

    def on_epoch_begin(self, epoch, logs=None):
        if self.metrics:
            assign_all(self.trained.metrics_variables, self.metrics)
            self.metrics = []

    def on_train_batch_end(self, batch, logs=None):
        self.facts.step += 1
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss} at {self.place()}. Try a lower `peak_rate`, `clip_norm=1` or "
                "`mixed_precision=none`, in another folder."
            )
        last = self.facts.step == self.steps[self.facts.epoch]  # saved with the epoch's metrics
        if self.terminated and not last:
            self.save()
            raise Interrupted(f"stopped after {self.place()}")
        if self.facts.step % self.checkpoint_steps == 0 and not last:
            try:
                self.save()
            except OSError as error:
                there = self.checkpoint.exists()
                before = "the one before is untouched, and" if there else "there is none yet;"
                self.console.print(
                    f"The checkpoint after {self.place()} could not be written ({error}); {before} "
                    "training goes on."
                )

    def check(self):
        if self.terminated:
            raise Interrupted(f"stopped while evaluating after {self.place()}")

    def validate(self, validation):
        facts, keep = self.facts, self.recipe.average_best
        metrics = self.evaluate(validation)
        facts.best.append({"epoch": facts.epoch, "score": metrics[self.learner.score]})
        facts.best.sort(key=lambda each: (each["score"], each["epoch"]), reverse=True)
        dropped = facts.best[keep:]
        facts.best = facts.best[:keep]
        row = {"epoch": facts.epoch + 1, **facts.logs}
        row |= {f"val_{name}": value for name, value in metrics.items()}
        facts.history.append(row)
        if self.devices.host == 0:
            if any(each["epoch"] == facts.epoch for each in facts.best):
                with writing_model(self._best(facts.epoch)) as temporary:
                    self.average.save_weights(temporary)
            self._write_history(row)
        facts.epoch, facts.step, facts.logs = facts.epoch + 1, 0, None
        if facts.epoch == self.recipe.freeze_epochs < self.recipe.epochs:
            self.begin_phase()
        self.save()
        if self.devices.host == 0:
            for each in dropped:
                self._best(each["epoch"]).unlink(missing_ok=True)
        self.bar.report(facts.epoch, self.recipe.epochs, {k: row[k] for k in row if k != "epoch"})

    def _write_history(self, row):
        """The whole table as CSV, and its last row for TensorBoard."""
        import tensorflow as tf

        path = self.out / "history.csv"
        with replacing(path) as temporary, open(temporary, "w", newline="") as file:
            table = csv.DictWriter(file, row)
            table.writeheader()
            table.writerows(self.facts.history)
        if self.writer is None:
            self.writer = tf.summary.create_file_writer(str(self.out / "tensorboard"))
        # tf.summary.scalar does just this, but only where TensorBoard is installed.
        kind = tf.compat.v1.SummaryMetadata()
        kind.plugin_data.plugin_name = "scalars"
        with self.writer.as_default():
            for name, value in row.items():
                if name != "epoch":
                    tf.summary.write(name, np.float32(value), row["epoch"], kind)
        self.writer.flush()

    def _best(self, epoch) -> Path:
        return self.out / "best" / f"epoch_{epoch + 1:04d}.weights.h5"

    def finish(self, validation) -> keras.Model:
        self.devices.wait()  # for host 0 to have written the last epoch's
        mean_of_weights(self.average, [self._best(each["epoch"]) for each in self.facts.best])
        result = {
            "recipe": self.recipe.name,
            "averaged_epochs": sorted(each["epoch"] + 1 for each in self.facts.best),
            "validation": self.evaluate(validation),
            "history": self.facts.history,
        }
        if self.devices.host == 0:
            with writing_model(self.out / "model.keras") as temporary:
                self.average.save(temporary)
            with replacing(self.out / "result.json") as temporary:
                temporary.write_text(json.dumps(result, indent=1) + "\n")
        return self.average


class _on_stop:  # noqa: N801 (a context manager)
    """Call a function when SIGTERM or Ctrl-C comes, instead of dying; a second Ctrl-C ends all."""

    def __init__(self, call: Callable[[], None]):
        self.call = call

    def __enter__(self):
        # Only the main thread may set handlers. What the caller ignores, as a shell does for what
        # runs in the background, stays ignored.
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self.before[number] = signal.signal(number, self._stop)

    def _stop(self, number, frame):
        if number == signal.SIGINT:
            signal.signal(number, self.before[number])
        self.call()

    def __exit__(self, *error):
        for number, before in self.before.items():
            signal.signal(number, before)
