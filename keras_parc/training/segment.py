"""Training segmenters."""

import keras

from keras_parc.deeplab_v3 import IGNORED, pixel_cross_entropy
from keras_parc.training.recipes import MODELS
from keras_parc.training.task import Task


class Segmentation(Task):
    """A `DeepLabV3` and its cross-entropy at every pixel; chosen by mean IoU."""

    data_room = "keras_parc.data.segmentation"
    score = "miou"

    @staticmethod
    def training_options(recipe):
        return {"augmentation": recipe.augmentation}

    @staticmethod
    def validation_options(recipe):
        return {}

    def trained(self, side):
        return MODELS[self.recipe.model](
            input_shape=(side, side, 3), classes=self.classes, include_preprocessing=True
        )

    def averaged(self):
        return self.trained(self.recipe.size)

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

    def head(self, model):
        parts = ("aspp", "segmentation_")
        heads = [layer for layer in model.layers if layer.name.startswith(parts)]
        return [variable for layer in heads for variable in layer.trainable_variables]

    def batches(self, dataset):
        import tensorflow as tf

        return dataset.map(lambda images, masks: (images, tf.cast(masks, tf.int32)))

    def evaluator(self, model, batch, check):
        # Over the same weights; the model that is kept stays uncompiled.
        measured = keras.Model(model.inputs, model.outputs)
        measured.compile(
            loss=pixel_cross_entropy(),
            metrics=[self._mean_iou()],
            jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
        )
        checking = keras.callbacks.LambdaCallback(
            on_test_batch_end=lambda batch, logs=None: check()
        )

        def evaluate(dataset):
            data = _filled(self.batches(dataset), batch)
            metrics = measured.evaluate(data, verbose=0, callbacks=[checking], return_dict=True)
            return {name: float(value) for name, value in metrics.items()}

        return evaluate


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
