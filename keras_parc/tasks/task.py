"""The tasks: one object each, which commands, training and reports ask."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras

from keras_parc.lite.detector import is_detector
from keras_parc.lite.file.runtime import TFLiteDetector, TFLiteModel
from keras_parc.models.registry import TASKS
from keras_parc.support.checks import unknown_name
from keras_parc.tasks.analysis import Analysis
from keras_parc.tasks.learner import Learner
from keras_parc.tasks.predictions import Prediction


@dataclass(frozen=True)
class Task:
    """What a model is for.

    Attributes:
        name: "classification", "detection" or "segmentation".
        data: The module with `class_names(source, data_dir)` and `dataset(source, split, ...)`.
        learner: What training asks.
        evaluate: `evaluate(model, source, split, *, size, batch_size, labels, data_dir,
            input_range, console)`, which
            returns measures by name; the model may be a file.
        evaluate_options: What `evaluate` takes beyond that.
        analyse: `analyse(models, labels, source, split, *, size, console)`: how good the three
            models of a run are and where they fail, an `Analysis`.
        predict: `predict(model, paths, names, *, input_range)`: a `Prediction` for each image.
        predict_options: What `predict` takes beyond that.
        columns: The head of the table of predictions, for a number of guesses.

    Example:
        >>> find_task("segmentation").columns(3)
        ['image', 'class', 'of the pixels']
    """

    name: str
    data: ModuleType
    learner: type[Learner]
    evaluate: Callable[..., dict[str, Any]]
    evaluate_options: tuple[str, ...]
    analyse: Callable[..., Analysis]
    predict: Callable[..., list[Prediction]]
    predict_options: tuple[str, ...]
    columns: Callable[[int], list[str]]


def find_task(name: str) -> Task:
    """The task of a name.

    Raises:
        ValueError: There is none.

    Example:
        >>> find_task("detection").learner.score
        'map'
    """
    if name not in TASKS:
        raise ValueError(unknown_name("task", name, TASKS))
    return importlib.import_module(f"keras_parc.tasks.{name}.task").TASK


def task_of(model: keras.Model | TFLiteModel | TFLiteDetector) -> Task:
    """The task of a model, told by what it puts out.

    Args:
        model: A Keras model, or a `.tflite` file that was opened.

    Returns:
        Detection for an `SSDLite` and files of one, segmentation for one map
        `(batch, height, width, classes)`, else classification.

    Example:
        >>> import keras_parc
        >>> task_of(keras_parc.ParCNetTiny(input_shape=(32, 32, 3))).name
        'classification'
    """
    if isinstance(model, TFLiteDetector) or (isinstance(model, keras.Model) and is_detector(model)):
        return find_task("detection")
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4:
        return find_task("segmentation")
    return find_task("classification")
