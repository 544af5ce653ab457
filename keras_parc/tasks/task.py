"""What differs between kinds of models: one `Task` for each, which `fit` and `train` work with."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import ModuleType

import keras

from keras_parc.models.zoo import MODELS
from keras_parc.training.recipes import Recipe

# Where each task is; none is imported before it is needed.
_TASKS = {
    "classification": ("keras_parc.tasks.classification.training", "Classification"),
    "detection": ("keras_parc.tasks.detection.training", "Detection"),
    "segmentation": ("keras_parc.tasks.segmentation.training", "Segmentation"),
}


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
    def training_options(recipe: Recipe) -> dict:
        """What `dataset` takes for training beyond what it takes for every task."""
        return {"augmentation": recipe.augmentation}

    @staticmethod
    def validation_options(recipe: Recipe) -> dict:
        """What `dataset` takes for evaluation beyond what it takes for every task."""
        return {}

    def trained(self, side: int | None) -> keras.Model:
        """The model that trains, of RGB 0..255 `(batch, side, side, 3)`, not compiled."""
        return self._model(side)

    def averaged(self) -> keras.Model:
        """The model that is kept: the same weights in the same order, of `recipe.size`."""
        return self._model(self.recipe.size)

    def _model(self, side, **options):
        return MODELS[self.recipe.model](
            input_shape=(side, side, 3),
            classes=self.classes,
            include_preprocessing=True,
            **options,
        )

    @abstractmethod
    def compile_arguments(self) -> dict:
        """`loss` and `metrics` of the model that trains."""

    def prepare(self, model: keras.Model) -> None:  # noqa: B027 (not every task has to)
        """Make what a compiled model makes at its first step only: a checkpoint needs it before."""

    def head(self, model: keras.Model) -> list[keras.Variable]:
        """The variables that learn at `recipe.head_rate` times the rate of the others."""
        return []

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


def keras_evaluation(
    model: keras.Model, check: Callable[[], None], **compile_arguments
) -> Callable[[tf.data.Dataset], dict[str, float]]:  # noqa: F821
    """An `evaluator` by Keras' own evaluation; the model that is kept stays uncompiled.

    Args:
        model: The model to measure.
        check: Called after every batch; raises to stop.
        **compile_arguments: Loss and metrics.
    """
    measured = keras.Model(model.inputs, model.outputs)  # over the same weights
    on_tensorflow = keras.config.backend() == "tensorflow"
    measured.compile(jit_compile=False if on_tensorflow else "auto", **compile_arguments)
    checking = keras.callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs=None: check())

    def evaluate(dataset):
        metrics = measured.evaluate(dataset, verbose=0, callbacks=[checking], return_dict=True)
        return {name: float(value) for name, value in metrics.items()}

    return evaluate


def task_of(recipe: Recipe) -> type[Task]:
    """The kind of model a recipe trains.

    Example:
        >>> from keras_parc.training.recipes import RECIPES
        >>> task_of(RECIPES["digit_scenes"]).score
        'top1'
    """
    module, name = _TASKS[recipe.task]
    return getattr(importlib.import_module(module), name)
