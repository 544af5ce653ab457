"""Training runs as data: one frozen dataclass for each that was published, and the demonstration's.

Where the paper and the authors' code differ, the recipe follows the code. What belongs to one task
alone is in the recipe's `options`.
"""

import dataclasses
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_parc.data.augment.settings import Augmentation, BoxAugmentation, MaskAugmentation
from keras_parc.support.checks import require, unknown_name
from keras_parc.tasks.classification.options import ClassificationOptions
from keras_parc.tasks.detection.options import DetectionOptions
from keras_parc.tasks.segmentation.options import SegmentationOptions
from keras_parc.training.sampler import batch_of

Options = ClassificationOptions | DetectionOptions | SegmentationOptions
OPTIONS: dict[str, type[Options]] = {
    kind.task: kind for kind in (ClassificationOptions, DetectionOptions, SegmentationOptions)
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run learns.

    Attributes:
        name: Name of the run.
        model: Key of a registered model, see `keras_parc.list_models`: of the recipe's task, or a
            classifier, on which the task's head is built.
        options: What belongs to the task alone; its class decides which task it is.
        model_arguments: Arguments of the model's constructor beyond sizes, classes and weights.
        weights: What the model starts from: "" for random weights, or what its constructor takes as
            `weights`. Where the model is a backbone for a head, they are the backbone's.
        data: A TFDS builder such as "imagenet2012", or a folder of labelled images.
        format: Of a folder, the name of one of `keras_parc.data.sets.recognise.FORMATS`; "": the
            one it fits.
        validation: Of a folder without a validation split, the share of "train" that becomes one.
        split_by: How it is chosen: "" by class, "folder" to keep the images of a folder together.
        train_split: Name of the split to learn from.
        validation_split: Name of the split to measure on after every epoch.
        size: Side in pixels of evaluation and of the finished model.
        sizes: Sides in pixels of training, one drawn for every step; each at least 32.
        batch: Images per replica and step at `size`; smaller sizes get more, see
            `keras_parc.training.sampler.batch_of`.
        replicas: A step takes `batch * replicas` images, on however many devices.
        epochs: Passes over the training set.
        start_rate: Learning rate of step 0.
        peak_rate: Learning rate after the warm-up.
        end_rate: Learning rate the cosine ends at.
        warm_up_steps: Steps of linear warm-up, part of the epochs.
        cosine_by: "epoch" or "step": when the cosine falls.
        weight_decay: AdamW's, times the learning rate.
        decay_all: Whether biases, norms and position embeddings decay too.
        ema_momentum: Momentum of the moving average over weights and BatchNorm statistics, which is
            what is evaluated and saved, see `keras_parc.training.average.MovingAverage`; 0 takes
            the weights as they are; None: by the number of steps, at most the authors' 0.9995.
        average_best: The finished model is the mean of this many moving averages, those of the
            best epochs, for classifiers by top-1.
        synchronized_batch_norm: Whether BatchNorm sees the images of all devices.
        mixed_precision: "none", "float16" or "bfloat16".
        gradient_accumulation: Steps whose gradients are averaged for one update of the weights.
            `warm_up_steps`, `ema_momentum` and the schedule then count updates.
        clip_norm: Greatest norm of all gradients together; 0: no clipping.
        jit_compile: Whether XLA compiles the step. JAX always does.
        skip_limit: Damaged images of the training set that are passed over before the run fails.
        seed: Seed of weights, order, sizes, dropout and augmentation.

    Raises:
        ValueError: A value out of its range.

    Example:
        >>> find_recipe("parc_net_s_imagenet").choices[0]
        (160, 2624)
    """

    name: str
    model: str
    options: Options = field(default_factory=ClassificationOptions)
    model_arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    data: str = "imagenet2012"
    format: str = ""
    validation: float = 0.2
    split_by: str = ""
    train_split: str = "train"
    validation_split: str = "validation"
    size: int = 256
    # The authors' code makes multiples of 32 of five even steps from 160 to 320, and adds 256.
    sizes: tuple[int, ...] = (160, 192, 256, 288, 320)
    batch: int = 128
    replicas: int = 8
    epochs: int = 300
    start_rate: float = 4e-4
    peak_rate: float = 4e-3
    end_rate: float = 4e-4
    warm_up_steps: int = 3000
    cosine_by: str = "epoch"
    weight_decay: float = 0.025
    decay_all: bool = True  # as the authors' code does
    ema_momentum: float | None = None
    average_best: int = 5
    synchronized_batch_norm: bool = True
    mixed_precision: str = "float16"
    gradient_accumulation: int = 1
    clip_norm: float = 0.0
    jit_compile: bool = False
    skip_limit: int = 100
    seed: int = 0

    def __post_init__(self):
        def check(name, fits, expected):
            require(self, name, fits, expected)

        check("options", isinstance(self.options, Options), "the options of a task")
        check("model", isinstance(self.model, str) and self.model, "the key of a model")
        check("cosine_by", self.cosine_by in ("epoch", "step"), "'epoch' or 'step'")
        check("validation", 0 <= self.validation < 1, "0 or more and less than 1")
        check("split_by", self.split_by in ("", "folder"), "'' or 'folder'")
        kinds = ("none", "float16", "bfloat16")
        check("mixed_precision", self.mixed_precision in kinds, f"one of {kinds}")
        check("size", self.size >= 32, "at least 32 pixels")
        check("sizes", self.sizes and min(self.sizes) >= 32, "sides of at least 32 pixels")
        for name in ("batch", "replicas", "epochs", "average_best", "gradient_accumulation"):
            check(name, getattr(self, name) >= 1, "at least 1")
        rates = ("start_rate", "peak_rate", "end_rate", "weight_decay", "clip_norm")
        for name in (*rates, "warm_up_steps", "skip_limit", "seed"):
            check(name, getattr(self, name) >= 0, "0 or more")
        check("ema_momentum", 0 <= (self.ema_momentum or 0) < 1, "0 or more and less than 1")
        self.options.check(self.size, self.sizes)

    @property
    def task(self) -> str:
        """ "classification", "detection" or "segmentation"."""
        return self.options.task

    @property
    def choices(self) -> list[tuple[int, int]]:
        """`(size, batch of all replicas)` to draw each step from."""
        return [
            (size, self.replicas * batch_of(size, self.batch, self.size, self.replicas))
            for size in self.sizes
        ]

    def to_json(self) -> str:
        """The recipe as indented JSON; `from_json` reads it."""
        return json.dumps({"task": self.task, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what `to_json` wrote.

        Raises:
            ValueError: The text is something else, such as a recipe of an older version.
        """
        try:
            values = _tuples(json.loads(text))
            kind = OPTIONS[values.pop("task")]
            options = _tuples(values.pop("options"))
            augmentation = _augmentation(kind)(**_tuples(options.pop("augmentation")))
            return cls(options=kind(augmentation=augmentation, **options), **values)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(
                f"It is no recipe of this version of keras_parc ({reason})."
            ) from error


def _tuples(values: dict) -> dict:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def _augmentation(kind: type[Options]) -> type:
    return type(kind().augmentation)


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Change fields of a recipe as a command line gives them.

    Args:
        recipe: What to start from.
        settings: `field=value`, of the recipe, its options or their augmentation, with several
            numbers separated by commas; or `model.argument=value`, an argument of the model's
            constructor.

    Returns:
        A new recipe.

    Raises:
        ValueError: No such field, or a value that is not of its kind or out of its range.

    Example:
        >>> override(find_recipe("digit_scenes"), ["epochs=10", "sizes=32,48"]).sizes
        (32, 48)
    """
    groups = _parts(recipe)
    arguments = dict(recipe.model_arguments)
    fixed = {"options", "augmentation", "model_arguments"}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"Expected field=value, got {setting!r}.")
        for prefix in ("options.", "augmentation."):  # as `to_json` nests them
            name = name.removeprefix(prefix)
        if name.startswith("model."):
            arguments[name.removeprefix("model.")] = _argument(text)
            continue
        group = next((g for g in groups if name in g and name not in fixed), None)
        if group is None:
            names = [each for g in groups for each in g if each not in fixed]
            raise ValueError(unknown_name("field", name, names))
        group[name] = _value(name, text, group[name])
    groups[0]["model_arguments"] = arguments
    return _put_together(*groups)


def _parts(recipe: Recipe) -> list[dict[str, Any]]:
    """The fields of a recipe, of its options and of their augmentation, to be changed."""
    return [vars(part).copy() for part in (recipe, recipe.options, recipe.options.augmentation)]


def _put_together(recipe: dict, options: dict, augmentation: dict) -> Recipe:
    """The recipe of what `_parts` gave."""
    options |= {"augmentation": type(options["augmentation"])(**augmentation)}
    return Recipe(**recipe | {"options": type(recipe["options"])(**options)})


def _value(name, text, old):
    """`text` as a value of the kind of `old`."""
    kind = float if old is None else type(old)  # only a momentum has no value of its own
    if text.lower() == "none" and getattr(Recipe, name, "") is None:
        return None
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is tuple:
            return tuple(type(old[0])(part) for part in text.split(","))
        return kind(text)
    except (KeyError, ValueError):
        words = {bool: "true or false", tuple: "numbers separated by commas"}
        expected = words.get(kind, f"of type {kind.__name__}")
        raise ValueError(f"`{name}` must be {expected}, got {text!r}.") from None


def _argument(text: str) -> bool | int | float | str:
    try:
        return json.loads(text)
    except ValueError:
        return text


def find_recipe(name: str) -> Recipe:
    """A published recipe, the demonstration's, or one that a registered model brings along.

    Raises:
        ValueError: There is no such recipe; the message names the nearest and all others.

    Example:
        >>> find_recipe("digit_scenes").epochs
        3
    """
    if name in RECIPES:
        return RECIPES[name]
    found = _brought_along()
    if name not in found:
        raise ValueError(unknown_name("recipe", name, [*RECIPES, *found]))
    return _of_entry(name, *found[name])


def list_recipes(model: str | None = None) -> list[Recipe]:
    """All recipes.

    Args:
        model: Key of a model: only its recipes.

    Raises:
        ValueError: A recipe that a registered model brings along is wrong.

    Example:
        >>> [recipe.name for recipe in list_recipes("parc_net_xs")]
        ['parc_net_xs_imagenet', 'digit_scenes']
    """
    own = [recipe for recipe in RECIPES.values() if model in (None, recipe.model)]
    brought = _brought_along().items()
    return own + [_of_entry(n, key, f) for n, (key, f) in brought if model in (None, key)]


def _brought_along() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name of each recipe that a registered model brings along, to its model and its fields."""
    # Imported here: the recipes of this file are known without Keras.
    entries = importlib.import_module("keras_parc.models.registry").list_models()
    return {name: (e.key, fields) for e in entries for name, fields in e.recipes.items()}


def _of_entry(name: str, model: str, fields: Mapping[str, Any]) -> Recipe:
    """A recipe from the fields that differ from the one it is `like`, whatever part they are of."""
    fields, where = dict(fields), f"The recipe {name!r} of {model!r}"
    like = fields.pop("like", None)
    if like not in (None, *RECIPES):
        raise ValueError(f"{where}: {unknown_name('recipe', like, RECIPES)}")
    base = RECIPES[like] if like else Recipe(name, model)
    options = fields.pop("options", base.options)
    if "augmentation" in fields:
        options = dataclasses.replace(options, augmentation=fields.pop("augmentation"))
    groups = _parts(dataclasses.replace(base, name=name, model=model, options=options))
    for key, value in fields.items():
        group = next((g for g in groups if key in g), None)
        if group is None:
            known = [each for g in groups for each in g]
            raise ValueError(f"{where}: {unknown_name('field', key, known)}")
        group[key] = value
    return _put_together(*groups)


_S = Recipe("parc_net_s_imagenet", "parc_net_s")

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        dataclasses.replace(_S, name="parc_net_xs_imagenet", model="parc_net_xs"),
        _S,
        dataclasses.replace(_S, name="parc_net_h_imagenet", model="parc_net_h", weight_decay=0.05),
        dataclasses.replace(
            _S,
            name="mobilevit_s_imagenet",
            model="mobilevit_s",
            weight_decay=0.01,
            start_rate=2e-4,
            peak_rate=2e-3,
            end_rate=2e-4,
        ),
        # The optimizer, the label smoothing and the shape of the schedule are the paper's; batch,
        # learning rate, augmentation and averaging fit a run of minutes.
        Recipe(
            "digit_scenes",
            "parc_net_xs",
            data="digit_scenes/small",
            size=48,
            sizes=(48,),
            batch=32,
            replicas=1,
            epochs=3,
            start_rate=2e-4,
            peak_rate=2e-3,
            end_rate=2e-5,
            warm_up_steps=75,
            cosine_by="step",
            average_best=1,
            mixed_precision="none",
            options=ClassificationOptions(
                # A mirrored digit is no digit.
                augmentation=Augmentation(scale=(0.9, 1.0), ratio=(0.9, 1.1), flip=0.0),
                short_side=48,
            ),
        ),
        Recipe(
            "ssd_parc_net_s_coco",
            "parc_net_s",
            options=DetectionOptions(),
            weights="imagenet",
            data="coco/2017",
            size=320,
            sizes=(320,),
            batch=32,
            replicas=4,
            epochs=200,
            start_rate=9e-5,
            peak_rate=9e-4,
            end_rate=1e-6,
            warm_up_steps=500,
            weight_decay=0.02,
        ),
        # As above: what is not the paper's fits a run of minutes.
        Recipe(
            "digit_scenes_detection",
            "parc_net_tiny",
            options=DetectionOptions(
                augmentation=BoxAugmentation(overlaps=(0.0,), distortion=0.0, flip=0.0),
                head="small",
            ),
            data="digit_scenes/detect_small",
            train_split="train[:80%]",
            size=64,
            sizes=(64,),
            batch=16,
            replicas=1,
            epochs=3,
            start_rate=2e-4,
            peak_rate=2e-3,
            end_rate=2e-5,
            warm_up_steps=75,
            cosine_by="step",
            average_best=1,
            mixed_precision="none",
        ),
        Recipe(
            "deeplab_v3_parc_net_s_voc",
            "parc_net_s",
            options=SegmentationOptions(head_rate=10.0),
            weights="imagenet",
            data="voc_segmentation/coco",
            size=512,
            sizes=(512,),
            batch=8,
            replicas=4,
            epochs=50,
            start_rate=9e-5,
            peak_rate=9e-4,
            end_rate=1e-6,
            warm_up_steps=500,
            weight_decay=0.01,
        ),
        # As above: what is not the paper's fits a run of minutes.
        Recipe(
            "digit_scenes_segmentation",
            "parc_net_tiny",
            options=SegmentationOptions(
                augmentation=MaskAugmentation(scale=(1.0, 1.25), flip=0.0), head="small"
            ),
            data="digit_scenes/segment_small",
            train_split="train[:40%]",
            size=64,
            sizes=(64,),
            batch=8,
            replicas=1,
            epochs=3,
            start_rate=4e-4,
            peak_rate=4e-3,
            end_rate=4e-5,
            warm_up_steps=75,
            cosine_by="step",
            average_best=1,
            mixed_precision="none",
        ),
    )
}
