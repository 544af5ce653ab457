"""Packages that only some features need: which extra of keras_parc brings each."""

import contextlib
from collections.abc import Iterator

EXTRAS = {
    "defusedxml": "train",
    "jinja2": "train",
    "keras_cv": "train",
    "matplotlib": "plots",
    "pycocotools": "train",
    "scipy": "train",
    "sklearn": "train",
    "tensorflow_datasets": "train",
    "yaml": "train",
}


@contextlib.contextmanager
def needs_extra() -> Iterator[None]:
    """Say how to install a missing package of an extra; a block, or a decorator of a function.

    Raises:
        ImportError: A package of `EXTRAS` is imported and is not there.

    Example:
        >>> with needs_extra():
        ...     raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        Traceback (most recent call last):
        ImportError: This needs matplotlib: pip install 'keras_parc[plots]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise ImportError(
            f"This needs {package}: pip install 'keras_parc[{EXTRAS[package]}]'", name=package
        ) from error
