"""Gradients of a model on whichever backend Keras runs."""

import keras
import numpy as np


def gradients(model, x, weighting):
    """One training-mode pass of `sum(model(x) * weighting)`.

    Returns:
        Output, gradient by the input, gradients by variable path, and the values of the
        non-trainable variables after the pass by variable path: all numpy.
    """
    backend = keras.config.backend()
    trainable = model.trainable_variables
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            loss = tf.reduce_sum(y * weighting)
        grad_x, *grads = tape.gradient(loss, [x, *(v.value for v in trainable)])
        after = model.non_trainable_variables
    elif backend == "jax":
        import jax

        def loss_of(x, values):
            y, after = model.stateless_call(
                values, [v.value for v in model.non_trainable_variables], x, training=True
            )
            return (y * weighting).sum(), (y, after)

        values = [v.value for v in trainable]
        (grad_x, grads), (y, updated) = jax.grad(loss_of, argnums=(0, 1), has_aux=True)(x, values)
        for variable, value in zip(model.non_trainable_variables, updated, strict=True):
            variable.assign(value)
        after = model.non_trainable_variables
    else:
        import torch

        x = torch.tensor(x, requires_grad=True)
        y = model(x, training=True)
        (y * torch.tensor(weighting)).sum().backward()
        grad_x, grads = x.grad, [v.value.grad for v in trainable]
        after = model.non_trainable_variables
    return (
        keras.ops.convert_to_numpy(y),
        np.asarray(grad_x),
        {v.path: np.asarray(g) for v, g in zip(trainable, grads, strict=True)},
        {v.path: keras.ops.convert_to_numpy(v) for v in after},
    )
