"""Opening a model, whichever of the two formats its file has."""

import os
import re
import zipfile
from pathlib import Path

import keras

from keras_parc.lite.file.runtime import TFLiteDetector, TFLiteModel, open_model
from keras_parc.support.text import one_line, without_colours

_HDF5 = (
    "an HDF5 file: load it in Python, with keras.models.load_model or, of weights alone, with "
    "load_weights of the model; then save that as .keras."
)
_OTHERS = {
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".pb": "part of a SavedModel: keras-parc export takes the folder.",
    ".py": "Python code: keras-parc export takes MODULE:FUNCTION, which returns the model.",
}


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
            f"There is no model.keras in the folder {str(path)!r}: expected a model file, the "
            "folder of a run that is finished or, for keras-parc export, the one that holds "
            "saved_model.pb."
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
    if path.suffix in _OTHERS:
        raise ValueError(f"{str(path)!r} is {_OTHERS[path.suffix]}")
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
        raise ValueError(_said(path, str(error))) from error


def _said(path: Path, message: str) -> str:
    """What to say of what Keras says of a file that it cannot load."""
    if "safe_mode=False" in message or "activation function identifier: {'value'" in message:
        return (
            f"{str(path)!r} holds a Python lambda, which may be any code: Keras does not load it. "
            "If you trust the file, return the model from a function of yours (built in code, or "
            "of keras.models.load_model with safe_mode=False): keras-parc export MODULE:FUNCTION."
        )
    found = re.search(r"Could not locate (?:class|function) '([^']+)'", message)
    if found is None:
        # The cause comes last, after the configuration of all that it is in.
        cause = one_line(without_colours(message.rpartition("Exception encountered: ")[2]))
        return f"Keras cannot load {str(path)!r}: {cause}"
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
