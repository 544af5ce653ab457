"""Batch normalization in one operation where TensorFlow has it."""

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="keras_parc")
class BatchNormalization(layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, on TensorFlow in one operation each way.

    Weights, results, gradients and moving statistics are Keras' own. Keras computes them in a
    dozen passes over the map, which is nearly half of a training step on a CPU. JAX fuses those.

    Args, input, output and errors: as `keras.layers.BatchNormalization`.

    Example:
        >>> import numpy as np
        >>> x = np.arange(8, dtype="float32").reshape(1, 2, 2, 2)
        >>> y = BatchNormalization()(x, training=True)
        >>> round(float(keras.ops.std(y)), 2)
        1.0
    """

    def call(self, inputs, training=None, mask=None):
        if not self._has_one_operation(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        inputs = tf.cast(inputs, self.compute_dtype)
        learns = bool(training) and self.trainable
        channels = inputs.shape[-1]
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, "float32") if self.scale else tf.ones(channels),
            offset=tf.cast(self.beta, "float32") if self.center else tf.zeros(channels),
            mean=[] if learns else tf.cast(self.moving_mean, "float32"),
            variance=[] if learns else tf.cast(self.moving_variance, "float32"),
            epsilon=self.epsilon,
            is_training=learns,
        )
        if learns:
            # The kernel divides by one value less; Keras' variance is that of these values.
            values = tf.cast(tf.size(inputs) // channels, "float32")
            variance = variance * ((values - 1) / values)
            for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                before = tf.cast(moving, "float32")
                moving.assign(before * self.momentum + now * (1.0 - self.momentum))
        return y

    def _has_one_operation(self, inputs, mask) -> bool:
        return (
            keras.config.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.compute_dtype in ("float32", "float16", "bfloat16")
            and not (getattr(self, "renorm", False) or self.synchronized or mask is not None)
        )
