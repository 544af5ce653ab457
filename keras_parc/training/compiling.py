"""From a recipe to the model that trains: precision, optimizer, schedule."""

import functools
import itertools

import keras

from keras_parc.tasks.learner import Learner
from keras_parc.training.optimizer import HeadAdamW
from keras_parc.training.recipes import Recipe
from keras_parc.training.schedule import WarmUpCosine


def training_model(learner: Learner, schedule: WarmUpCosine, devices: int = 1) -> keras.Model:
    """The model that trains, in the recipe's precision and at its sizes, compiled.

    Args:
        learner: What is trained.
        schedule: What `rate_schedule` returns.
        devices: Devices of all hosts.

    Returns:
        A compiled model of RGB 0..255.

    Example:
        >>> from keras_parc.tasks.task import find_task
        >>> from keras_parc.training.recipes import find_recipe
        >>> recipe = find_recipe("digit_scenes")
        >>> learner = find_task(recipe.task).learner(recipe, classes=10)
        >>> training_model(learner, rate_schedule(recipe, [250] * 3)).input_shape
        (None, 48, 48, 3)
    """
    recipe = learner.recipe
    policy = keras.config.dtype_policy()
    if recipe.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{recipe.mixed_precision}")
    try:
        model = learner.trained(recipe.sizes[0] if len(recipe.sizes) == 1 else None)
    finally:
        keras.config.set_dtype_policy(policy)
    on_tensorflow = keras.config.backend() == "tensorflow"
    if on_tensorflow and devices > 1:  # JAX normalizes over all images of a step in any case
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = recipe.synchronized_batch_norm
    model.compile(
        _optimizer(learner, model, schedule),
        jit_compile=recipe.jit_compile if on_tensorflow else "auto",
        **learner.compile_arguments(),
    )
    model.optimizer.build(model.trainable_variables)
    learner.prepare(model)
    return model


def rate_schedule(recipe: Recipe, steps_per_epoch: list[int]) -> WarmUpCosine:
    """The learning rate by update of the weights.

    Raises:
        ValueError: An epoch is shorter than one update of the weights.
    """
    ends = itertools.accumulate(steps_per_epoch, initial=0)
    updates = [end // recipe.gradient_accumulation for end in ends]
    return WarmUpCosine(
        [after - before for before, after in itertools.pairwise(updates)],
        start=recipe.start_rate,
        peak=recipe.peak_rate,
        end=recipe.end_rate,
        warm_up_steps=recipe.warm_up_steps,
        by=recipe.cosine_by,
    )


def _optimizer(learner, model, schedule):
    recipe = learner.recipe
    accumulation = recipe.gradient_accumulation
    head, head_rate = learner.head(model)
    if head_rate != 1:
        head = [variable.path for variable in head]
        kind = functools.partial(HeadAdamW, head=head, head_rate=head_rate)
    elif keras.config.backend() == "torch":  # Its own is fused, that of subclasses is not.
        kind = keras.optimizers.AdamW
    else:
        kind = HeadAdamW
    # PyTorch adds epsilon after the correction of the second moment, Keras before: without
    # consequence at 1e-8.
    optimizer = kind(
        schedule,
        weight_decay=recipe.weight_decay,
        epsilon=1e-8,
        global_clipnorm=recipe.clip_norm or None,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
    )
    if not recipe.decay_all:
        spared = [
            variable
            for variable in model.trainable_variables
            if len(variable.shape) <= 1 or "position" in variable.name
        ]
        optimizer.exclude_from_weight_decay(var_list=spared)
    return optimizer
