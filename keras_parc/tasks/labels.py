"""The names of classes: a model's, a user's, and how they compare with a data set's."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_parc.support.text import first_of, lines_of

log = logging.getLogger(__name__)


def read_labels(path: str | os.PathLike) -> list[str]:
    """The class names in a text file, one a line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, or not UTF-8 text.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.txt"
        >>> _ = path.write_text("cat\\ndog\\n")
        >>> read_labels(path)
        ['cat', 'dog']
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no label file {str(path)!r}.")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"The label file {str(path)!r} is not UTF-8 text: {error}") from error
    if not text.strip():
        raise ValueError(f"The label file {str(path)!r} is empty: one class name a line.")
    return lines_of(text)


def recorded_labels(model, classes: int | None) -> list[str] | None:
    """The class names that are recorded in a model's file, or beside it in `labels.txt`.

    Args:
        model: The path of a `.keras` or `.tflite` file, a `TFLiteModel` or a `TFLiteDetector`; of
            anything else nothing is known.
        classes: Number of the model's classes; None where it is not known.

    Returns:
        The names; None where there are none.

    Raises:
        ValueError: They are not as many as the classes, or not UTF-8 text.
    """
    from keras_parc.lite.file.metadata import read_metadata
    from keras_parc.lite.file.runtime import TFLiteDetector, TFLiteModel

    if isinstance(model, (TFLiteModel, TFLiteDetector)):
        model = model.path
    if not isinstance(model, (str, os.PathLike)):
        return None
    path, names = Path(model), ()
    if path.suffix not in (".keras", ".tflite"):  # the name of a constructor
        return None
    if path.suffix == ".tflite":
        metadata = read_metadata(path)
        names = metadata.labels if metadata else ()
    beside = path.with_name("labels.txt")
    if names or not beside.is_file():
        return list(names) or None
    return chosen_labels(beside, model, classes)


def chosen_labels(path: str | os.PathLike | None, model, classes: int | None) -> list[str] | None:
    """The class names in a user's file, or if there is none those that are recorded.

    Args:
        path: A text file, one name a line; None: what `recorded_labels` finds.
        model: As for `recorded_labels`.
        classes: Number of the model's classes; None where it is not known.

    Raises:
        FileNotFoundError: There is no such text file.
        ValueError: The names are not as many as the classes, or not UTF-8 text.
    """
    if path is None:
        return recorded_labels(model, classes)
    names = read_labels(path)
    if classes is not None and len(names) != classes:
        raise ValueError(
            f"{str(path)!r} has {len(names)} lines, but the model has {classes} classes."
        )
    return names


def class_order(labels: Sequence[str] | None, names: Sequence[str], source: str) -> np.ndarray:
    """The number that each of a model's classes has in a data set, by the names.

    Args:
        labels: The names of the model's classes; None where they are not known, which is trusted
            to mean the order of the data set.
        names: Those of the data set, as many. WordNet ids may stand for the names of ImageNet.
        source: The data set, for messages.

    Returns:
        int64 `(classes,)`: the place in `names` of each of `labels`. A line is logged where it is
        another one.

    Raises:
        ValueError: The names are not the same.

    Example:
        >>> class_order(["dog", "cat"], ["cat", "dog"], "pets").tolist()
        [1, 0]
    """
    from keras_parc.models.imagenet import lemmas_of

    same = np.arange(len(names))
    if labels is None or list(labels) in (list(names), lemmas_of(names)):
        return same
    places = {name: place for place, name in enumerate(names)}
    if sorted(labels) == sorted(names) and len(places) == len(names):
        log.warning("The classes of %r come in another order than the model's: by name.", source)
        return np.array([places[name] for name in labels])
    strange = [name for name in labels if name not in places]
    unknown = [name for name in names if name not in set(labels)]
    raise ValueError(
        f"The classes of {source!r} are not the model's: only the model has {quoted(strange)}; "
        f"only the data has {quoted(unknown)}. If they mean the same, name the model's classes as "
        "the data does (--labels)."
    )


def quoted(names: Sequence[str]) -> str:
    """The first few names of classes, for a message."""
    return first_of([repr(name) for name in names]) or "nothing of its own"
