"""Image files for the tests: sound, unusual and damaged."""

import io

import numpy as np
from PIL import Image

from keras_parc.data import digit_scene

UNREADABLE = ("empty.jpg", "text.jpg", "truncated.jpg", "truncated.png", "corrupt.jpg", "tiff.jpg")
UNUSUAL = {
    "grey.jpg": "greyscale",
    "grey_alpha.png": "greyscale",
    "cmyk.jpg": "CMYK",
    "sixteen.png": "16-bit",
}


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(index=0):
    return Image.fromarray(digit_scene(index, "train").image)


def odd_files():
    """Every kind of file that a folder of images may hold and a training must survive."""
    image = picture(99)
    jpeg, png = encoded(image), encoded(image, "PNG")
    deep = Image.fromarray(np.arange(64 * 64, dtype="uint16").reshape(64, 64) * 16)
    return {
        "empty.jpg": b"",
        "text.jpg": b"not an image",
        "truncated.jpg": jpeg[:-60],  # a window at the top does not reach the end
        "truncated.png": png[: len(png) // 2],
        "corrupt.jpg": jpeg[:100] + bytes(range(1, 251)) + jpeg[350:],
        "tiff.jpg": encoded(image, "TIFF"),
        "grey.jpg": encoded(image.convert("L")),
        "grey_alpha.png": encoded(image.convert("LA"), "PNG"),
        "cmyk.jpg": encoded(image.convert("CMYK")),
        "sixteen.png": encoded(deep, "PNG"),
    }
