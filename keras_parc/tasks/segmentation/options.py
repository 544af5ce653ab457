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

    Raises:
        ValueError: A value out of its range.

    Example:
        >>> SegmentationOptions(head="small").task
        'segmentation'
    """

    augmentation: MaskAugmentation = field(default_factory=MaskAugmentation)
    head: str = "standard"

    task = "segmentation"

    def __post_init__(self):
        fits = isinstance(self.augmentation, MaskAugmentation)
        require(self, "augmentation", fits, "a MaskAugmentation")
        require(self, "head", self.head in HEADS, f"one of {', '.join(HEADS)}")

    def check(self, size: int, sizes: tuple[int, ...]) -> None:
        """Any sides will do."""
