"""The classifier's part of the demonstration."""

import dataclasses

import numpy as np

from keras_parc.evaluate import class_scores, top_k_accuracy
from keras_parc.lite import Metadata, TFLiteModel
from keras_parc.training.recipes import RECIPES


class ClassificationDemo:
    """Test scenes with a digit each, and what is measured on them.

    Args:
        training: A data set of `(image, label)`, for its length and for calibration.
        test: A data set of `(image, label)`.
    """

    recipe = RECIPES["digit_scenes"]
    quick = dataclasses.replace(
        recipe, model="parc_net_tiny", data="digit_scenes/tiny", epochs=1, warm_up_steps=1
    )
    open_file = TFLiteModel

    def __init__(self, training, test):
        self.training = training
        images, self.truth = (np.stack(x) for x in zip(*test.as_numpy_iterator(), strict=True))
        self.images = images.astype("float32")

    def calibration(self, count: int) -> list[np.ndarray]:
        """Images of the training set."""
        return [image for image, _ in self.training.take(count).as_numpy_iterator()]

    def metadata(self, name: str) -> Metadata:
        """What the exported files say of themselves."""
        labels = [str(digit) for digit in range(10)]
        return Metadata(labels=labels, name=name, description="Digits in digit scenes.")

    def measure(self, models: dict) -> dict[str, dict[str, float]]:
        """Measures of all models, shares from 0 to 1; "keras" is one of the models."""
        self.scores = {name: class_scores(each, self.images) for name, each in models.items()}
        best = self.scores["keras"].argmax(1)
        return {
            "accuracy": {n: top_k_accuracy(each, self.truth) for n, each in self.scores.items()},
            "agreement_with_keras": {
                name: float((each.argmax(1) == best).mean()) for name, each in self.scores.items()
            },
        }

    def figure(self, report: dict):
        """The picture of the report; after `measure`."""
        from keras_parc.report import demo_figure

        return demo_figure(report, self.images, self.truth, self.scores["int8"])
