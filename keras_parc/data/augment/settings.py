"""What can be done to training images, as data: one dataclass a task."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to training images. The default is the authors' recipe: crop and flip alone.

    Crop and flip are repeatable draws of our own. All others are KerasCV layers on whole batches,
    off at 0, whose draws are not repeatable: they run in parallel.

    Args:
        scale: Least and largest part of the image's area in the crop, in (0, 1].
        ratio: Least and largest stretch of the crop, width over height.
        flip: Probability of a left-right flip, 0 to 1.
        rand_augment: RandAugment operations for an image, at least 0.
        magnitude: Strength of RandAugment, 0 to 1.
        color_jitter: Largest relative change of brightness, contrast and saturation, 0 to 1.
        random_erasing: Probability that a rectangle of the image is filled with noise, 0 to 1.
        mixup: Alpha of MixUp's beta distribution, at least 0.
        cutmix: Alpha of CutMix' beta distribution, at least 0. With `mixup` too, every batch gets
            one of the two.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> Augmentation(rand_augment=2, mixup=0.2, cutmix=1.0).mixes
        True
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 1.333)
    flip: float = 0.5
    rand_augment: int = 0
    magnitude: float = 0.5
    color_jitter: float = 0.0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            most = 1.0 if name == "scale" else float("inf")
            if not 0 < low <= high <= most:
                raise ValueError(f"`{name}` must be 0 < least <= largest, got {(low, high)}.")
        for name in ("flip", "magnitude", "color_jitter", "random_erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be 0 to 1, got {getattr(self, name)}.")
        for name in ("rand_augment", "mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")

    @property
    def mixes(self) -> bool:
        """Whether labels are mixed too."""
        return self.mixup > 0 or self.cutmix > 0


@dataclasses.dataclass(frozen=True)
class BoxAugmentation:
    """What is done to training images with boxes. The default is the authors' recipe for SSD.

    Args:
        overlaps: The crop draws one of these; the crop's intersection over union with some box must
            reach it. 0, which must be among them, stands for the whole image.
        trials: Crops tried before another overlap is drawn, at least 1.
        sides: Least and largest side of a crop as a share of the image's, in (0, 1].
        ratio: Least and largest stretch of a crop, height over width.
        distortion: Probability of each change of the colours, 0 to 1: the five that follow.
        contrast: Least and largest factor of all colours, before or after the other changes.
        brightness: Largest shift of all colours, as a share of their range, 0 to 1.
        saturation: Least and largest factor of the saturation.
        hue: Largest turn of the hue, as a share of the circle, 0 to 0.5. The authors' is 0.05 * 255
            of OpenCV's 180 steps; theirs stops at red, where this goes on around the circle.
        flip: Probability of a left-right flip, 0 to 1.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> BoxAugmentation(flip=0.0, distortion=0.0).overlaps  # digits: no mirror images
        (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    """

    overlaps: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    trials: int = 40
    sides: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (0.5, 2.0)
    distortion: float = 0.5
    contrast: tuple[float, float] = (0.5, 1.5)
    brightness: float = 0.2
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 0.05 * 255 / 180
    flip: float = 0.5

    def __post_init__(self):
        if 0 not in self.overlaps or not all(0 <= each <= 1 for each in self.overlaps):
            raise ValueError(
                f"`overlaps` must be 0 to 1 with 0 among them, without which some images would "
                f"never find a crop; got {self.overlaps}."
            )
        if self.trials < 1:
            raise ValueError(f"`trials` must be at least 1, got {self.trials}.")
        for name in ("sides", "ratio", "contrast", "saturation"):
            low, high = getattr(self, name)
            most = 1.0 if name == "sides" else float("inf")
            if not 0 < low <= high <= most:
                raise ValueError(f"`{name}` must be 0 < least <= largest, got {(low, high)}.")
        for name in ("distortion", "brightness", "hue", "flip"):
            most = 0.5 if name == "hue" else 1
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"`{name}` must be 0 to {most}, got {getattr(self, name)}.")


@dataclasses.dataclass(frozen=True)
class MaskAugmentation:
    """What is done to training images with masks. The default is the authors' recipe.

    Args:
        scale: Least and largest short side of the resized image, as a share of the side wanted,
            above 0; a side that comes out shorter than the crop is raised to it.
        flip: Probability of a left-right flip, 0 to 1.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> MaskAugmentation(flip=0.0).scale  # digits: no mirror images
        (0.75, 1.5)
    """

    scale: tuple[float, float] = (0.75, 1.5)
    flip: float = 0.5

    def __post_init__(self):
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"`scale` must be 0 < least <= largest, got {(low, high)}.")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"`flip` must be 0 to 1, got {self.flip}.")


# By task, what a user can name: from nothing to strong; "no_flip" is light without mirror images,
# for text, digits and classes that are told by left and right.
PRESETS: dict[str, dict[str, Augmentation | BoxAugmentation | MaskAugmentation]] = {
    "classification": {
        "none": Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
        "light": Augmentation(scale=(0.5, 1.0)),
        "medium": Augmentation(scale=(0.35, 1.0), rand_augment=1, magnitude=0.3),
        "strong": Augmentation(
            scale=(0.25, 1.0), rand_augment=2, magnitude=0.5, random_erasing=0.25, mixup=0.2
        ),
        "no_flip": Augmentation(scale=(0.5, 1.0), flip=0.0),
    },
    "detection": {
        "none": BoxAugmentation(overlaps=(0.0,), distortion=0.0, flip=0.0),
        "light": BoxAugmentation(overlaps=(0.0, 0.7, 0.9), sides=(0.6, 1.0), distortion=0.25),
        "medium": BoxAugmentation(sides=(0.5, 1.0)),
        "strong": BoxAugmentation(),
        "no_flip": BoxAugmentation(
            overlaps=(0.0, 0.7, 0.9), sides=(0.6, 1.0), distortion=0.25, flip=0.0
        ),
    },
    "segmentation": {
        "none": MaskAugmentation(scale=(1.0, 1.0), flip=0.0),
        "light": MaskAugmentation(scale=(0.9, 1.25)),
        "medium": MaskAugmentation(),
        "strong": MaskAugmentation(scale=(0.5, 2.0)),
        "no_flip": MaskAugmentation(scale=(0.9, 1.25), flip=0.0),
    },
}
