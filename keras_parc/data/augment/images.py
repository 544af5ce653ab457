"""Image augmentation: the one place that knows KerasCV."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf


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


def batch_augmentation(augmentation: Augmentation, seed: int | None = None) -> Callable | None:
    """What of an augmentation KerasCV does, as a function for `tf.data.Dataset.map` on batches.

    Args:
        augmentation: What to do.
        seed: Seed of the layers; under a parallel map their draws do not repeat even so.

    Returns:
        A function of images float32 `(n, height, width, 3)`, 0..255, and labels (one-hot for MixUp
        and CutMix) that gives both; None if there is nothing to do.

    Example:
        >>> augment = batch_augmentation(Augmentation(mixup=0.2), seed=0)
        >>> images, labels = augment(tf.zeros((2, 32, 32, 3)), tf.one_hot([0, 2], 3))
        >>> labels.shape
        TensorShape([2, 3])
    """
    wanted = ("rand_augment", "color_jitter", "random_erasing", "mixup", "cutmix")
    if not any(getattr(augmentation, name) for name in wanted):
        return None
    from keras_cv import layers  # takes seconds, which the authors' recipe does not need

    kinds = {"value_range": (0, 255), "seed": seed}
    on_images, on_pairs = [], []
    if augmentation.rand_augment:
        on_images.append(
            layers.RandAugment(
                augmentations_per_image=augmentation.rand_augment,
                magnitude=augmentation.magnitude,
                **kinds,
            )
        )
    if augmentation.color_jitter:
        change = augmentation.color_jitter
        factors = ("brightness_factor", "contrast_factor", "saturation_factor")
        on_images.append(
            layers.RandomColorJitter(**dict.fromkeys(factors, change), hue_factor=0.0, **kinds)
        )
    if augmentation.random_erasing:
        cutout = layers.RandomCutout(
            (0.15, 0.5), (0.15, 0.5), fill_mode="gaussian_noise", seed=seed
        )
        on_images.append(layers.RandomApply(cutout, rate=augmentation.random_erasing, seed=seed))
    if augmentation.mixup:
        on_pairs.append(layers.MixUp(alpha=augmentation.mixup, seed=seed))
    if augmentation.cutmix:
        on_pairs.append(layers.CutMix(alpha=augmentation.cutmix, seed=seed))

    def augment(images, labels):
        for layer in on_images:
            images = layer(images, training=True)
        if on_pairs:
            pair = {"images": images, "labels": labels}
            mixed = [lambda layer=layer: layer(pair, training=True) for layer in on_pairs]
            pair = tf.switch_case(tf.random.uniform([], 0, len(mixed), tf.int32), mixed)
            images, labels = pair["images"], pair["labels"]
        return images, labels

    return augment
