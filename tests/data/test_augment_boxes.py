"""Augmentation of images with boxes: properties over many random cases, and a picture's pixels."""

import colorsys
import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_parc.data.augment.boxes import (
    crop_boxes,
    crop_window,
    distort_colours,
    flip_boxes,
    training_example,
)
from keras_parc.data.augment.settings import BoxAugmentation

CASES = 400
AUTHORS = BoxAugmentation()


def random_boxes(rng, count):
    """Boxes of all sizes, half of them small, some thinner than a pixel."""
    small, large = 10 ** rng.uniform(-3.5, -1, (count, 2)), rng.uniform(0.1, 1, (count, 2))
    size = np.where(rng.random((count, 1)) < 0.5, small, large)
    low = rng.uniform(0, 1 - size)
    return np.concatenate([low, low + size], 1).astype("float32")


@functools.cache
def crops(overlaps=AUTHORS.overlaps):
    """Images of all sizes with up to six boxes, and the crops of them."""
    augmentation = BoxAugmentation(overlaps=overlaps)

    @tf.function(
        input_signature=[
            tf.TensorSpec([2], tf.int32),
            tf.TensorSpec([None, 4]),
            tf.TensorSpec([2], tf.int64),
        ]
    )
    def crop(size, boxes, seed):
        window = crop_window(size, boxes, seed, augmentation)
        return window, *crop_boxes(boxes, tf.range(len(boxes)), window, size)

    rng, cases = np.random.default_rng(0), []
    for number in range(CASES):
        size = rng.integers(20, 700, 2)
        boxes = random_boxes(rng, rng.integers(7))
        found = crop(tf.constant(size, tf.int32), boxes, tf.constant([5, number], tf.int64))
        cases.append((size, boxes, *(each.numpy() for each in found)))
    return cases


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.prod(np.maximum(high - low, 0))
    return both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)


def test_crops_are_in_the_image_and_not_too_small_or_stretched():
    whole = 0
    for size, boxes, window, _, _ in crops():
        (top, left), (height, width) = window[:2], window[2:]
        assert min(top, left) >= 0
        assert top + height <= size[0]
        assert left + width <= size[1]
        if (window == [0, 0, *size]).all():
            whole += 1
            continue
        assert len(boxes)
        # Up to a pixel is lost on each edge.
        assert (window[2:] > 0.3 * size - 1).all()
        assert (height + 1) / width >= 0.5
        assert height / (width + 1) <= 2
    # One image in seven has no box, one overlap in seven is 0, and others may be out of reach.
    assert 0.3 * CASES < whole < 0.7 * CASES


@pytest.mark.parametrize("least", [0.1, 0.5])
def test_crops_reach_the_overlap_with_a_box(least):
    cropped = 0
    for size, boxes, window, _, labels in crops((0.0, least)):
        crop = np.concatenate([window[:2], window[:2] + window[2:]])
        if (window[2:] == size).all():
            continue
        cropped += 1
        assert max(overlap(crop, box * np.tile(size, 2)) for box in boxes) >= least - 1e-4
        assert len(labels)  # there is a box to learn from
    assert cropped > 10


def test_a_crop_keeps_the_boxes_whose_centre_is_inside():
    """Box by box, in float64."""
    kept = 0
    for size, boxes, window, found, labels in crops():
        origin, sides = window[:2], window[2:]
        expected = {}
        for number, box in enumerate(boxes.astype("float64") * np.tile(size, 2)):
            centre = (box[:2] + box[2:]) / 2 - origin
            if (centre > 0).all() and (centre < sides).all():
                corners = np.clip((box.reshape(2, 2) - origin) / sides, 0, 1)
                expected[number] = corners.ravel()
        assert labels.tolist() == list(expected)  # each keeps its label
        for box, number in zip(found, labels, strict=True):
            np.testing.assert_allclose(box, expected[number], atol=2e-6)
        assert ((found >= 0) & (found <= 1)).all()
        assert (found[:, 2:] > found[:, :2]).all()
        kept += len(labels)
    assert kept > CASES


def test_flipping_twice_changes_nothing():
    boxes = random_boxes(np.random.default_rng(1), 200)
    once = flip_boxes(boxes)
    assert ((once.numpy() >= 0) & (once.numpy() <= 1)).all()
    assert np.abs(once.numpy()[:, 1::2] - boxes[:, 1::2]).max() > 0.5
    np.testing.assert_allclose(flip_boxes(once), boxes, atol=1e-7)


@pytest.mark.parametrize("encode", [tf.io.encode_png, lambda x: tf.io.encode_jpeg(x, quality=98)])
def test_boxes_stay_on_what_they_are_drawn_around(encode):
    """Three coloured rectangles, found again by their colours in every augmented image."""
    image = np.zeros((150, 200, 3), "uint8")
    corners = np.array([[10, 20, 60, 90], [70, 100, 140, 190], [90, 10, 130, 60]])
    for channel, (top, left, bottom, right) in enumerate(corners):
        image[top:bottom, left:right, channel] = 255
    boxes = tf.constant(corners / [150, 200, 150, 200], tf.float32)
    example = tf.function(training_example)
    data, plain = encode(image), BoxAugmentation(distortion=0.0)
    flipped = cropped = 0
    for number in range(120):
        labels, seed = tf.range(3), tf.constant([7, number], tf.int64)
        result = example(data, boxes, labels, (96, 128), seed, plain)
        pixels, found, labels = (each.numpy() for each in result)
        assert pixels.shape == (96, 128, 3)
        for (top, left, bottom, right), label in zip(found, labels, strict=True):
            rows, columns = np.nonzero(pixels[..., label] > 127)
            edges = [rows.min() / 96, columns.min() / 128]
            edges += [(rows.max() + 1) / 96, (columns.max() + 1) / 128]
            np.testing.assert_allclose([top, left, bottom, right], edges, atol=2.1 / 96)
        cropped += len(labels) < 3
        flipped += len(labels) == 3 and found[0, 1] > found[1, 1]
    assert cropped > 20
    assert flipped > 10


