"""Training segmenters."""

import keras

from keras_parc.models.deeplab_v3 import DeepLabV3
from keras_parc.models.losses import pixel_cross_entropy
from keras_parc.models.registry import find_model
from keras_parc.support.class_maps import IGNORED
from keras_parc.tasks.learner import Learner, keras_evaluation

# The settings of `DeepLabV3` for each `SegmentationOptions.head`.
HEADS = {
    "standard": {},
    # For images of 64 x 64: a map of 8 x 8 cells, rates that stay inside it, a narrow head.
    "small": {"output_stride": 8, "rates": (1, 2, 3), "width": 128},
}


class SegmentationLearner(Learner):
    """A `DeepLabV3` and its cross-entropy at every pixel; chosen by mean IoU."""

    score = "miou"

    def build(self, side, weights):
        if self.entry.task == "segmentation":
            return self.whole_model(side, **weights)
        return DeepLabV3(self.backbone(side, weights), self.classes, **HEADS[self.options.head])

    def class_layers(self):
        same_task = self.entry.task == self.recipe.task
        return (self.entry if same_task else find_model("DeepLabV3ParCNetS")).class_layers

    def compile_arguments(self):
        return {"loss": pixel_cross_entropy(), "metrics": [self._mean_iou()]}

    def _mean_iou(self):
        return keras.metrics.MeanIoU(
            self.classes, ignore_class=IGNORED, sparse_y_pred=False, name="miou"
        )

    def prepare(self, model):
        nothing = keras.ops.zeros((1, 1, 1, self.classes))
        model.compute_metrics(None, keras.ops.zeros((1, 1, 1), "int32"), nothing)
        model.reset_metrics()

    def batches(self, dataset):
        import tensorflow as tf

        return dataset.map(lambda images, masks: (images, tf.cast(masks, tf.int32)))

    def evaluator(self, model, batch, check):
        measure = keras_evaluation(model, check, **self.compile_arguments())
        return lambda dataset: measure(_filled(self.batches(dataset), batch))


def _filled(dataset, batch):
    """Bring every batch to the same length, on every device, with masks that do not count."""
    import tensorflow as tf

    def fill(images, masks):
        missing = batch - tf.shape(images)[0]
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        masks = tf.pad(masks, [[0, missing], [0, 0], [0, 0]], constant_values=IGNORED)
        return (
            tf.ensure_shape(images, [batch, *images.shape[1:]]),
            tf.ensure_shape(masks, [batch, *masks.shape[1:]]),
        )

    return dataset.map(fill)
