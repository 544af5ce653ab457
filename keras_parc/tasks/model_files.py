"""Opening a model, whichever of the two formats its file has."""

import os
import re
import zipfile
from pathlib import Path

import keras

from keras_parc.lite.file.runtime import TFLiteDetector, TFLiteModel, open_model


def model_file(path: str | os.PathLike) -> Path:
    """The model file that a user means: the folder of a run stands for its `model.keras`.

    Args:
        path: A model file, or the folder of a finished run.

    Raises:
        FileNotFoundError: It is a folder without a finished run.

    Example:
        >>> model_file("runs/first/model_int8.tflite").name
        'model_int8.tflite'
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / "model.keras").is_file():
        raise FileNotFoundError(
            f"There is no model.keras in the folder {str(path)!r}: expected a model file, or the "
            "folder of a run that is finished."
        )
    return path / "model.keras"


def load_model(
    path: str | os.PathLike, threads: int = 1
) -> keras.Model | TFLiteModel | TFLiteDetector:
    """Open a model file, whichever of the two formats it is.

    Args:
        path: A `.keras` or a `.tflite` file.
        threads: Threads of the runtime for a `.tflite` file, at least 1.

    Returns:
        A Keras model, a `TFLiteModel` or, for a detector, a `TFLiteDetector`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is neither, or is damaged.

    Example:
        >>> import tempfile
        >>> image = keras.Input((32, 32, 3))
        >>> model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
        >>> model.save(tempfile.gettempdir() + "/tiny.keras")
        >>> load_model(tempfile.gettempdir() + "/tiny.keras").output_shape
        (None, 3)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    if path.suffix == ".tflite":
        return _of_one_image(open_model(path, threads), path)
    if path.suffix != ".keras":
        raise ValueError(
            f"{str(path)!r} is not a model file: expected a name ending in .keras or .tflite."
        )
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{str(path)!r} is not a .keras file or is damaged: it is no complete zip archive."
        )
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever the content of the archive provokes
        missing = _missing(str(error))
        raise ValueError(missing or f"Keras cannot load {str(path)!r}: {error}") from error


def _missing(message: str) -> str | None:
    """What to say of a class that Keras did not find; None if its message is another."""
    found = re.search(r"Could not locate (?:class|function) '([^']+)'", message)
    if found is None:
        return None
    registered = re.search(rf"'registered_name': '([^']*{re.escape(found[1])})'", message)
    known = f", registered as {registered[1]!r}" if registered and ">" in registered[1] else ""
    return (
        f"The model needs {found[1]!r}{known}, which is not defined here: import the module that "
        "defines it first (keras-parc export: --import MODULE)."
    )


def _of_one_image(model: TFLiteModel | TFLiteDetector, path: Path) -> TFLiteModel | TFLiteDetector:
    outputs = getattr(model, "output_shape", None)
    if isinstance(model.input_shape, dict) or isinstance(outputs, dict):
        raise ValueError(
            f"A file of one image and one output is needed; {str(path)!r} has {model.input_shape} "
            f"and {outputs}: run it with `keras_parc.TFLiteModel`."
        )
    return model


def opened(
    model: keras.Model | TFLiteModel | TFLiteDetector | str | os.PathLike,
) -> keras.Model | TFLiteModel | TFLiteDetector:
    """A model as it is, or the one in a file.

    Args:
        model: A model, or the path of a `.keras` or `.tflite` file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is neither, or is damaged.

    Example:
        >>> opened("none.keras")
        Traceback (most recent call last):
        FileNotFoundError: There is no model file 'none.keras'.
    """
    return load_model(model) if isinstance(model, (str, os.PathLike)) else model
