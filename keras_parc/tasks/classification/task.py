"""Classification as one object."""

from keras_parc.tasks.classification import data
from keras_parc.tasks.classification.analysis import analyse
from keras_parc.tasks.classification.measuring import evaluate_classifier
from keras_parc.tasks.classification.predicting import columns, predict
from keras_parc.tasks.classification.training import ClassificationLearner
from keras_parc.tasks.task import Task

TASK = Task(
    name="classification",
    data=data,
    learner=ClassificationLearner,
    evaluate=evaluate_classifier,
    evaluate_options=("short_side",),
    analyse=analyse,
    predict=predict,
    predict_options=("top",),
    columns=columns,
)
