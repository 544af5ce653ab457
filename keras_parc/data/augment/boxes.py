"""Augmentation of images with boxes: random crop by overlap, colours, flip; all repeatable.

All of it is a function of the seed, so that a training that was stopped goes on with the same bits.
KerasCV has no crop by overlap, its draws do not repeat in `tf.data`, and its layers that change
colours fail on images with boxes; `keras.layers` crops boxes wrongly, and `keras.utils` computes
overlaps on the Keras backend, which in `tf.data` may only be TensorFlow.

Boxes are float32 `(n, 4)`: ymin, xmin, ymax, xmax relative to the image, 0..1. Labels are int32
`(n,)`.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from keras_parc.data.augment.settings import BoxAugmentation
from keras_parc.data.images import decode_part, resize


def crop_window(
    image_size: tf.Tensor, boxes: tf.Tensor, seed: tf.Tensor, augmentation: BoxAugmentation
) -> tf.Tensor:
    """Place the random crop of SSD training (Liu et al., SSD, section 2.2).

    An overlap is drawn, and that many trials of a crop: side lengths and place uniform. The first
    that is not too stretched, reaches the overlap with some box and has the centre of some box
    inside is taken; if there is none, another overlap is drawn, until it is 0: the whole image.

    Args:
        image_size: int32 `(2,)`: height and width in pixels.
        boxes: `(n, 4)`; without boxes, the whole image is taken.
        seed: int64 `(2,)`.
        augmentation: Overlaps, trials, sides and ratio.

    Returns:
        int32 `(4,)`: top, left, height, width in pixels.

    Example:
        >>> boxes = tf.constant([[0.1, 0.1, 0.9, 0.5]])
        >>> int(crop_window([100, 200], boxes, (0, 7), BoxAugmentation())[2]) >= 29
        True
    """
    trials = augmentation.trials
    size = tf.cast(image_size, tf.float32)
    boxes = boxes * tf.tile(size, [2])  # in pixels
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2

    def attempt(number, _, whole):
        draws = tf.random.stateless_uniform(
            [1 + 4 * trials], tf.random.experimental.stateless_fold_in(seed, number)
        )
        overlaps = tf.constant(augmentation.overlaps, tf.float32)
        overlap = overlaps[tf.cast(draws[0] * len(augmentation.overlaps), tf.int32)]
        lengths, places = tf.split(tf.reshape(draws[1:], [trials, 4]), 2, axis=1)
        low, high = augmentation.sides
        lengths = (low + (high - low) * lengths) * size
        places = places * (size - lengths)
        start, end = tf.floor(places), tf.minimum(tf.floor(places + lengths), size)
        stretch = lengths[:, 0] / lengths[:, 1]
        fits = (augmentation.ratio[0] <= stretch) & (stretch <= augmentation.ratio[1])
        fits &= tf.reduce_all(end > start, axis=1)
        crops = tf.concat([start, end], axis=1)
        fits &= tf.reduce_max(_overlaps(crops, boxes), axis=1) >= overlap
        fits &= tf.reduce_any(_inside(crops[:, None], centres), axis=1)
        first = tf.argmax(fits)
        found = tf.reduce_any(fits) & (overlap > 0)
        crop = tf.cast(tf.concat([start[first], (end - start)[first]], 0), tf.int32)
        return number + 1, found | (overlap == 0), tf.where(found, crop, whole)

    whole = tf.concat([[0, 0], image_size], 0)
    _, _, window = tf.while_loop(
        lambda number, done, window: ~done,
        attempt,
        (tf.constant(0), tf.constant(False), whole),
    )
    return window


def _overlaps(crops, boxes):
    """Intersection over union, `(crops, boxes)`, of boxes in the same units."""
    low = tf.maximum(crops[:, None, :2], boxes[:, :2])
    high = tf.minimum(crops[:, None, 2:], boxes[:, 2:])
    both = tf.reduce_prod(tf.maximum(high - low, 0), axis=-1)
    areas = [tf.reduce_prod(each[:, 2:] - each[:, :2], axis=1) for each in (crops, boxes)]
    return both / (areas[0][:, None] + areas[1] - both)


def _inside(crops, points):
    return tf.reduce_all((crops[..., :2] < points) & (points < crops[..., 2:]), axis=-1)


def crop_boxes(
    boxes: tf.Tensor, labels: tf.Tensor, window: tf.Tensor, image_size: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes of the part of an image: those whose centre is inside, cut off at its edges.

    Args:
        boxes: `(n, 4)`.
        labels: `(n,)`.
        window: int32 `(4,)`: top, left, height, width in pixels.
        image_size: int32 `(2,)`: height and width in pixels.

    Returns:
        Boxes and labels of the part, m <= n of them.

    Example:
        >>> boxes = tf.constant([[0.0, 0.0, 0.5, 0.25], [0.5, 0.5, 1.0, 1.0]])
        >>> boxes, labels = crop_boxes(boxes, tf.constant([3, 4]), [0, 0, 4, 4], [8, 8])
        >>> boxes.numpy().tolist(), labels.numpy().tolist()
        ([[0.0, 0.0, 1.0, 0.5]], [3])
    """
    pixels = boxes * tf.tile(tf.cast(image_size, tf.float32), [2])
    window = tf.cast(window, tf.float32)
    crop = tf.concat([window[:2], window[:2] + window[2:]], 0)
    boxes_inside = (pixels - tf.tile(window[:2], [2])) / tf.tile(window[2:], [2])
    boxes_inside = tf.clip_by_value(boxes_inside, 0.0, 1.0)
    kept = _inside(crop, (pixels[:, :2] + pixels[:, 2:]) / 2)
    # A box much thinner than a pixel may lose its area to rounding.
    kept &= tf.reduce_all(boxes_inside[:, 2:] > boxes_inside[:, :2], axis=1)
    return tf.boolean_mask(boxes_inside, kept), tf.boolean_mask(labels, kept)


