"""AdamW with another learning rate for a part of the model."""

import keras


@keras.saving.register_keras_serializable(package="keras_parc")
class HeadAdamW(keras.optimizers.AdamW):
    """AdamW that moves some variables faster than the others.

    As a parameter group of PyTorch: the factor counts for the weight decay too. For TensorFlow and
    JAX.

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

    def _is_fast(self, variable) -> bool:
        return self._get_variable_index(variable) in self._fast

    def update_step(self, gradient, variable, learning_rate):
        factor = self.head_rate if self._is_fast(variable) else 1.0
        super().update_step(gradient, variable, learning_rate * factor)

    def _apply_weight_decay(self, variables):
        if self.weight_decay is None:
            return
        usual = self.weight_decay
        for fast in (False, True):
            some = [each for each in variables if self._is_fast(each) == fast]
            if some:  # PyTorch takes no empty list
                self.weight_decay = usual * (self.head_rate if fast else 1.0)
                super()._apply_weight_decay(some)
        self.weight_decay = usual

    def get_config(self):
        return super().get_config() | {"head": self.head, "head_rate": self.head_rate}
