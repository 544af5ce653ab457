"""What a training run is: one frozen dataclass, and its JSON."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_parc.support.checks import require
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
        freeze_epochs: First epochs, in which the head learns alone, with a warm-up and a cosine of
            their own. The head is what depends on the classes; the rest is the backbone.
        freeze_norm: Whether the BatchNorm layers of the backbone stay as they are, statistics and
            all: what small batches and few images need.
        head_rate: Learning rate of the head, as a multiple of the backbone's, 0 or more.
        stage_rate: Learning rate of a stage of the backbone, as a multiple of that of the stage
            after it: above 0, at most 1. The stages end at the levels of the model's pyramid.
        patience: Epochs without a better score after which the run ends, not counting the frozen
            ones, unless all are; 0: it goes on to the last.
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
        >>> from keras_parc.training.recipes import find_recipe
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
    freeze_epochs: int = 0
    freeze_norm: bool = False
    head_rate: float = 1.0
    stage_rate: float = 1.0
    patience: int = 0
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
        counts = ("warm_up_steps", "freeze_epochs", "patience", "skip_limit", "seed")
        for name in (*rates, "head_rate", *counts):
            check(name, getattr(self, name) >= 0, "0 or more")
        check("ema_momentum", 0 <= (self.ema_momentum or 0) < 1, "0 or more and less than 1")
        check("stage_rate", 0 < self.stage_rate <= 1, "above 0 and at most 1")
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