def test_an_example_is_a_function_of_its_seed():
    rng = np.random.default_rng(2)
    data = tf.io.encode_png(rng.integers(0, 256, (60, 80, 3), "uint8"))
    boxes, example = random_boxes(rng, 3), tf.function(training_example)

    def made(*seed):
        result = example(data, boxes, tf.range(3), (32, 32), tf.constant(seed, tf.int64))
        return [each.numpy() for each in result]

    first = made(4, 9)
    for ours, theirs in zip(first, made(4, 9), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    others = [made(4, 10), made(5, 9), made(4, 11)]
    assert all(not np.array_equal(first[0], other[0]) for other in others)


def test_an_image_without_boxes_is_not_cropped():
    image = np.arange(40 * 40 * 3).reshape(40, 40, 3) % 256
    data = tf.io.encode_png(image.astype("uint8"))
    nothing, plain = np.zeros((0, 4), "float32"), BoxAugmentation(distortion=0.0, flip=0.0)
    labels = tf.zeros([0], tf.int32)
    for number in range(5):
        pixels, boxes, labels = training_example(
            data, nothing, labels, (40, 40), (1, number), plain
        )
        np.testing.assert_array_equal(pixels, image)
        assert boxes.shape == (0, 4)


# --- colours ----------------------------------------------------------------------------------

NONE = {"contrast": (1.0, 1.0), "brightness": 0.0, "saturation": (1.0, 1.0), "hue": 0.0}


def distorted(image, count=40, **options):
    """The image under some seeds, with every change made and its channels in the old order."""
    augmentation = BoxAugmentation(distortion=1.0, **(NONE | options))
    distort = tf.function(distort_colours)
    for number in range(count):
        result = distort(image, tf.constant([3, number], tf.int64), augmentation).numpy()
        yield np.sort(result.astype(int), -1)  # channels too change places


@pytest.fixture(scope="module")
def colours():
    """Random colours, the channels of each in rising order, far from black and white."""
    return np.sort(np.random.default_rng(3).integers(60, 150, (8, 8, 3)), -1).astype("uint8")


def test_brightness_shifts_all_colours_alike(colours):
    shifts = []
    for result in distorted(colours, brightness=0.2):
        shift = result - colours
        assert np.ptp(shift) <= 1
        shifts.append(shift.mean())
    assert -51.5 <= min(shifts) < -30
    assert 30 < max(shifts) <= 51.5


def test_contrast_multiplies_all_colours_alike(colours):
    factors = []
    for result in distorted(colours, contrast=(0.5, 1.5)):
        factor = result.sum() / colours.sum()
        assert np.abs(result - factor * colours).max() <= 1
        factors.append(factor)
    assert 0.49 <= min(factors) < 0.65
    assert 1.35 < max(factors) <= 1.51


def hsv(image):
    return np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3) / 255])


def test_saturation_and_hue_change_nothing_else():
    """Of one pure colour, so that the order of the channels does not matter to what is compared."""
    image = np.full((1, 1, 3), (40, 60, 160), "uint8")
    _, saturation, value = hsv(image)[0]
    factors = []
    for result in distorted(image, saturation=(0.5, 1.5)):
        _, s, v = hsv(result)[0]
        assert v == pytest.approx(value, abs=0.003)
        factors.append(s / saturation)
    assert 0.49 <= min(factors) < 0.6
    assert max(factors) == pytest.approx(1 / saturation, abs=0.02)  # fully saturated
    middles = set()
    for result in distorted(image, hue=0.05):
        _, s, v = hsv(result)[0]
        assert (s, v) == (pytest.approx(saturation, abs=0.01), pytest.approx(value, abs=0.003))
        # A sixth of the circle takes the middle channel from the lowest to the highest.
        assert abs(result[0, 0, 1] - 60) <= 0.05 * 6 * 120 + 1
        middles.add(result[0, 0, 1])
    assert len(middles) > 10


def test_channels_take_every_order(colours):
    augmentation = BoxAugmentation(distortion=1.0, **NONE)
    orders = set()
    for number in range(60):
        result = distort_colours(colours, (1, number), augmentation).numpy()
        order = tuple(np.argsort(result.sum((0, 1))).tolist())
        np.testing.assert_array_equal(np.sort(result, -1), colours)
        orders.add(order)
    assert len(orders) == 6


def test_each_change_happens_half_of_the_time(colours):
    """A change of brightness alone: half of the images stay, whatever else is drawn."""
    augmentation = BoxAugmentation(**(NONE | {"brightness": 0.2}))
    distort = tf.function(distort_colours)
    same = 0
    for number in range(300):
        result = distort(colours, tf.constant([8, number], tf.int64), augmentation).numpy()
        same += np.array_equal(np.sort(result, -1), colours)
    assert 0.4 < same / 300 < 0.6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"overlaps": (0.1, 0.5)}, "with 0 among them"),
        ({"overlaps": (0.0, 1.5)}, "`overlaps` must be 0 to 1"),
        ({"trials": 0}, "`trials` must be at least 1"),
        ({"sides": (0.5, 1.5)}, "`sides` must be 0 < least <= largest"),
        ({"ratio": (2.0, 0.5)}, "`ratio` must be"),
        ({"flip": 1.5}, "`flip` must be 0 to 1"),
        ({"hue": 0.6}, "`hue` must be 0 to 0.5"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=words):
        BoxAugmentation(**options)
