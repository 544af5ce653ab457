"""A recipe and the data it names: one call, which is also how to go on after a stop."""

import os
from collections.abc import Sequence
from pathlib import Path

import keras
from rich.console import Console

from keras_parc.support.files import replacing
from keras_parc.tasks.labels import quoted, read_labels
from keras_parc.tasks.task import find_task
from keras_parc.training.distribute import ONE_DEVICE, Devices
from keras_parc.training.fit import fit
from keras_parc.training.origin import origin_in, write_origin
from keras_parc.training.recipe import Recipe


def train(
    recipe: Recipe,
    out: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    source=None,
    devices: Devices = ONE_DEVICE,
    checkpoint_steps: int = 500,
    console: Console | None = None,
) -> keras.Model:
    """Train as a recipe says, or go on with the run in `out` that was stopped.

    A run on one device of the TensorFlow CPU backend ends with the same bits however often it was
    killed. Crop and flip keep that promise; RandAugment, colour jitter, erasing, MixUp and CutMix
    are KerasCV layers whose draws do not repeat, and GPUs and several devices add up in an order
    of their own: with those a run goes on from the same state, but not with the same bits.

    Args:
        recipe: The run, for instance what `keras_parc.training.recipes.find_recipe` returns.
        out: Folder of the run, see `keras_parc.training.fit.fit`; `labels.txt` is added, the names
            of the classes, and `weights.json`, what it started from.
        data_dir: Folder of prepared TFDS data sets; default: TFDS' own.
        source: What `open_data` returned, where it is open already.
        devices: Where to compute.
        checkpoint_steps: Steps from one checkpoint to the next.
        console: Where to print.

    Returns:
        The finished model.

    Raises:
        Interrupted: SIGTERM or Ctrl-C came; the state is saved.
        FloatingPointError: The loss is not a number.
        FileNotFoundError: The data set is not there.
        OSError: A file could not be written.
        ValueError: Something does not fit, such as other classes than the run began with, or too
            many images are damaged.

    Example:
        >>> from keras_parc.training.recipes import find_recipe, override
        >>> short = override(find_recipe("digit_scenes"), ["epochs=1"])
        >>> model = train(short, "run")  # doctest: +SKIP
    """
    devices.connect()
    import tensorflow as tf

    from keras_parc.data.skipped import SkippedImages
    from keras_parc.data.sources import is_folder, num_examples

    task = find_task(recipe.task)
    data = task.data
    source = source or open_data(recipe, data_dir, out)
    names, labels = data.class_names(source), Path(out) / "labels.txt"
    _check_classes(names, labels)
    origin = origin_in(Path(out), recipe)
    skipped = SkippedImages(limit=recipe.skip_limit)
    shared = {"size": recipe.size, "skipped": skipped}

    def training(epoch, plan, start):
        if devices.host == 0:  # now, as the folder is this run's
            with replacing(labels) as temporary:
                temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
            write_origin(Path(out), origin)
            if is_folder(source) and source.found.keep:
                source.found.keep()
        return data.dataset(
            source,
            recipe.train_split,
            training=True,
            batch=recipe.batch,
            schedule=[(size, images // devices.hosts) for size, images in plan],
            seed=recipe.seed,
            epoch=epoch,
            start_step=start,
            shard=(devices.host, devices.hosts),
            **task.learner.training_options(recipe),
            **shared,
        )

    validation = data.dataset(
        source,
        recipe.validation_split,
        training=False,
        batch=recipe.batch,
        **task.learner.validation_options(recipe),
        **shared,
    )
    try:
        return fit(
            recipe,
            training,
            validation,
            out,
            examples=num_examples(source, recipe.train_split),
            classes=len(names),
            names=names,
            devices=devices,
            checkpoint_steps=checkpoint_steps,
            console=console,
        )
    except tf.errors.OpError as error:
        if skipped.failure is None:
            raise
        raise ValueError(skipped.failure) from error


def open_data(
    recipe: Recipe,
    data_dir: str | os.PathLike | None = None,
    out: str | os.PathLike | None = None,
):
    """The data set of a recipe, as `keras_parc.data.sources.open_source` opens it.

    Args:
        recipe: The run.
        data_dir: Folder of prepared TFDS data sets; default: TFDS' own.
        out: Folder of the run, where a folder of images has its index unless `data_dir` is given.

    Returns:
        A TFDS builder.

    Raises:
        FileNotFoundError: The data set is not there.
        ValueError: It is no data set for the task of the recipe.

    Example:
        >>> from keras_parc.training.recipes import find_recipe
        >>> open_data(find_recipe("digit_scenes")).info.splits  # doctest: +SKIP
    """
    from keras_parc.data.sources import open_source

    return open_source(
        recipe.data,
        data_dir,
        None,
        recipe.task,
        Path(out) if out else None,
        format=recipe.format or None,
        validation=recipe.validation,
        split_by=recipe.split_by or None,
    )


def _check_classes(names: Sequence[str], labels: Path) -> None:
    """Refuse to go on with a run that began with other classes, or in another order."""
    if not labels.with_name("recipe.json").exists() or not labels.exists():
        return
    before = read_labels(labels)
    if before != list(names):
        raise ValueError(
            f"The run in {str(labels.parent)!r} began with the classes {quoted(before)}; the data "
            f"now has {quoted(names)}. Bring them back to go on, or choose another folder."
        )
