"""AdamW that asks for its learning rate once a step, and may move a part of the model faster."""

import keras
from keras import ops

from keras_parc.support import compat


@keras.saving.register_keras_serializable(package="keras_parc")
class HeadAdamW(keras.optimizers.AdamW):
    """AdamW that moves some variables faster than the others.

    As a parameter group of PyTorch: the factor counts for the weight decay too. Weights decay where
    they are updated: Keras would compute the schedule anew for each of them, two fifths of the
    operations of a step of ParC-Net-XS.

    Args:
        *args: As `keras.optimizers.AdamW`.
        head: Paths of the variables with another rate.
        head_rate: Their learning rate, as a multiple of that of the others.
        **kwargs: As `keras.optimizers.AdamW`.

    Example:
        >>> head, other = keras.Variable(1.0, name="head"), keras.Variable(1.0, name="other")
        >>> optimizer = HeadAdamW(0.01, head=[head.path], head_rate=10.0, weight_decay=0.0)
        >>> optimizer.apply([keras.ops.ones(()), keras.ops.ones(())], [head, other])
        >>> round(float(head.numpy()), 4), round(float(other.numpy()), 4)
        (0.9, 0.99)
    """

    def __init__(self, *args, head: list[str] = (), head_rate: float = 1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.head, self.head_rate = list(head), head_rate

    def build(self, variables):
        super().build(variables)
        self._fast = {i for i, variable in enumerate(variables) if variable.path in self.head}

    def update_step(self, gradient, variable, learning_rate):
        if compat.variable_index(self, variable) in self._fast:
            learning_rate = learning_rate * self.head_rate
        if self.weight_decay is not None and compat.decays(self, variable):
            rate = ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables):
        """Nothing: `update_step` does it."""

    def get_config(self):
        return super().get_config() | {"head": self.head, "head_rate": self.head_rate}
