"""Class maps: the number that counts nowhere, and the colours of PASCAL VOC."""

import numpy as np

IGNORED = 255  # in a mask: a pixel without a class


def palette(classes: int) -> np.ndarray:
    """The colours of PASCAL VOC, any number of them.

    Args:
        classes: Number of classes, 1 to 256; class 0, the background, is black.

    Returns:
        `(classes, 3)` uint8, RGB.

    Source: VOCcode/VOClabelcolormap.m of the development kit: three bits of the class number for
    one bit of every channel, from the highest down.

    Example:
        >>> palette(3).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    numbers = np.arange(classes)
    bits = [[(numbers >> (3 * i + c) & 1) << (7 - i) for i in range(8)] for c in range(3)]
    return np.sum(bits, axis=1).T.astype("uint8")


def painted(image: np.ndarray, classes: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """Lay the colours of a class map over an image; the background stays as it is.

    Args:
        image: `(height, width, 3)`, 0..255.
        classes: `(height, width)`, class numbers up to 255.
        strength: How much of the colour, 0 to 1.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        ValueError: Image and class map have different sizes.

    Example:
        >>> painted(np.full((1, 2, 3), 100.0), np.array([[0, 1]]), 0.5).tolist()
        [[[100, 100, 100], [114, 50, 50]]]
    """
    image, classes = np.asarray(image, "float32"), np.asarray(classes)
    if image.shape[:2] != classes.shape:
        raise ValueError(f"The image has {image.shape[:2]} pixels, the map {classes.shape}.")
    mixed = (1 - strength) * image + strength * palette(256)[classes]
    return np.where(classes[..., None] > 0, mixed, image).astype("uint8")
