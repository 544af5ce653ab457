"""Class maps as colours over an image; needs numpy and Pillow."""

import numpy as np
from PIL import Image


def class_map(logits, height, width):
    """Bring logits (rows, columns, classes) to an image's size, bilinear; return the classes."""
    layers = [
        np.asarray(Image.fromarray(logits[..., i]).resize((width, height), Image.BILINEAR))
        for i in range(logits.shape[-1])
    ]
    return np.argmax(layers, axis=0)


def colours():
    """The 256 colours of PASCAL VOC: the bits of a class number dealt to red, green and blue."""
    numbers = np.arange(256)
    bits = [[(numbers >> (3 * i + c) & 1) << (7 - i) for i in range(8)] for c in range(3)]
    return np.sum(bits, axis=1).T


def painted(image, classes, strength=0.6):
    """An image with the colours of its classes over it; class 0, the background, stays."""
    pixels = np.asarray(image, dtype=np.float32)
    mixed = (1 - strength) * pixels + strength * colours()[classes]
    return Image.fromarray(np.where(classes[..., None] > 0, mixed, pixels).astype(np.uint8))
