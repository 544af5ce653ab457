"""The segmenter's part of a recipe."""

from dataclasses import dataclass, field

from keras_parc.data.augment.settings import MaskAugmentation
from keras_parc.support.checks import require

HEADS = ("standard", "small")


@dataclass(frozen=True)
class SegmentationOptions:
    """What a recipe says of training a segmenter.

    Attributes:
        augmentation: What is done to training images and their masks.
        head: Where the recipe's model is a backbone, the `DeepLabV3` on it: "standard", the
            paper's, or "small", for images of 64 pixels.
        head_rate: Learning rate of the head, as a multiple of the backbone's, 0 or more.

    Raises:
        ValueError: A value out of its range.

    Example:
        >>> SegmentationOptions(head_rate=10.0).task
        'segmentation'
    """

    augmentation: MaskAugmentation = field(default_factory=MaskAugmentation)
    head: str = "standard"
    head_rate: float = 1.0

    task = "segmentation"

    def __post_init__(self):
        fits = isinstance(self.augmentation, MaskAugmentation)
        require(self, "augmentation", fits, "a MaskAugmentation")
        require(self, "head", self.head in HEADS, f"one of {', '.join(HEADS)}")
        require(self, "head_rate", self.head_rate >= 0, "0 or more")

    def check(self, size: int, sizes: tuple[int, ...]) -> None:
        """Any sides will do."""
