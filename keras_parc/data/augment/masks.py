"""Augmentation of images with masks: random resize, crop, flip, both together; all repeatable.

A function of the seed alone, so that a training that was stopped goes on with the same bits. What
happens to a pixel of the image happens to that of the mask; a mask is resized by nearest neighbour
only, since class numbers have no mean.
"""

from __future__ import annotations

import functools
import io

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_parc.data.augment.settings import MaskAugmentation
from keras_parc.data.images import decode, resize
from keras_parc.support.class_maps import IGNORED


def decode_pair(data: tf.Tensor, mask: tf.Tensor, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode an image file and its mask, and see that they fit.

    Args:
        data: Scalar string, the content of an image file.
        mask: Scalar string, the content of a PNG file of one channel, class numbers.
        classes: Number of classes, background included.

    Returns:
        `(height, width, 3)` uint8 and `(height, width, 1)` uint8.

    Raises:
        tf.errors.InvalidArgumentError: A file is damaged, or `flaw` finds something in the mask.
    """
    image, labels = decode(data), tf.io.decode_png(mask)
    sound = tf.constant(True)
    for fits in (
        tf.reduce_all(tf.shape(labels)[:2] == tf.shape(image)[:2]),
        tf.shape(labels)[2] == 1,
        tf.reduce_all((labels < classes) | (labels == IGNORED)),
        tf.reduce_any(labels != IGNORED),
    ):
        sound &= fits
    with tf.control_dependencies([tf.debugging.assert_equal(sound, True)]):
        return image, tf.ensure_shape(labels, (None, None, 1))


def flaw(data: bytes, mask: bytes, classes: int) -> str | None:
    """What is wrong with a mask, in words; None if nothing is, or the image itself is damaged.

    Example:
        >>> picture = tf.io.encode_png(tf.zeros((4, 6, 3), tf.uint8)).numpy()
        >>> mask = tf.io.encode_png(tf.fill((4, 6, 1), tf.constant(21, tf.uint8))).numpy()
        >>> flaw(picture, mask, 21)
        'the mask has the label 21; expected 0 to 20, or 255 for pixels to ignore'
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    try:
        labels = np.asarray(Image.open(io.BytesIO(mask)))
    except (OSError, SyntaxError, ValueError) as error:
        return f"the mask is damaged: {error}"
    if labels.ndim != 2:
        return "the mask has several channels; expected class numbers in one"
    if labels.shape != (image.height, image.width):
        return (
            f"the mask has {labels.shape[0]}x{labels.shape[1]} pixels, the image "
            f"{image.height}x{image.width}"
        )
    wrong = np.setdiff1d(labels, [*range(classes), IGNORED])
    if len(wrong):
        return (
            f"the mask has the label {wrong[0]}; expected 0 to {classes - 1}, or {IGNORED} for "
            "pixels to ignore"
        )
    if np.all(labels == IGNORED):
        return f"the mask has no pixel with a class, all are {IGNORED}"
    return None


def training_pair(
    image: tf.Tensor,
    mask: tf.Tensor,
    size: tf.Tensor | tuple[int, int],
    seed: tf.Tensor,
    augmentation: MaskAugmentation | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resize, crop and flip an image and its mask.

    Args:
        image: `(h, w, 3)` uint8.
        mask: `(h, w, 1)` uint8.
        size: Height and width of the result in pixels, int32.
        seed: int64 `(2,)`; equal seeds give equal results, on every machine.
        augmentation: How large, how often mirrored; None: the authors' values.

    Returns:
        `(height, width, 3)` uint8 and `(height, width)` uint8.

    Source: the authors' recipe: short side drawn from 384 to 768 whole pixels, crop of 512.

    Example:
        >>> image, mask = tf.zeros((60, 80, 3), tf.uint8), tf.zeros((60, 80, 1), tf.uint8)
        >>> image, mask = training_pair(image, mask, (32, 48), (0, 7))
        >>> image.shape, mask.shape
        (TensorShape([32, 48, 3]), TensorShape([32, 48]))
    """
    made = _traced(augmentation or MaskAugmentation())
    return made(image, mask, size, tf.cast(seed, tf.int64))


@functools.cache
def _traced(augmentation):
    """Traced once in a process, not for every epoch."""
    made = functools.partial(_training_pair, augmentation=augmentation)
    return tf.function(made, reduce_retracing=True)


def _training_pair(image, mask, size, seed, augmentation):
    draws = tf.random.stateless_uniform([4], seed)
    size = tf.cast(size, tf.int32)
    full = tf.cast(tf.shape(image)[:2], tf.float32)
    wanted = tf.cast(tf.reduce_min(size), tf.float32)
    low, high = augmentation.scale
    short = tf.floor(low * wanted + draws[0] * ((high - low) * wanted + 1))
    scale = tf.maximum(short / tf.reduce_min(full), tf.reduce_max(tf.cast(size, tf.float32) / full))
    scaled = tf.maximum(tf.cast(tf.round(scale * full), tf.int32), size)
    room = tf.cast(scaled - size + 1, tf.float32)
    # A float32 product just below room may round up to it.
    place = tf.minimum(tf.cast(tf.floor(draws[1:3] * room), tf.int32), scaled - size)

    def cut(pixels):
        return tf.image.crop_to_bounding_box(pixels, place[0], place[1], size[0], size[1])

    image, mask = cut(resize(image, scaled)), cut(resize_mask(mask, scaled))[..., 0]
    mirror = draws[3] < augmentation.flip
    return tuple(
        tf.cond(mirror, lambda each=each: tf.reverse(each, [1]), lambda each=each: each)
        for each in (image, mask)
    )


def resize_mask(mask: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Resize a mask `(h, w, 1)` by nearest neighbour, half-pixel centres as images."""
    return tf.image.resize(mask, tf.cast(size, tf.int32), method="nearest")
