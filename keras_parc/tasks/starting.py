"""Weights that training starts from, where they are those of a model that was trained before."""

import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import keras

from keras_parc.support.text import first_of
from keras_parc.tasks.labels import read_labels
from keras_parc.tasks.model_files import load_model, model_file

log = logging.getLogger(__name__)


def saved_model(weights: str | os.PathLike) -> Path | None:
    """The `.keras` file that is meant; None where the constructor knows what is meant.

    Args:
        weights: The folder of a run, a `.keras` file, or anything a constructor takes.
    """
    path = Path(weights)
    if path.suffix == ".keras" or (weights and path.is_dir() and os.sep in os.fspath(weights)):
        return model_file(path)
    return None


def start_from(
    model: keras.Model,
    path: Path,
    names: Sequence[str] | None,
    head: Collection[str],
    class_layers: Collection[str],
) -> None:
    """Take over the weights of a model that was trained before, layer by layer.

    The two need not be for the same task: a detector starts from the backbone of a classifier. A
    layer that depends on the classes is taken over where the classes are the same.

    Args:
        model: The model that is to be trained.
        path: A `.keras` file; `labels.txt` beside it has its classes.
        names: The classes of `model`.
        head: Names of the layers of `model` that are not its backbone's.
        class_layers: Names of those whose weights are those of the classes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or not of such a model.
    """
    theirs = {layer.name: layer.weights for layer in load_model(path).layers if layer.weights}
    labels = path.with_name("labels.txt")
    same = names is not None and labels.is_file() and read_labels(labels) == list(names)
    fresh = []
    for layer in model.layers:
        if not layer.weights:
            continue
        found = theirs.get(layer.name, ())
        fits = [tuple(v.shape) for v in found] == [tuple(v.shape) for v in layer.weights]
        if fits and (same or layer.name not in class_layers):
            for variable, value in zip(layer.weights, found, strict=True):
                variable.assign(value)
        elif layer.name in head:
            fresh.append(layer.name)
        else:
            raise ValueError(
                f"`weights`: {str(path)!r} is not of the backbone of {model.name!r}: it has no "
                f"weights for {layer.name!r}. Choose the model it is of with --model."
            )
    if fresh:
        log.warning(
            "weights=%r: the backbone is loaded; random weights in %s.", str(path), first_of(fresh)
        )
