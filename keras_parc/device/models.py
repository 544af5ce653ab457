"""The `.tflite` files that a user means: one, or those of a run or a folder."""

import os
from pathlib import Path

from keras_parc.device.tools import model_file


def tflite_files(path: str | os.PathLike) -> list[Path]:
    """Find the files and look whether they are whole.

    Args:
        path: A `.tflite` file, the folder of a finished run, or any folder of such files.

    Returns:
        The files, by name.

    Raises:
        FileNotFoundError: There is nothing of that name, or no file in the folder.
        ValueError: A file is not a `.tflite`, or is damaged.

    Example:
        >>> tflite_files("runs/none")
        Traceback (most recent call last):
        FileNotFoundError: There is no file or folder 'runs/none'.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {str(path)!r}.")
    files = sorted(path.glob("*.tflite")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(
            f"There is no .tflite file in {str(path)!r}: keras-parc train writes two when it has "
            "finished, keras-parc export makes one of any model."
        )
    for file in files:
        if file.suffix != ".tflite":
            raise ValueError(
                f"{str(file)!r} is not a .tflite file: keras-parc export makes one of a model."
            )
        try:
            model_file.check_model(file)
        except model_file.ToolError as error:
            raise ValueError(f"{error}.") from error
    return files
