"""Detection as one object."""

from keras_parc.tasks.detection import data
from keras_parc.tasks.detection.analysis import analyse
from keras_parc.tasks.detection.measuring import evaluate_detector
from keras_parc.tasks.detection.predicting import columns, predict
from keras_parc.tasks.detection.training import DetectionLearner
from keras_parc.tasks.task import Task

TASK = Task(
    name="detection",
    data=data,
    learner=DetectionLearner,
    evaluate=evaluate_detector,
    evaluate_options=("results_path",),
    analyse=analyse,
    predict=predict,
    predict_options=("threshold",),
    columns=columns,
)
