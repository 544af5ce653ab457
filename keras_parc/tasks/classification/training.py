"""Training classifiers."""

import logging

import keras

from keras_parc.models.input_probe import image_input_of
from keras_parc.support.images import CENTRE
from keras_parc.tasks.learner import Learner, keras_evaluation

log = logging.getLogger(__name__)


class ClassificationLearner(Learner):
    """Logits and cross-entropy while training; probabilities are kept; chosen by top-1."""

    score = "top1"

    @staticmethod
    def training_options(recipe):
        options = recipe.options
        return {
            "augmentation": options.augmentation,
            "balanced": options.balanced,
            "one_hot": True,
        }

    @staticmethod
    def validation_options(recipe):
        return {"short_side": recipe.options.short_side, "one_hot": True}

    def trained(self, side, start=True):
        def logits(side, weights):
            return self.whole_model(side, classifier_activation=None, **weights)

        model = self.started(logits, side, start)
        # In mixed precision too: TensorFlow finds no best five in float16.
        logits = keras.layers.Activation("linear", dtype="float32", name="logits")(model.output)
        return keras.Model(model.inputs, logits, name=model.name)

    def head(self, model):
        return {layer.name for layer in model.layers} & set(self.entry.class_layers)

    def build(self, side, weights):
        model = self.whole_model(side, **weights)
        recorded = image_input_of(model)
        crop = self.recipe.size / self.options.short_side
        if recorded is not None:
            recorded.crop = crop  # as in validation, wherever the model is used
        elif self.options.short_side != round(self.recipe.size / CENTRE):
            log.warning(
                "%s has no `keras_parc.layers.ImageInput` that records the crop of %.3g: state "
                "--short-side %d where it is used.",
                *(self.entry.name, crop, self.options.short_side),
            )
        return model

    def compile_arguments(self):
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=self.options.label_smoothing
        )
        return {"loss": loss, "metrics": self._accuracies()}

    def _accuracies(self):
        return [
            keras.metrics.CategoricalAccuracy(name="top1"),
            keras.metrics.TopKCategoricalAccuracy(min(5, self.classes), name="top5"),
        ]

    def prepare(self, model):
        nothing = keras.ops.zeros((1, self.classes))
        model.compute_metrics(None, nothing, nothing)
        model.reset_metrics()

    def batches(self, dataset):
        import tensorflow as tf

        if len(dataset.element_spec[1].shape) == 2:
            return dataset
        return dataset.map(lambda images, labels: (images, tf.one_hot(labels, self.classes)))

    def evaluator(self, model, batch, check):
        # Images of weight 0 only fill the last batch.
        measure = keras_evaluation(
            model,
            check,
            loss=keras.losses.CategoricalCrossentropy(reduction="mean_with_sample_weight"),
            weighted_metrics=[
                keras.metrics.CategoricalCrossentropy(name="cross_entropy"),
                *self._accuracies(),
            ],
        )

        def evaluate(dataset):
            metrics = measure(_filled(self.batches(dataset), batch))
            metrics["loss"] = metrics.pop("cross_entropy")
            return metrics

        return evaluate


def _filled(dataset, batch):
    """Bring every batch to the same length with images of weight 0: one shape, on every device."""
    import tensorflow as tf

    def fill(images, labels):
        count = tf.shape(images)[0]
        missing = batch - count
        weights = tf.concat([tf.ones(count), tf.zeros(missing)], 0)
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        labels = tf.pad(labels, [[0, missing], [0, 0]])
        return (
            tf.ensure_shape(images, [batch, *images.shape[1:]]),
            tf.ensure_shape(labels, [batch, *labels.shape[1:]]),
            tf.ensure_shape(weights, [batch]),
        )

    return dataset.map(fill)
