"""Segmentation as one object."""

from keras_parc.tasks.segmentation import data
from keras_parc.tasks.segmentation.analysis import analyse
from keras_parc.tasks.segmentation.measuring import evaluate_segmenter
from keras_parc.tasks.segmentation.predicting import columns, predict
from keras_parc.tasks.segmentation.training import SegmentationLearner
from keras_parc.tasks.task import Task

TASK = Task(
    name="segmentation",
    data=data,
    learner=SegmentationLearner,
    evaluate=evaluate_segmenter,
    evaluate_options=("protocol",),
    analyse=analyse,
    predict=predict,
    predict_options=("top",),
    columns=columns,
)
