"""The classifier's part of a recipe."""

from dataclasses import dataclass, field

from keras_parc.data.augment.settings import Augmentation
from keras_parc.support.checks import require


@dataclass(frozen=True)
class ClassificationOptions:
    """What a recipe says of training a classifier.

    Attributes:
        augmentation: What is done to training images.
        short_side: Short side in pixels an image is resized to before its centre is cut out for
            evaluation, at least the recipe's `size`.
        label_smoothing: Of the training loss, 0 or more and less than 1.
        balanced: Whether an image of a rare class counts for more, so that all classes weigh alike.

    Raises:
        ValueError: A value out of its range.

    Example:
        >>> ClassificationOptions(short_side=64).task
        'classification'
    """

    augmentation: Augmentation = field(default_factory=Augmentation)
    short_side: int = 288
    label_smoothing: float = 0.1
    balanced: bool = False

    task = "classification"

    def __post_init__(self):
        require(
            self, "augmentation", isinstance(self.augmentation, Augmentation), "an Augmentation"
        )
        require(self, "short_side", self.short_side >= 1, "at least 1")
        require(self, "label_smoothing", 0 <= self.label_smoothing < 1, "0 or more, less than 1")

    def check(self, size: int, sizes: tuple[int, ...]) -> None:
        """Refuse what does not fit the sides of the recipe."""
        require(self, "short_side", self.short_side >= size, f"at least `size`, {size}")
