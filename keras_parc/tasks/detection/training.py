"""Training detectors."""

import keras
import numpy as np

from keras_parc.models.boxes import Anchors, detections
from keras_parc.models.registry import find_model
from keras_parc.models.ssd_lite import SSDLite, ssd_anchors
from keras_parc.models.ssd_losses import ssd_losses
from keras_parc.tasks.detection.measuring import measure_detections
from keras_parc.tasks.learner import Learner

# The settings of `SSDLite` for each `DetectionOptions.head`.
HEADS = {
    "standard": {},
    # For images of 64 x 64: maps of 8, 4, 2 and 1 cells, and few channels.
    "small": {
        "feature_names": ("P3", "P4", "P5"),
        "projections": (128, 128, 128),
        "extra_channels": (64,),
        "anchors": Anchors(((2.0,),) * 4, smallest=0.2, largest=0.9),
    },
}


class DetectionLearner(Learner):
    """An `SSDLite` and its two losses; chosen by COCO's mean average precision."""

    score = "map"

    def build(self, side, weights):
        if self.entry.task == "detection":
            return self.whole_model(side, **weights)
        return SSDLite(self.backbone(side, weights), self.classes, **HEADS[self.options.head])

    def class_layers(self):
        same_task = self.entry.task == self.recipe.task
        return (self.entry if same_task else find_model("SSDParCNetS")).class_layers

    def compile_arguments(self):
        return {"loss": ssd_losses(self.averaged())}

    def prepare(self, model):
        nothing = {name: keras.ops.zeros((1, *x.shape[1:])) for name, x in model.output.items()}
        objects = keras.ops.full((1, 1, 5), -1.0)
        model.compute_loss(None, dict.fromkeys(nothing, objects), nothing)
        model.reset_metrics()

    def batches(self, dataset):
        import tensorflow as tf

        def as_losses_take_it(images, truth):
            labels = tf.cast(truth["labels"], tf.float32)[..., None]
            objects = tf.concat([truth["boxes"], labels], -1)
            return images, {"boxes": objects, "scores": objects}

        return dataset.map(as_losses_take_it)

    def evaluator(self, model, batch, check):
        anchors, losses = ssd_anchors(model), ssd_losses(model)

        def evaluate(dataset):
            found, truths, total = [], [], 0.0
            for images, truth in self.batches(dataset).as_numpy_iterator():
                count = len(images)
                # One shape, on every device.
                images = np.pad(images, [(0, batch - count), (0, 0), (0, 0), (0, 0)])
                outputs = model.predict_on_batch(images)
                outputs = {name: value[:count] for name, value in outputs.items()}
                total += count * sum(
                    float(loss(truth[name], outputs[name])) for name, loss in losses.items()
                )
                found += detections(outputs, anchors, max_boxes=100)
                truths += list(truth["boxes"])
                check()
            return {"loss": total / len(truths), **self._precision(truths, found)}

        return evaluate

    def _precision(self, truths, found) -> dict[str, float]:
        """COCO's figures, as if the images were as large as the model takes them."""
        known = [
            {"boxes": each[:, :4], "labels": each[:, 4].astype(int)}
            for each in (each[each[:, 4] >= 0] for each in truths)
        ]
        size, names = (self.recipe.size, self.recipe.size), [str(i) for i in range(self.classes)]
        metrics = measure_detections(known, found, size, names)
        return {name: metrics[name] or 0.0 for name in ("map", "map50")}
