"""Training runs as data: one frozen dataclass for each that was published, and the demonstration's.

Where the paper and the authors' code differ, the recipe follows the code.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from keras_parc.data.augment.boxes import BoxAugmentation
from keras_parc.data.augment.images import Augmentation
from keras_parc.data.augment.masks import MaskAugmentation
from keras_parc.models.zoo import MODELS
from keras_parc.training.sampler import batch_of

# For each task, what can be done to its training images.
AUGMENTATIONS: dict[str, type] = {
    "classification": Augmentation,
    "detection": BoxAugmentation,
    "segmentation": MaskAugmentation,
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run learns.

    Attributes:
        name: Name of the run.
        model: A key of `MODELS`.
        task: A key of `AUGMENTATIONS`: what kind of model it is.
        data: A TFDS builder such as "imagenet2012", or a folder of images.
        train_split: Name of the split to learn from.
        validation_split: Name of the split to measure on after every epoch.
        size: Side in pixels of evaluation and of the finished model.
        short_side: Short side in pixels an image is resized to before its centre is cut out for
            evaluation, at least `size`.
        sizes: Sides in pixels of training, one drawn for every step; each at least 32.
        batch: Images per replica and step at `size`; smaller sizes get more, see
            `keras_parc.training.sampler.batch_of`.
        replicas: A step takes `batch * replicas` images, on however many devices.
        epochs: Passes over the training set.
        start_rate: Learning rate of step 0.
        peak_rate: Learning rate after the warm-up.
        end_rate: Learning rate the cosine ends at.
        head_rate: Learning rate of a segmenter's head, as a multiple of the backbone's.
        warm_up_steps: Steps of linear warm-up, part of the epochs.
        cosine_by: "epoch" or "step": when the cosine falls.
        weight_decay: AdamW's, times the learning rate.
        decay_all: Whether biases, norms and position embeddings decay too.
        label_smoothing: Of the training loss, 0 to 1.
        ema_momentum: Momentum of the moving average over weights and BatchNorm statistics, which is
            what is evaluated and saved; 0 takes the weights as they are.
        average_best: The finished model is the mean of so many moving averages, those of the
            best epochs, for classifiers by top-1.
        synchronized_batch_norm: Whether BatchNorm sees the images of all devices.
        mixed_precision: "none", "float16" or "bfloat16".
        gradient_accumulation: Steps whose gradients are averaged for one update of the weights.
            `warm_up_steps`, `ema_momentum` and the schedule then count updates.
        clip_norm: Greatest norm of all gradients together; 0: no clipping.
        jit_compile: Whether XLA compiles the step. JAX always does.
        augmentation: What is done to training images.
        skip_limit: Damaged images of the training set that are passed over before the run fails.
        seed: Seed of weights, order, sizes, dropout and augmentation.

    Raises:
        ValueError: A value out of its range.

    Example:
        >>> RECIPES["parc_net_s_imagenet"].choices[0]
        (160, 2624)
    """

    name: str
    model: str
    task: str = "classification"
    data: str = "imagenet2012"
    train_split: str = "train"
    validation_split: str = "validation"
    size: int = 256
    short_side: int = 288
    # The authors' code makes multiples of 32 of five even steps from 160 to 320, and adds 256.
    sizes: tuple[int, ...] = (160, 192, 256, 288, 320)
    batch: int = 128
    replicas: int = 8
    epochs: int = 300
    start_rate: float = 4e-4
    peak_rate: float = 4e-3
    end_rate: float = 4e-4
    head_rate: float = 1.0
    warm_up_steps: int = 3000
    cosine_by: str = "epoch"
    weight_decay: float = 0.025
    decay_all: bool = True  # as the authors' code does
    label_smoothing: float = 0.1
    ema_momentum: float = 0.9995
    average_best: int = 5
    synchronized_batch_norm: bool = True
    mixed_precision: str = "float16"
    gradient_accumulation: int = 1
    clip_norm: float = 0.0
    jit_compile: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    skip_limit: int = 100
    seed: int = 0

    def __post_init__(self):
        def check(name, good, expected):
            if not good:
                raise ValueError(f"`{name}` must be {expected}, got {getattr(self, name)!r}.")

        check("task", self.task in AUGMENTATIONS, f"one of {sorted(AUGMENTATIONS)}")
        kind = AUGMENTATIONS[self.task]
        check("augmentation", isinstance(self.augmentation, kind), f"a {kind.__name__}")
        check("model", self.model in MODELS, f"one of {sorted(MODELS)}")
        check("cosine_by", self.cosine_by in ("epoch", "step"), "'epoch' or 'step'")
        kinds = ("none", "float16", "bfloat16")
        check("mixed_precision", self.mixed_precision in kinds, f"one of {kinds}")
        check("size", self.size >= 32, "at least 32 pixels")
        check("short_side", self.short_side >= self.size, f"at least `size`, {self.size}")
        check("sizes", self.sizes and min(self.sizes) >= 32, "sides of at least 32 pixels")
        for name in ("batch", "replicas", "epochs", "average_best", "gradient_accumulation"):
            check(name, getattr(self, name) >= 1, "at least 1")
        rates = ("start_rate", "peak_rate", "end_rate", "head_rate", "weight_decay", "clip_norm")
        for name in (*rates, "warm_up_steps", "skip_limit", "seed"):
            check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("label_smoothing", "ema_momentum"):
            check(name, 0 <= getattr(self, name) < 1, "0 or more and less than 1")

    @property
    def choices(self) -> list[tuple[int, int]]:
        """`(size, batch of all replicas)` to draw each step from."""
        return [
            (size, self.replicas * batch_of(size, self.batch, self.size, self.replicas))
            for size in self.sizes
        ]

    def to_json(self) -> str:
        """The recipe as indented JSON; `from_json` reads it."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what `to_json` wrote."""

        def tuples(values):
            return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}

        values = tuples(json.loads(text))
        augmentation = AUGMENTATIONS[values["task"]](**tuples(values["augmentation"]))
        return cls(**values | {"augmentation": augmentation})


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Change fields of a recipe as a command line gives them.

    Args:
        recipe: What to start from.
        settings: `field=value`, of the recipe or its augmentation; several numbers are parted by
            commas.

    Returns:
        A new recipe.

    Raises:
        ValueError: No such field, or a value that is not of its kind or out of its range.

    Example:
        >>> override(RECIPES["digit_scenes"], ["epochs=10", "sizes=32,48"]).sizes
        (32, 48)
    """
    of_recipe, of_augmentation = vars(recipe).copy(), vars(recipe.augmentation).copy()
    del of_recipe["augmentation"]
    for setting in settings:
        name, equals, text = setting.partition("=")
        values = of_recipe if name in of_recipe else of_augmentation
        if not equals or name not in values:
            names = ", ".join([*of_recipe, *of_augmentation])
            raise ValueError(
                f"Expected field=value with one of the fields {names}; got {setting!r}."
            )
        values[name] = _value(name, text, values[name])
    return Recipe(**of_recipe, augmentation=type(recipe.augmentation)(**of_augmentation))


def _value(name, text, old):
    """`text` as a value of the kind of `old`."""
    kind = type(old)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is tuple:
            return tuple(type(old[0])(part) for part in text.split(","))
        return kind(text)
    except (KeyError, ValueError):
        words = {bool: "true or false", tuple: "numbers parted by commas"}
        expected = words.get(kind, f"of type {kind.__name__}")
        raise ValueError(f"`{name}` must be {expected}, got {text!r}.") from None


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
            short_side=48,
            sizes=(48,),
            batch=32,
            replicas=1,
            epochs=3,
            start_rate=2e-4,
            peak_rate=2e-3,
            end_rate=2e-5,
            warm_up_steps=75,
            cosine_by="step",
            ema_momentum=0.98,  # 0.9995 is for 400,000 steps
            average_best=1,
            mixed_precision="none",
            # A mirrored digit is no digit.
            augmentation=Augmentation(scale=(0.9, 1.0), ratio=(0.9, 1.1), flip=0.0),
        ),
        Recipe(
            "ssd_parc_net_s_coco",
            "ssd_parc_net_s",
            task="detection",
            data="coco/2017",
            size=320,
            short_side=320,
            sizes=(320,),
            batch=32,
            replicas=4,
            epochs=200,
            start_rate=9e-5,
            peak_rate=9e-4,
            end_rate=1e-6,
            warm_up_steps=500,
            weight_decay=0.02,
            label_smoothing=0.0,
            augmentation=BoxAugmentation(),
        ),
        # As above: what is not the paper's fits a run of minutes.
        Recipe(
            "digit_scenes_detection",
            "ssd_parc_net_tiny_small",
            task="detection",
            data="digit_scenes/detect_small",
            train_split="train[:80%]",
            size=64,
            short_side=64,
            sizes=(64,),
            batch=16,
            replicas=1,
            epochs=3,
            start_rate=2e-4,
            peak_rate=2e-3,
            end_rate=2e-5,
            warm_up_steps=75,
            cosine_by="step",
            label_smoothing=0.0,
            ema_momentum=0.98,
            average_best=1,
            mixed_precision="none",
            augmentation=BoxAugmentation(overlaps=(0.0,), distortion=0.0, flip=0.0),
        ),
        Recipe(
            "deeplab_v3_parc_net_s_voc",
            "deeplab_v3_parc_net_s",
            task="segmentation",
            data="voc_segmentation/coco",
            size=512,
            short_side=512,
            sizes=(512,),
            batch=8,
            replicas=4,
            epochs=50,
            start_rate=9e-5,
            peak_rate=9e-4,
            end_rate=1e-6,
            head_rate=10.0,
            warm_up_steps=500,
            weight_decay=0.01,
            label_smoothing=0.0,
            augmentation=MaskAugmentation(),
        ),
        # As above: what is not the paper's fits a run of minutes.
        Recipe(
            "digit_scenes_segmentation",
            "deeplab_v3_parc_net_tiny_small",
            task="segmentation",
            data="digit_scenes/segment_small",
            train_split="train[:40%]",
            size=64,
            short_side=64,
            sizes=(64,),
            batch=8,
            replicas=1,
            epochs=3,
            start_rate=4e-4,
            peak_rate=4e-3,
            end_rate=4e-5,
            warm_up_steps=75,
            cosine_by="step",
            label_smoothing=0.0,
            ema_momentum=0.98,
            average_best=1,
            mixed_precision="none",
            augmentation=MaskAugmentation(scale=(1.0, 1.25), flip=0.0),
        ),
    )
}
