"""The classifier's part of the demonstration."""

import numpy as np

from keras_parc.lite import Metadata, TFLiteModel
from keras_parc.tasks.classification.measuring import top_k_accuracy
from keras_parc.tasks.figures import measures_panel
from keras_parc.tasks.outputs import class_scores


class ClassificationDemo:
    """Test scenes with a digit each, and what is measured on them.

    Args:
        training: A data set of `(image, label)`, for its length and for calibration.
        test: A data set of `(image, label)`.
    """

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

        return demo_figure(report, self.images, self.truth, self.scores["int8"])


def demo_figure(report: dict, images: np.ndarray, labels: np.ndarray, scores: np.ndarray):
    """Draw sample predictions, the training curve, accuracy and time.

    Args:
        report: What `keras_parc.report.demo.run_demo` returns.
        images: Test images, `(n, height, width, 3)`, 0..255.
        labels: Their labels, `(n,)`.
        scores: Class probabilities of the int8 file, `(n, 10)`.

    Returns:
        A matplotlib figure. Wrong predictions come first and are framed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    guesses = scores.argmax(axis=1)
    # Up to half of the pictures are mistakes: they tell more than correct guesses.
    order = np.argsort(guesses == labels, kind="stable")
    wrong = order[: min(8, int((guesses != labels).sum()))]
    right = order[::-1][: 16 - len(wrong)]
    axes = top.subplots(2, 8)
    top.suptitle(
        f"int8 predictions on test scenes: {len(wrong)} of the {int((guesses != labels).sum())} "
        f"mistakes among {len(labels)}, then correct ones"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, index in zip(axes.flat, [*wrong, *right], strict=False):
        axis.axis("on")
        axis.imshow(images[index].astype("uint8"))
        axis.set(xticks=[], yticks=[])
        mistake = guesses[index] != labels[index]
        title = f"{guesses[index]} ({100 * scores[index].max():.0f} %)"
        axis.set_title(f"{title}, is {labels[index]}" if mistake else title, fontsize=10)
        for spine in axis.spines.values():
            spine.set(linewidth=3 if mistake else 0.5)

    curves = {"training (augmented)": "top1", "validation (averaged)": "val_top1"}
    measures_panel(bottom, report, "accuracy", curves, "accuracy")
    return figure
