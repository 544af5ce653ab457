"""The folder of a training run: whose it is, and one process at a time."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import filelock

from keras_parc.training.recipe import Recipe


def _flat(fields: dict) -> dict:
    """Nested fields by the names of the inner ones, as in `augmentation.flip`."""
    flat = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            inner = _flat(value).items()
            flat |= {k if name == "options" else f"{name}.{k}": v for k, v in inner}
        else:
            flat[name] = value
    return flat


def check_recipe(out: Path, recipe: Recipe) -> None:
    """Refuse another run's folder.

    Raises:
        ValueError: It holds a run of another recipe, or a recipe that cannot be read.
    """
    path = out / "recipe.json"
    if not path.exists():
        return
    try:
        found = _flat(dataclasses.asdict(Recipe.from_json(path.read_text(encoding="utf-8"))))
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read. {error} Choose another folder for a new run."
        ) from error
    wanted = _flat(dataclasses.asdict(recipe))
    differing = [
        f"{name} {found.get(name)!r} there, {wanted.get(name)!r} now"
        for name in wanted | found
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(
            f"{str(out)!r} holds a run of another recipe: {'; '.join(differing)}. Choose "
            "another folder, or the same recipe to go on."
        )


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold a run's folder, and clear away what a kill left half-written.

    The system lets go of the lock when the process ends, however it ends.

    Raises:
        ValueError: Another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock = filelock.FileLock(out / ".lock", timeout=0).acquire()
    except filelock.Timeout:
        raise ValueError(
            f"Another process trains in {str(out)!r}: wait until it ends, or choose another folder."
        ) from None
    with lock:
        for folder in (out, out / "best"):
            for leftover in folder.glob(".????????.*"):
                leftover.unlink()
        yield
