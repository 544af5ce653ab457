"""AdamW with another learning rate for a part of the model."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_parc")
class HeadAdamW(keras.optimizers.AdamW):
    """AdamW that moves some variables faster than the others.

    As a parameter group of PyTorch: the factor counts for the weight decay too.

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

    def _factor(self, variable) -> float:
        return self.head_rate if variable.path in self.head else 1.0

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate * self._factor(variable))

    def _apply_weight_decay(self, variables):
        super()._apply_weight_decay(variables)
        if self.weight_decay is None:
            return
        for variable in variables:  # The base has decayed it once.
            more = self._factor(variable) - 1.0
            if more and self._use_weight_decay(variable):
                rate = ops.cast(self.learning_rate * self.weight_decay * more, variable.dtype)
                variable.assign(variable - variable * rate)

    def get_config(self):
        return super().get_config() | {"head": self.head, "head_rate": self.head_rate}
