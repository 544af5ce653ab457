"""What differs between kinds of models: one `Task` for each, which `fit` and `train` work with."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import ModuleType

import keras

from keras_parc.training.recipes import Recipe

# Where each task is; none is imported before it is needed.
_TASKS = {"classification": ("keras_parc.training.classify", "Classification")}


class Task(ABC):
    """A kind of model: its data, its two models, its loss and what is measured.

    Args:
        recipe: The run.
        classes: Number of classes.

    Attributes:
        data_room: Name of the module with `class_names`, `num_examples` and `dataset` for it.
        score: The measure by which the best epochs are chosen; more is better.
    """

    data_room: str
    score: str

    def __init__(self, recipe: Recipe, classes: int):
        self.recipe, self.classes = recipe, classes

    @classmethod
    def data(cls) -> ModuleType:
        """The module with `class_names`, `num_examples` and `dataset`."""
        return importlib.import_module(cls.data_room)

    @staticmethod
    @abstractmethod
    def training_options(recipe: Recipe) -> dict:
        """What `dataset` takes for training beyond what it takes for every task."""

    @staticmethod
    @abstractmethod
    def validation_options(recipe: Recipe) -> dict:
        """What `dataset` takes for evaluation beyond what it takes for every task."""

    @abstractmethod
    def trained(self, side: int | None) -> keras.Model:
        """The model that trains, of RGB 0..255 `(batch, side, side, 3)`, not compiled."""

    @abstractmethod
    def averaged(self) -> keras.Model:
        """The model that is kept: the same weights in the same order, of `recipe.size`."""

    @abstractmethod
    def compile_arguments(self) -> dict:
        """`loss` and `metrics` of the model that trains."""

    def prepare(self, model: keras.Model) -> None:  # noqa: B027 (not every task has to)
        """Make what a compiled model makes at its first step only: a checkpoint needs it before."""

    @abstractmethod
    def batches(self, dataset: tf.data.Dataset) -> tf.data.Dataset:  # noqa: F821
        """The data as the model that trains takes it: `(images, truth)`."""

    @abstractmethod
    def evaluator(
        self, model: keras.Model, batch: int, check: Callable[[], None]
    ) -> Callable[[tf.data.Dataset], dict[str, float]]:  # noqa: F821
        """A function that measures `model`, what `averaged` returned, on a data set.

        Args:
            model: The model, with weights that change from call to call.
            batch: Images at a time; every device gets as many.
            check: Called after every batch; raises to stop.
        """


def task_of(recipe: Recipe) -> type[Task]:
    """The kind of model a recipe trains.

    Example:
        >>> from keras_parc.training.recipes import RECIPES
        >>> task_of(RECIPES["digit_scenes"]).score
        'top1'
    """
    module, name = _TASKS[recipe.task]
    return getattr(importlib.import_module(module), name)
