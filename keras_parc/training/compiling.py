"""From a recipe to the model that trains: precision, optimizer, schedule."""

import functools
import itertools
from collections.abc import Iterator

import keras

from keras_parc.tasks.learner import Learner
from keras_parc.training.optimizer import StagedAdamW
from keras_parc.training.recipe import Recipe
from keras_parc.training.schedule import WarmUpCosine


def training_model(
    learner: Learner,
    schedule: WarmUpCosine,
    devices: int = 1,
    *,
    frozen: bool = False,
    start: bool = True,
) -> keras.Model:
    """The model that trains, in the recipe's precision and at its sizes, compiled.

    Args:
        learner: What is trained.
        schedule: What `rate_schedule` returns.
        devices: Devices of all hosts.
        frozen: Whether the head learns alone.
        start: Whether it has the weights the recipe starts from.

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
        model = learner.trained(recipe.sizes[0] if len(recipe.sizes) == 1 else None, start)
    finally:
        keras.config.set_dtype_policy(policy)
    if keras.config.backend() == "tensorflow" and devices > 1:
        for layer in model.layers:  # JAX normalizes over all images of a step in any case
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = recipe.synchronized_batch_norm
    compile_model(learner, model, schedule, frozen)
    return model


def compile_model(
    learner: Learner, model: keras.Model, schedule: WarmUpCosine, frozen: bool = False
) -> None:
    """Choose the layers that learn, and compile: anew, where others are to learn from now on.

    Args:
        learner: What is trained.
        model: The model that trains.
        schedule: What `rate_schedule` returns.
        frozen: Whether the head learns alone.
    """
    recipe = learner.recipe
    on_tensorflow = keras.config.backend() == "tensorflow"
    if frozen or recipe.freeze_norm or recipe.freeze_epochs:
        head = learner.head(model)
        backbone = [layer for layer in model.layers if layer.name not in head]
        for layer in backbone:
            layer.trainable = not frozen
        for layer in _norms(backbone) if recipe.freeze_norm else ():
            layer.trainable = False
    model.compile(
        _optimizer(learner, model, schedule),
        jit_compile=recipe.jit_compile if on_tensorflow else "auto",
        **learner.compile_arguments(),
    )
    model.optimizer.build(model.trainable_variables)
    learner.prepare(model)


def _norms(layers) -> Iterator[keras.layers.BatchNormalization]:
    """The BatchNorm layers, inside models too."""
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        yield from _norms(getattr(layer, "layers", ()))


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
    if rates := learner.rates(model):
        kind = functools.partial(StagedAdamW, rates=rates)
    elif keras.config.backend() == "torch":  # Its own is fused, that of subclasses is not.
        kind = keras.optimizers.AdamW
    else:
        kind = StagedAdamW
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
