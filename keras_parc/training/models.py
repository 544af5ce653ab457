"""From a recipe to the two models of a run: the one that trains, and the one that is kept."""

import itertools

import keras

from keras_parc.training.recipes import MODELS, Recipe
from keras_parc.training.schedule import WarmUpCosine


def training_model(
    recipe: Recipe, classes: int, schedule: WarmUpCosine, devices: int = 1
) -> keras.Model:
    """The model that trains: logits, in the recipe's precision and at its sizes, compiled.

    Args:
        recipe: The run.
        classes: Number of classes.
        schedule: What `rate_schedule` returns.
        devices: Devices of all hosts.

    Returns:
        A compiled model of RGB 0..255.

    Example:
        >>> from keras_parc.training.recipes import RECIPES
        >>> recipe = RECIPES["digit_scenes"]
        >>> model = training_model(recipe, 10, rate_schedule(recipe, [250] * 3))
        >>> model.input_shape
        (None, 48, 48, 3)
    """
    side = recipe.sizes[0] if len(recipe.sizes) == 1 else None
    policy = keras.config.dtype_policy()
    if recipe.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{recipe.mixed_precision}")
    try:
        model = MODELS[recipe.model](
            input_shape=(side, side, 3),
            classes=classes,
            classifier_activation=None,
            include_preprocessing=True,
        )
    finally:
        keras.config.set_dtype_policy(policy)
    on_tensorflow = keras.config.backend() == "tensorflow"
    if on_tensorflow and devices > 1:  # JAX normalizes over all images of a step in any case
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = recipe.synchronized_batch_norm
    model.compile(
        _optimizer(recipe, model, schedule),
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        metrics=_accuracies(classes),
        jit_compile=recipe.jit_compile if on_tensorflow else "auto",
    )
    model.optimizer.build(model.trainable_variables)
    # Metrics make their variables at first use; a checkpoint needs them before.
    nothing = keras.ops.zeros((1, classes))
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()
    return model


def averaged_model(recipe: Recipe, classes: int) -> keras.Model:
    """The model that is kept: probabilities, float32, at the evaluation size, not compiled.

    Args:
        recipe: The run.
        classes: Number of classes.

    Returns:
        A model with the weights of `training_model`, in the same order.
    """
    return MODELS[recipe.model](
        input_shape=(recipe.size, recipe.size, 3), classes=classes, include_preprocessing=True
    )


def compiled_to_measure(model: keras.Model) -> keras.Model:
    """A model over the same weights that `evaluate` can use; the one given stays uncompiled.

    Its metrics leave out images of weight 0, which only fill the last batch.
    """
    measured = keras.Model(model.inputs, model.outputs)
    measured.compile(
        loss=keras.losses.CategoricalCrossentropy(reduction="mean_with_sample_weight"),
        weighted_metrics=[
            keras.metrics.CategoricalCrossentropy(name="cross_entropy"),
            *_accuracies(model.output_shape[-1]),
        ],
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    return measured


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


def _accuracies(classes):
    return [
        keras.metrics.CategoricalAccuracy(name="top1"),
        keras.metrics.TopKCategoricalAccuracy(min(5, classes), name="top5"),
    ]


def _optimizer(recipe, model, schedule):
    accumulation = recipe.gradient_accumulation
    # PyTorch adds epsilon after the correction of the second moment, Keras before: without
    # consequence at 1e-8.
    optimizer = keras.optimizers.AdamW(
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
