"""Segmentation as one object."""

from typing import Any

from keras_parc.tasks.segmentation import data
from keras_parc.tasks.segmentation.measuring import evaluate_segmenter
from keras_parc.tasks.segmentation.predicting import columns, predict
from keras_parc.tasks.segmentation.reporting import SegmentationDemo
from keras_parc.tasks.segmentation.training import SegmentationLearner
from keras_parc.tasks.task import Task


def _class_count(model: Any) -> int:
    return model.output_shape[-1]


TASK = Task(
    name="segmentation",
    data=data,
    learner=SegmentationLearner,
    evaluate=evaluate_segmenter,
    evaluate_options=("protocol",),
    predict=predict,
    columns=columns,
    class_count=_class_count,
    demo=SegmentationDemo,
)
