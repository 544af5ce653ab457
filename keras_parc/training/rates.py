"""Images per second of training: models in turn, in the loop that `fit` runs."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_parc.support.checks import at_least_one
from keras_parc.support.machine import circumstances
from keras_parc.support.timing import interleaved
from keras_parc.tasks.task import find_task
from keras_parc.training.average import MovingAverage, default_momentum
from keras_parc.training.compiling import rate_schedule, training_model
from keras_parc.training.recipes import find_recipe, override

DEFAULT_MODELS = ("mobilevit_s", "parc_net_s")
_CLASSES = 1000


def training_rates(
    models: Sequence[str] | None = None,
    *,
    size: int = 256,
    batch: int = 16,
    steps: int = 2,
    rounds: int = 5,
    mixed_precision: str = "none",
    jit: bool = False,
) -> list[dict[str, str | int | float]]:
    """Measure how many images per second models train on, on the backend Keras runs on.

    Each is compiled as the recipe of ParC-Net-S on ImageNet says, with its optimizer, loss and
    metrics, and trains in `model.fit` on random images in memory, its moving average moving after
    every step. The models take turns, one `fit` of `steps` steps each, so that a change of the
    machine's speed hits all.

    Args:
        models: Keys of registered classifiers, see `keras_parc.list_models`; ratios are to the
            first. Default: MobileViT-S and ParC-Net-S.
        size: Side of the images in pixels, at least 32.
        batch: Images of a step.
        steps: Steps of one measurement, at least 1.
        rounds: Measurements of each model, at least 1; one more comes before.
        mixed_precision: "none", "float16" or "bfloat16".
        jit: Whether XLA compiles the step on TensorFlow. JAX always does.

    Returns:
        A row a model: `model`, `images_per_second` (median), `speed_ratio` (median over the rounds
        of its images per second to the first model's in the same round), the circumstances, and
        `device`, the name of what computed.

    Raises:
        ValueError: There is no such model, or an argument is out of its range.

    Example:
        >>> rows = training_rates(["parc_net_tiny"], size=32, batch=2, steps=1, rounds=1)
        >>> rows[0]["speed_ratio"]
        1.0
    """
    models = DEFAULT_MODELS if models is None else models
    at_least_one(batch=batch, steps=steps, rounds=rounds)
    if not models:
        raise ValueError("There is no model to measure.")
    settings = {
        **{"size": size, "short_side": size, "sizes": size, "batch": batch, "replicas": 1},
        **{"mixed_precision": mixed_precision, "jit_compile": str(jit).lower()},
    }
    fits = {name: _fit(name, settings, steps) for name in models}
    times = interleaved(fits, rounds=rounds, warm_up=1)
    images = steps * batch
    shared = {
        "size": size,
        "batch": batch,
        "precision": "float32" if mixed_precision == "none" else f"mixed_{mixed_precision}",
        **circumstances(rounds, jit),
    }
    return [
        {
            "model": name,
            "images_per_second": round(1e3 * images / each["median_ms"], 3),
            "speed_ratio": round(1 / each["ratio"], 4),
            **shared,
        }
        for name, each in times.items()
    ]


def _fit(model: str, settings: dict, steps: int) -> Callable[[], object]:
    """A function that trains a model for a number of steps."""
    import tensorflow as tf

    changes = [f"{name}={value}" for name, value in ({"model": model} | settings).items()]
    recipe = override(find_recipe("parc_net_s_imagenet"), changes)
    keras.utils.set_random_seed(recipe.seed)
    learner = find_task(recipe.task).learner(recipe, _CLASSES)
    trained = training_model(learner, rate_schedule(recipe, [recipe.warm_up_steps]))
    average = learner.averaged()
    average.set_weights(trained.get_weights())
    moving = MovingAverage(average, recipe.ema_momentum or default_momentum(steps))
    draw = np.random.default_rng(0)
    images = draw.uniform(0, 255, (recipe.batch, recipe.size, recipe.size, 3)).astype("float32")
    labels = np.eye(_CLASSES, dtype="float32")[draw.integers(_CLASSES, size=recipe.batch)]
    # The end of a data set may wait for its tuning thread, which wakes after 10, 20, 40 ... ms:
    # times of a `fit` would be rounded up to 1.27, 2.55, 5.11 s.
    options = tf.data.Options()
    options.autotune.enabled = False
    data = tf.data.Dataset.from_tensors((images, labels)).repeat(steps).with_options(options)
    return lambda: trained.fit(data, shuffle=False, verbose=0, callbacks=[moving])
