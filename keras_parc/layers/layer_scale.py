"""A learned factor per channel."""

import keras
from keras import initializers, layers


@keras.saving.register_keras_serializable(package="keras_parc")
class LayerScale(layers.Layer):
    """A learned factor per channel, small at first: each block starts near the identity.

    Args:
        initial: First value of every factor.
        **kwargs: `name`, `dtype` and the like, see `keras.layers.Layer`.

    Input and output: `(..., channels)`.

    Source: arXiv 2103.17239, equation 4.
    """

    def __init__(self, initial: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self.initial = float(initial)

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma",
            shape=(input_shape[-1],),
            initializer=initializers.Constant(self.initial),
        )

    def call(self, x):
        return x * self.gamma

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return super().get_config() | {"initial": self.initial}
