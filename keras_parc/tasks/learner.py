"""What differs from task to task while a model trains: one `Learner` for each."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_parc.models.features import features, layers_by_level
from keras_parc.models.registry import find_model
from keras_parc.support.checks import unknown_name
from keras_parc.tasks.starting import saved_model, start_from

if TYPE_CHECKING:
    import tensorflow as tf


# What a recipe decides of a model by other fields.
MANAGED = frozenset(
    {
        *("classes", "classifier_activation", "include_preprocessing", "include_top"),
        *("input_shape", "input_tensor", "name", "pooling", "weights"),
    }
)


class Learner(ABC):
    """A run's two models, its loss and what is measured.

    Args:
        recipe: The run, a `keras_parc.training.recipe.Recipe`.
        classes: Number of classes.
        names: Their names, by which the head of another run is taken over or not; None: it is not.

    Raises:
        ValueError: There is no model of the recipe's name, or it is for another task.

    Attributes:
        score: The measure by which the best epochs are chosen; more is better.
    """

    score: str

    def __init__(self, recipe: Any, classes: int, names: Sequence[str] | None = None):
        self.recipe, self.options = recipe, recipe.options
        self.classes, self.names = classes, names
        self.entry = find_model(recipe.model)
        if self.entry.task not in ("classification", recipe.task):
            raise ValueError(
                f"{self.entry.name} is for {self.entry.task}, the recipe {recipe.name!r} for "
                f"{recipe.task}."
            )
        if given := sorted(MANAGED & set(recipe.model_arguments)):
            raise ValueError(f"The recipe itself sets {', '.join(given)} of the model.")
        parameters = inspect.signature(self.entry.build).parameters
        taken = set(parameters)
        if all(each.kind is not each.VAR_KEYWORD for each in parameters.values()):
            for name in recipe.model_arguments:
                if name not in taken - MANAGED:
                    raise ValueError(
                        f"{self.entry.name}: {unknown_name('argument', name, taken - MANAGED)}"
                    )

    @staticmethod
    def training_options(recipe: Any) -> dict[str, Any]:
        """What the task's `dataset` takes for training beyond what it takes for every task."""
        return {"augmentation": recipe.options.augmentation}

    @staticmethod
    def validation_options(recipe: Any) -> dict[str, Any]:
        """What the task's `dataset` takes for evaluation beyond what it takes for every task."""
        return {}

    def trained(self, side: int | None, start: bool = True) -> keras.Model:
        """The model that trains, of RGB 0..255 `(batch, side, side, 3)`, not compiled.

        Args:
            side: Of the images in pixels; None: any.
            start: Whether it has the weights that the recipe starts from.
        """
        return self.started(self.build, side, start)

    def averaged(self) -> keras.Model:
        """The model that is kept: the same weights in the same order, of `recipe.size`."""
        return self.build(self.recipe.size, {})

    def started(self, build: Callable, side: int | None, start: bool) -> keras.Model:
        """What a function of the side and of the constructor's weights builds, with its weights."""
        weights = self.recipe.weights if start else ""
        saved = saved_model(weights)
        model = build(side, {"weights": weights} if weights and saved is None else {})
        if saved is not None:
            start_from(model, saved, self.names, self.head(model), self.class_layers())
        return model

    @abstractmethod
    def build(self, side: int | None, weights: dict[str, str]) -> keras.Model:
        """The recipe's model for images of a side, and with the constructor's `weights`."""

    def whole_model(self, side: int | None, **arguments) -> keras.Model:
        """The recipe's model, where its entry is for this task."""
        return self._build(
            input_shape=(side, side, 3),
            classes=self.classes,
            include_preprocessing=True,
            **arguments,
        )

    def backbone(self, side: int | None, weights: dict[str, str]) -> keras.Model:
        """The recipe's model as a backbone for a head."""
        return self._build(
            include_top=False, input_shape=(side, side, 3), include_preprocessing=True, **weights
        )

    def _build(self, **arguments) -> keras.Model:
        """Call the constructor, or say which argument it does not have."""
        signature = inspect.signature(self.entry.build)
        try:
            signature.bind(**arguments, **self.recipe.model_arguments)
        except TypeError as error:
            raise ValueError(
                f"{self.entry.name} cannot be built by a recipe: {error}. See "
                "`keras_parc.register_model` for the arguments a constructor needs."
            ) from error
        return self.entry.build(**arguments, **self.recipe.model_arguments)

    @abstractmethod
    def compile_arguments(self) -> dict[str, Any]:
        """`loss` and `metrics` of the model that trains."""

    def prepare(self, model: keras.Model) -> None:  # noqa: B027 (not every task has to)
        """Make what a compiled model makes at its first step only: a checkpoint needs it before."""

    def head(self, model: keras.Model) -> set[str]:
        """The names of the layers with weights that are not the backbone's."""
        backbone = {layer.name for layer in features(model).layers}
        return {layer.name for layer in model.layers if layer.weights} - backbone

    def class_layers(self) -> tuple[str, ...]:
        """The names of the layers whose weights are those of the classes."""
        return self.entry.class_layers

    def rates(self, model: keras.Model) -> dict[str, float]:
        """The path of each variable that learns at another rate than the last stage, and the rate
        as a multiple of that.
        """
        recipe, found = self.recipe, {}
        if recipe.head_rate == recipe.stage_rate == 1:
            return found
        head = self.head(model)
        if recipe.head_rate != 1:
            found |= dict.fromkeys(head, recipe.head_rate)
        if recipe.stage_rate != 1 and self.entry.levels:
            stages = list(layers_by_level(features(model)).values())
            for distance, names in enumerate(reversed(stages)):
                found |= dict.fromkeys(names - head, recipe.stage_rate**distance)
        return {
            variable.path: found[layer.name]
            for layer in model.layers
            for variable in layer.trainable_variables
            if found.get(layer.name, 1) != 1
        }

    @abstractmethod
    def batches(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The data as the model that trains takes it: `(images, truth)`."""

    @abstractmethod
    def evaluator(
        self, model: keras.Model, batch: int, check: Callable[[], None]
    ) -> Callable[[tf.data.Dataset], dict[str, float]]:
        """A function that measures `model`, what `averaged` returned, on a data set.

        Args:
            model: The model, with weights that change from call to call.
            batch: Images at a time; every device gets as many.
            check: Called after every batch; raises to stop.
        """


def keras_evaluation(
    model: keras.Model, check: Callable[[], None], **compile_arguments
) -> Callable[[tf.data.Dataset], dict[str, float]]:
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
        with warnings.catch_warnings():
            # Of a data set whose length is not known, as damaged files are left out.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            metrics = measured.evaluate(dataset, verbose=0, callbacks=[checking], return_dict=True)
        return {name: float(value) for name, value in metrics.items()}

    return evaluate
