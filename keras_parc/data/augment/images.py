"""Image augmentation: the one place that knows KerasCV."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_parc.data.augment.settings import Augmentation
from keras_parc.support.extras import needs_extra


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
    with needs_extra():
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
