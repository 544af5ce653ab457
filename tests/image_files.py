"""Image files for the tests: sound, unusual and damaged."""

import io

import numpy as np
from PIL import Image

from keras_parc.data import digit_scene

UNREADABLE = ("empty.jpg", "text.jpg", "truncated.jpg", "truncated.png", "corrupt.jpg")
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


def scene():
    """A ramp from black to white, 120 x 80, with a red square in its upper left quarter."""
    image = np.linspace(0, 255, 120).round()[None, :, None].repeat(80, 0).repeat(3, 2)
    image[10:30, 10:30] = (200, 0, 0)
    return image.astype("uint8")


def one_scene_in_many_files():
    """`scene()` as image files of every kind: name, content, and whether it has colours."""
    upright = Image.fromarray(scene())
    grey = upright.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype("uint16") * 257)
    palette = upright.convert("P", palette=Image.Palette.ADAPTIVE)
    yield "plain.png", encoded(upright, "PNG"), True
    yield "plain.jpg", encoded(upright, quality=95), True
    yield "UPPER.JPG", encoded(upright, quality=95), True
    yield "plain.webp", encoded(upright, "WEBP", lossless=True), True
    yield "plain.bmp", encoded(upright, "BMP"), True
    yield "plain.gif", encoded(palette, "GIF"), True
    yield "animated.gif", encoded(palette, "GIF", save_all=True, append_images=[palette] * 2), True
    yield "plain.tif", encoded(upright, "TIFF"), True
    yield "wrong_name.jpg", encoded(upright, "PNG"), True
    yield "palette.png", encoded(palette, "PNG"), True
    yield "alpha.png", encoded(upright.convert("RGBA"), "PNG"), True
    yield "alpha.webp", encoded(upright.convert("RGBA"), "WEBP", lossless=True), True
    yield "cmyk.jpg", encoded(upright.convert("CMYK"), quality=95), True
    yield "grey.png", encoded(grey, "PNG"), False
    yield "grey.jpg", encoded(grey, quality=95), False
    yield "grey16.png", encoded(deep, "PNG"), False
    yield "grey16.tif", encoded(deep, "TIFF"), False
    turns = Image.Transpose
    stored = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    for orientation, turn in stored.items():
        exif, turned = exif_of(orientation), upright.transpose(turn)
        yield f"turned{orientation}.jpg", encoded(turned, quality=95, exif=exif), True
        yield f"turned{orientation}.png", encoded(turned, "PNG", exif=exif), True
    yield "turned6.webp", encoded(upright.transpose(stored[6]), "WEBP", exif=exif_of(6)), True
    yield "turned6.tif", encoded(upright.transpose(stored[6]), "TIFF", exif=exif_of(6)), True
    yield "turned8.grey16.png", encoded(deep.transpose(stored[8]), "PNG", exif=exif_of(8)), False


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
