"""The folder of a training run: what is in it, under which name."""

from __future__ import annotations

import csv
import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_parc.tasks.labels import read_labels
from keras_parc.tasks.model_files import load_model
from keras_parc.training.recipe import Recipe

FORMATS = ("float32", "int8")  # of the .tflite files of a run


@dataclass(frozen=True)
class Run:
    """A training run and what came of it, read from its folder when it is asked for.

    Args:
        folder: Where `keras_parc.train` wrote to.

    Raises:
        FileNotFoundError: There is no run in the folder, or what is asked for is not there yet.
        ValueError: A file in it is damaged.

    Example:
        >>> run = Run(Path("runs/photos"))
        >>> run.model.predict(images)  # doctest: +SKIP
        >>> run.tflite["int8"], run.report["measures"]["int8"]["top1"]  # doctest: +SKIP
    """

    folder: Path

    def __post_init__(self):
        object.__setattr__(self, "folder", Path(self.folder))

    @functools.cached_property
    def recipe(self) -> Recipe:
        """How it was trained."""
        return Recipe.from_json(self._file("recipe.json").read_text("utf-8"))

    @functools.cached_property
    def labels(self) -> list[str]:
        """The names of the classes, in the order of the model's outputs."""
        return read_labels(self._file("labels.txt"))

    @functools.cached_property
    def model(self) -> keras.Model:
        """The finished model."""
        return load_model(self._file("model.keras"))

    @property
    def tflite(self) -> dict[str, Path]:
        """The exported files by number format: "float32" and "int8"."""
        return {name: self._file(f"model_{name}.tflite") for name in FORMATS}

    @property
    def history(self) -> list[dict[str, float]]:
        """A row of measures for each epoch."""
        with self._file("history.csv").open(newline="") as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]

    @property
    def report(self) -> dict[str, Any]:
        """What `report.json` holds."""
        return json.loads(self._file("report.json").read_text("utf-8"))

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            what = "no training run" if name == "recipe.json" else f"no {name} yet"
            raise FileNotFoundError(
                f"There is {what} in {str(self.folder)!r}; keras-parc train makes one."
            )
        return path


def is_run(folder: str | os.PathLike) -> bool:
    """Whether a path is the folder of a training run."""
    return (Path(folder) / "recipe.json").is_file()
