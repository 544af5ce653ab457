"""The detector's part of a recipe."""

from dataclasses import dataclass, field

from keras_parc.data.augment.settings import BoxAugmentation
from keras_parc.support.checks import require

HEADS = ("standard", "small")


@dataclass(frozen=True)
class DetectionOptions:
    """What a recipe says of training a detector.

    Attributes:
        augmentation: What is done to training images and their boxes.
        head: Where the recipe's model is a backbone, the `SSDLite` on it: "standard", the paper's,
            or "small", for images of 64 pixels.

    Raises:
        ValueError: A value out of its range.

    Example:
        >>> DetectionOptions(head="small").task
        'detection'
    """

    augmentation: BoxAugmentation = field(default_factory=BoxAugmentation)
    head: str = "standard"

    task = "detection"

    def __post_init__(self):
        fits = isinstance(self.augmentation, BoxAugmentation)
        require(self, "augmentation", fits, "a BoxAugmentation")
        require(self, "head", self.head in HEADS, f"one of {', '.join(HEADS)}")

    def check(self, size: int, sizes: tuple[int, ...]) -> None:
        """Refuse what does not fit the sides of the recipe: anchors are for one size."""
        if set(sizes) != {size}:
            raise ValueError(
                f"Detectors train at the one size they are measured at: expected `sizes` of only "
                f"{size}, got {sizes}."
            )
