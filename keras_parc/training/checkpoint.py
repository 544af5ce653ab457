"""The state of a training run in one file that is replaced as a whole."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_parc.support.files import replacing
from keras_parc.support.text import one_line
from keras_parc.training.distribute import without_distribution


def write_state(path: Path, variables: Mapping[str, Sequence[keras.Variable]], facts: dict) -> None:
    """Write variables and facts; the file that was there stays until the new one is complete.

    Args:
        path: A `.npz` file.
        variables: Lists of variables by name.
        facts: Anything JSON can hold.

    Raises:
        OSError: The file could not be written; the one that was there is untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "state.npz"
        >>> write_state(path, {"weights": [keras.Variable([1.0, 2.0])]}, {"step": 3})
        >>> facts, arrays = read_state(path)
        >>> facts, arrays["weights"][0].tolist()
        ({'step': 3}, [1.0, 2.0])
    """
    arrays = {
        f"{name}/{index}": keras.ops.convert_to_numpy(variable)
        for name, group in variables.items()
        for index, variable in enumerate(group)
    }
    counts = {name: len(group) for name, group in variables.items()}
    arrays["facts"] = np.array(json.dumps({"facts": facts, "counts": counts}))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def read_state(path: Path) -> tuple[dict, dict[str, list[np.ndarray]]]:
    """Read what `write_state` wrote.

    Args:
        path: The file.

    Returns:
        The facts, and lists of arrays by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or is something else.
    """
    try:
        with np.load(path) as file:
            stored = json.loads(str(file["facts"]))
            arrays = {
                name: [file[f"{name}/{index}"] for index in range(count)]
                for name, count in stored["counts"].items()
            }
            facts = stored["facts"]
    except FileNotFoundError:
        raise
    except Exception as error:  # What readers of damaged archives fail with is not to be listed.
        raise damaged(path, error) from error
    return facts, arrays


def damaged(path: Path, reason: object) -> ValueError:
    """The error for a checkpoint that cannot be used.

    Args:
        path: The file.
        reason: What is wrong with it, or the error that it led to.
    """
    if isinstance(reason, Exception):
        reason = f"{type(reason).__name__}: {' '.join(str(reason).split())}"
    return ValueError(
        f"The checkpoint {str(path)!r} is damaged or is none ({reason}): remove it to start from "
        "the beginning."
    )


@contextlib.contextmanager
def writing_model(path: Path) -> Iterator[Path]:
    """A temporary name for a file of a model, as `replacing`; a full disk is an OSError here too.

    Args:
        path: The file wanted.

    Raises:
        OSError: It cannot be written.
    """
    try:
        with replacing(path) as temporary, without_distribution():
            yield temporary
    except RuntimeError as error:  # HDF5's
        raise OSError(f"{str(path)!r} cannot be written: {one_line(str(error))}") from error


def assign_all(variables: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> None:
    """Set variables to the arrays of a checkpoint.

    Raises:
        ValueError: They do not fit, in number or shape.
    """
    wanted, found = [tuple(v.shape) for v in variables], [a.shape for a in arrays]
    if wanted != found:
        differing = next((p for p in zip(wanted, found, strict=False) if p[0] != p[1]), "")
        raise ValueError(
            f"The checkpoint does not fit the model: expected {len(wanted)} arrays, found "
            f"{len(found)}; first difference of shapes: {differing}."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
