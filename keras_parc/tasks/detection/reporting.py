"""The detector's part of the demonstration."""

import numpy as np

from keras_parc.lite import Metadata, TFLiteDetector
from keras_parc.tasks.detection.measuring import measure_detections
from keras_parc.tasks.detection.predicting import detector_of, draw
from keras_parc.tasks.figures import measures_panel


class DetectionDemo:
    """Test scenes with one to three digits each, and what is measured on them.

    Args:
        training: A data set of dictionaries with `image`, for its length and for calibration.
        test: A data set of dictionaries with `image` and `objects`.
    """

    open_file = TFLiteDetector

    def __init__(self, training, test):
        self.training = training
        examples = list(test.as_numpy_iterator())
        self.images = np.stack([each["image"] for each in examples]).astype("float32")
        self.truths = [
            {"boxes": each["objects"]["bbox"], "labels": each["objects"]["label"]}
            for each in examples
        ]
        self.names = [str(digit) for digit in range(10)]

    def calibration(self, count: int) -> list[np.ndarray]:
        """Images of the training set."""
        return [each["image"] for each in self.training.take(count).as_numpy_iterator()]

    def metadata(self, name: str) -> Metadata:
        """What the exported files say of themselves."""
        description = "Digits in digit scenes, with boxes."
        return Metadata(task="detect", labels=self.names, name=name, description=description)

    def measure(self, models: dict) -> dict[str, dict[str, float]]:
        """Measures of all models, shares from 0 to 1."""
        self.found = {name: detector_of(each)(self.images) for name, each in models.items()}
        size = self.images.shape[1:3]
        measured = {
            name: measure_detections(self.truths, found, size, self.names)
            for name, found in self.found.items()
        }
        return {
            key: {name: each[key] for name, each in measured.items()} for key in ("map", "map50")
        }

    def figure(self, report: dict):
        """The picture of the report; after `measure`."""
        from PIL import Image

        pictures = []
        for image, found in zip(self.images[:16], self.found["int8"], strict=False):
            good = found["scores"] >= SHOWN
            large = Image.fromarray(image.astype("uint8")).resize((144, 144), Image.Resampling.BOX)
            pictures.append(draw(large, {k: v[good] for k, v in found.items()}, self.names))
        return detection_figure(report, pictures)


SHOWN = 0.3  # least score of a box in the picture


def detection_figure(report: dict, pictures: list):
    """Draw pictures with boxes, the training curve, mean average precision and time.

    Args:
        report: What `keras_parc.report.demo.run_demo` returns.
        pictures: Up to 16 pictures of the test set with what the int8 file found.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    top.suptitle(f"What the int8 file finds in test scenes, scores of {SHOWN} or more")
    axes = top.subplots(2, 8)
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture in zip(axes.flat, pictures, strict=False):
        axis.imshow(picture)
    curves = {"mAP": "val_map", "at IoU 0.5": "val_map50"}
    measures_panel(bottom, report, "map", curves, "mAP")
    return figure