def flip_boxes(boxes: tf.Tensor) -> tf.Tensor:
    """Boxes of the left-right mirror image.

    Args:
        boxes: `(n, 4)`.

    Returns:
        `(n, 4)`.

    Example:
        >>> flip_boxes(tf.constant([[0.0, 0.25, 0.5, 1.0]])).numpy().tolist()
        [[0.0, 0.0, 0.5, 0.75]]
    """
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=1)
    return tf.stack([ymin, 1 - xmax, ymax, 1 - xmin], axis=1)


def distort_colours(image: tf.Tensor, seed: tf.Tensor, augmentation: BoxAugmentation) -> tf.Tensor:
    """Photometric distortion as the authors': contrast, brightness, saturation, hue, channels.

    Each happens with the probability `distortion`: contrast before the others, or if not, perhaps
    after them; and last, the channels change places.

    Args:
        image: `(height, width, 3)` uint8, RGB.
        seed: int64 `(2,)`.
        augmentation: Probability and strength.

    Returns:
        `(height, width, 3)` uint8.

    Example:
        >>> image = tf.fill([4, 4, 3], tf.constant(128, tf.uint8))
        >>> plain = distort_colours(image, (0, 7), BoxAugmentation(distortion=0.0))
        >>> bool(tf.reduce_all(plain == image))
        True
    """
    draws = tf.random.stateless_uniform([13], seed)
    contrast, brightness, saturation, hue, late_contrast, channels = tf.unstack(
        draws[:6] < augmentation.distortion
    )
    factor = _between(augmentation.contrast, draws[6])
    shift = 255 * augmentation.brightness * (2 * draws[7] - 1)
    image = tf.cast(image, tf.float32)
    image = image * tf.where(contrast, factor, 1.0) + tf.where(brightness, shift, 0.0)
    image = tf.clip_by_value(image, 0.0, 255.0)

    def change_hsv():
        h, s, v = tf.unstack(tf.image.rgb_to_hsv(image / 255), axis=-1)
        s *= tf.where(saturation, _between(augmentation.saturation, draws[8]), 1.0)
        h += tf.where(hue, augmentation.hue * (2 * draws[9] - 1), 0.0)
        return 255 * tf.image.hsv_to_rgb(tf.stack([h % 1.0, tf.minimum(s, 1.0), v], axis=-1))

    image = tf.cond(saturation | hue, change_hsv, lambda: image)
    image *= tf.where(late_contrast & ~contrast, factor, 1.0)
    order = tf.where(channels, tf.argsort(draws[10:], stable=True), tf.range(3))
    image = tf.gather(image, order, axis=-1)
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def _between(limits, draw):
    return limits[0] + (limits[1] - limits[0]) * draw


def training_example(
    data: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    size: tf.Tensor | tuple[int, int],
    seed: tf.Tensor,
    augmentation: BoxAugmentation | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decode, crop, resize, distort and flip: a function of the arguments alone.

    Args:
        data: Scalar string, the content of an image file.
        boxes: `(n, 4)`.
        labels: `(n,)`.
        size: Height and width of the result in pixels; the crop is stretched to it.
        seed: int64 `(2,)`; equal seeds give equal results, on every machine.
        augmentation: What to do; None: the authors' recipe.

    Returns:
        Image `(height, width, 3)` uint8, boxes and labels.

    Raises:
        tf.errors.InvalidArgumentError: The file is damaged.

    Example:
        >>> data = tf.io.encode_jpeg(tf.zeros((60, 80, 3), tf.uint8))
        >>> box, label = tf.constant([[0.2, 0.2, 0.8, 0.6]]), tf.constant([3])
        >>> image, boxes, labels = training_example(data, box, label, (32, 32), (0, 7))
        >>> image.shape, boxes.shape, labels.numpy()
        (TensorShape([32, 32, 3]), TensorShape([1, 4]), array([3], dtype=int32))
    """
    made = _traced(augmentation or BoxAugmentation())
    return made(data, boxes, labels, size, tf.cast(seed, tf.int64))


@functools.cache
def _traced(augmentation):
    """Traced once in a process, not for every epoch."""
    made = functools.partial(_training_example, augmentation=augmentation)
    return tf.function(made, reduce_retracing=True)


def _training_example(data, boxes, labels, size, seed, augmentation):
    crop_seed, colour_seed, flip_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 3), num=3
    )
    window = tf.function(lambda whole: crop_window(whole, boxes, crop_seed, augmentation))
    image, whole, window = decode_part(data, window)
    boxes, labels = crop_boxes(boxes, labels, window, whole)
    # The authors distort before they resize: the same but for rounding, at many times the pixels.
    image = distort_colours(resize(image, size), colour_seed, augmentation)
    return tf.cond(
        tf.random.stateless_uniform([], flip_seed) < augmentation.flip,
        lambda: (tf.reverse(image, [1]), flip_boxes(boxes), labels),
        lambda: (image, boxes, labels),
    )
