"""Class names for a command: from a file of the user's, from the model's, or beside it."""

from pathlib import Path


def class_names(labels: Path | None, model: Path, classes: int) -> list[str]:
    """The names of a model's classes.

    Args:
        labels: A text file, one name a line; None: in the model, or beside it in labels.txt.
        model: The model's file.
        classes: Number of classes.

    Returns:
        The names; numbers where there are none.

    Raises:
        FileNotFoundError: There is no such text file.
        ValueError: It is not UTF-8 text, or has another number of names.
    """
    beside = model.with_name("labels.txt")
    if labels is None and model.suffix == ".tflite":
        from keras_parc.lite import read_metadata

        metadata = read_metadata(model)
        if metadata is not None and metadata.labels:
            return list(metadata.labels)
    if labels is None and not beside.is_file():
        return [str(number) for number in range(classes)]
    path = labels or beside
    names = read_labels(path)
    if len(names) != classes:
        raise ValueError(
            f"{str(path)!r} has {len(names)} lines, but the model has {classes} classes."
        )
    return names


def read_labels(path: Path) -> list[str]:
    """The class names in a text file, one a line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, or not UTF-8 text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no label file {str(path)!r}.")
    try:
        names = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"The label file {str(path)!r} is not UTF-8 text: {error}") from error
    if not names:
        raise ValueError(f"The label file {str(path)!r} is empty: one class name a line.")
    return names
