"""AdamW that asks for its learning rate once a step, and may move parts of the model faster."""

from collections.abc import Mapping

import keras
from keras import ops

from keras_parc.support import compat


@keras.saving.register_keras_serializable(package="keras_parc")
class StagedAdamW(keras.optimizers.AdamW):
    """AdamW with a learning rate of its own for some variables.

    As a parameter group of PyTorch: the factor counts for the weight decay too. Weights decay where
    they are updated: Keras would compute the schedule anew for each of them, two fifths of the
    operations of a step of ParC-Net-XS.

    Args:
        *args: As `keras.optimizers.AdamW`.
        rates: Path of a variable to its learning rate, as a multiple of that of the others.
        **kwargs: As `keras.optimizers.AdamW`.

    Example:
        >>> head, other = keras.Variable(1.0, name="head"), keras.Variable(1.0, name="other")
        >>> optimizer = StagedAdamW(0.01, rates={head.path: 10.0}, weight_decay=0.0)
        >>> optimizer.apply([keras.ops.ones(()), keras.ops.ones(())], [head, other])
        >>> round(float(head.numpy()), 4), round(float(other.numpy()), 4)
        (0.9, 0.99)
    """

    def __init__(self, *args, rates: Mapping[str, float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.rates = dict(rates or {})

    def build(self, variables):
        super().build(variables)
        self._multiples = [self.rates.get(variable.path, 1.0) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        multiple = self._multiples[compat.variable_index(self, variable)]
        if multiple != 1:
            learning_rate = learning_rate * multiple
        if self.weight_decay is not None and compat.decays(self, variable):
            rate = ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables):
        """Nothing: `update_step` does it."""

    def get_config(self):
        return super().get_config() | {"rates": self.rates}
