"""The segmenter's part of the demonstration."""

import numpy as np

from keras_parc.lite import Metadata, TFLiteModel
from keras_parc.support.class_maps import painted
from keras_parc.tasks.figures import measures_panel
from keras_parc.tasks.segmentation.measuring import (
    class_map,
    confusion_matrix,
    intersections_over_unions,
    segmentation_logits,
)

LABELS = ["background", *map(str, range(10))]


class SegmentationDemo:
    """Test scenes with the mask of every digit, and what is measured on them.

    Args:
        training: A data set of examples, for its length and for calibration.
        test: A data set of examples.
    """

    open_file = TFLiteModel

    def __init__(self, training, test):
        self.training = training
        examples = list(test.as_numpy_iterator())
        self.images = np.stack([each["image"] for each in examples]).astype("float32")
        self.truth = np.stack([each["segmentation_mask"][..., 0] for each in examples])

    def calibration(self, count: int) -> list[np.ndarray]:
        """Images of the training set."""
        return [each["image"] for each in self.training.take(count).as_numpy_iterator()]

    def metadata(self, name: str) -> Metadata:
        """What the exported files say of themselves."""
        about = "Pixels of digits in digit scenes."
        return Metadata(
            labels=LABELS, name=name, description=about, task="segment", activation="softmax"
        )

    def measure(self, models: dict) -> dict[str, dict[str, float]]:
        """Measures of all models, shares from 0 to 1; "keras" is one of the models."""
        size = self.truth.shape[1:]
        self.maps = {
            name: np.stack(
                [class_map(each, size) for each in segmentation_logits(model, self.images)]
            )
            for name, model in models.items()
        }
        counts = {n: confusion_matrix(self.truth, m, len(LABELS)) for n, m in self.maps.items()}
        return {
            "mean_iou": {
                name: float(np.nanmean(intersections_over_unions(each)))
                for name, each in counts.items()
            },
            "agreement_with_keras": {
                name: float((each == self.maps["keras"]).mean()) for name, each in self.maps.items()
            },
        }

    def figure(self, report: dict):
        """The picture of the report; after `measure`."""

        return segmentation_figure(report, self.images, self.truth, self.maps["int8"])


def segmentation_figure(report: dict, images: np.ndarray, truth: np.ndarray, maps: np.ndarray):
    """Draw class maps over sample images, the training curve, mean IoU and time.

    Args:
        report: What `keras_parc.report.demo.run_demo` returns.
        images: Test images, `(n, height, width, 3)`, 0..255.
        truth: Their masks, `(n, height, width)`.
        maps: Class maps of the int8 file, `(n, height, width)`.

    Returns:
        A matplotlib figure: above what is there, below what was found, the worst images first.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    wrong = (maps != truth).mean((1, 2))
    order = np.argsort(-wrong, kind="stable")
    chosen = [*order[:3], *order[len(order) // 2 :][:3]]
    top.suptitle("Test scenes: masks above, int8 below; the three worst, three in the middle")
    axes = top.subplots(2, len(chosen), squeeze=False)
    for column, index in zip(axes.T, chosen, strict=True):
        for axis, classes in zip(column, (truth[index], maps[index]), strict=True):
            axis.imshow(painted(images[index], classes))
            axis.set(xticks=[], yticks=[])
        column[1].set_xlabel(f"{100 * wrong[index]:.1f} % of pixels wrong")
    curves = {"training (augmented)": "miou", "validation (averaged)": "val_miou"}
    measures_panel(bottom, report, "mean_iou", curves, "mean IoU")
    return figure
