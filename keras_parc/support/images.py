"""Image files as arrays: the one rule by which training, measuring and predicting read them.

`tflite/run.py` and `tflite/web/image.js`, which know nothing of this package, follow it too.
"""

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Above twice this number of pixels Pillow refuses an image before it decodes it, which is said; its
# warning before that is not needed.
MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
ORIENTATION = 0x0112  # of EXIF
# The authors' evaluation rule at 256: the short side to 288, then the centre.
CENTRE = 256 / 288


def _raise(error: OSError):
    raise error


def image_files(folder: str | os.PathLike) -> Iterator[tuple[Path, bool]]:
    """The files of a folder and of all folders in it, in the order of their names.

    Hidden files and folders, whose names start with a dot, are passed over, as are the files that
    systems leave behind (`Thumbs.db`, `desktop.ini`).

    Args:
        folder: A folder. Links to folders are followed, once each.

    Raises:
        OSError: A folder cannot be read.

    Yields:
        A path, and whether its ending is one of `ENDINGS`, in small or large letters.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a.JPG", "notes.txt", ".hidden.jpg"):
        ...     (folder / name).touch()
        >>> [(path.name, good) for path, good in image_files(folder)]
        [('a.JPG', True), ('notes.txt', False)]
    """
    seen = set()
    for root, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        place = os.path.realpath(root)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                yield Path(root, name), name.lower().endswith(ENDINGS)


def read_rgb(content: bytes) -> Image.Image:
    """Read the content of an image file: upright, in RGB of 8 bits.

    The EXIF orientation is applied. Of 16 bits the upper 8 are taken; greyscale, palettes and CMYK
    are converted, an alpha channel is dropped; of several frames the first is read.

    Args:
        content: What the file holds, in any format that Pillow reads.

    Raises:
        ValueError: It is not an image, is damaged, has more pixels than Pillow allows (179
            million), or values that are no colours.

    Example:
        >>> file = io.BytesIO()
        >>> Image.fromarray(np.full((2, 3), 513, "uint16")).save(file, "PNG")
        >>> read_rgb(file.getvalue()).getpixel((0, 0))
        (2, 2, 2)
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return ImageOps.exif_transpose(_eight_bits(image)).convert("RGB")
    except UnidentifiedImageError as error:
        raise ValueError("not an image file that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"too large: {str(error).rstrip('.')}") from error
    except Exception as error:  # Decoders of damaged files fail with whatever comes.
        words = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"damaged: {words}") from error


def upright_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """Height and width of an image as `read_rgb` gives it; no pixel is decoded.

    Args:
        path: Of an image file.

    Returns:
        None if the head of the file cannot be read.

    Example:
        >>> import tempfile
        >>> path, exif = tempfile.mkdtemp() + "/photo.jpg", Image.Exif()
        >>> exif[0x0112] = 6  # to be turned
        >>> Image.new("RGB", (300, 200)).save(path, exif=exif)
        >>> upright_size(path)
        (300, 200)
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Of a PNG file Pillow decodes the pixels before it knows the orientation.
            if image.format == "PNG" and not _says_how_it_lies(Path(path).read_bytes()):
                return height, width
            turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            return (width, height) if turned else (height, width)
    except Exception:  # Decoders of damaged files fail with whatever comes.
        return None


def _says_how_it_lies(png: bytes) -> bool:
    return b"eXIf" in png or b"rientation" in png


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= 2**16:
        raise ValueError(
            f"its values, {values.min():.3g} to {values.max():.3g}, are not of 8 or 16 bits"
        )
    grey = Image.fromarray((values // 256).astype("uint8"))
    grey.info = image.info  # the orientation
    return grey


def open_image(path: str | os.PathLike) -> Image.Image:
    """Read an image file upright and in RGB of 8 bits, as `read_rgb` does.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, is damaged or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no image file {str(path)!r}.")
    try:
        return read_rgb(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"The file {str(path)!r} cannot be used: it is {error}.") from error


def resize(
    image: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """Resize an image, as the authors do: bilinear with half-pixel centres, no antialiasing.

    Args:
        image: `(height, width, 3)` uint8.
        size: Height and width in pixels of the whole result.
        window: Top, left, height and width of the part of the result that is wanted: no more is
            computed. None: all of it.

    Returns:
        `(height, width, 3)` uint8, rounded, halves to even.

    Example:
        >>> ramp = np.arange(4, dtype="uint8")[None, :, None].repeat(3, 2)
        >>> resize(ramp, (1, 8))[0, :, 0].tolist()
        [0, 0, 1, 1, 2, 2, 3, 3]
    """
    top, left, height, width = (0, 0, *size) if window is None else window
    above, below, down = _neighbours(image.shape[0], size[0], top, height)
    before, behind, right = _neighbours(image.shape[1], size[1], left, width)
    right = right[:, None]

    def between(rows):  # Of wide images no more than these pixels is touched.
        start, end = (image[rows[:, None], each].astype("float32") for each in (before, behind))
        return start + (end - start) * right

    upper, lower = between(above), between(below)
    return np.rint(upper + (lower - upper) * down[:, None, None]).astype("uint8")


def _neighbours(source: int, target: int, first: int, count: int):
    """The two source pixels that each target pixel lies between, and its way to the second."""
    scale = np.float32(source) / np.float32(target)
    places = (np.arange(first, first + count, dtype="float32") + np.float32(0.5)) * scale
    places -= np.float32(0.5)
    lower = np.floor(places)
    share = places - lower
    low, high = lower.astype(int), np.ceil(places).astype(int)
    return np.clip(low, 0, source - 1), np.clip(high, 0, source - 1), share


def centre_window(
    shape: tuple[int, int], size: tuple[int, int], short_side: int | None = None
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """What an image is resized to before its centre is cut out, as the authors evaluate.

    An image of just the size wanted is taken as it is.

    Args:
        shape: Height and width of the image.
        size: Height and width wanted.
        short_side: The longer of `size` before the cut, in pixels; None: 288/256 of it. The other
            side is in proportion, and the image is as small as it can be to cover both.

    Returns:
        Height and width of the whole, and top, left, height and width of the centre in it.

    Example:
        >>> centre_window((375, 500), (256, 256))
        ((288, 384), (16, 64, 256, 256))
    """
    (height, width), longer = size, max(size)
    if tuple(shape) == tuple(size):
        return (height, width), (0, 0, height, width)
    short_side = short_side or round(longer / CENTRE)
    tall, wide = short_side * height // longer, short_side * width // longer
    # Integers: the long side is cut off, not rounded, and floats would cut off a pixel too many.
    if shape[0] * wide < shape[1] * tall:
        whole = tall, tall * shape[1] // shape[0]
    else:
        whole = wide * shape[0] // shape[1], wide
    return whole, ((whole[0] - height) // 2, (whole[1] - width) // 2, height, width)


def centre(image: np.ndarray, size: tuple[int, int], short_side: int | None = None) -> np.ndarray:
    """Bring an image to a model's size: resize it and cut out what `centre_window` says.

    Args:
        image: `(height, width, 3)` uint8.
        size: Height and width of the result in pixels.
        short_side: As for `centre_window`.

    Returns:
        `(height, width, 3)` uint8.

    Example:
        >>> centre(np.zeros((300, 400, 3), "uint8"), (96, 64)).shape
        (96, 64, 3)
    """
    return resize(image, *centre_window(image.shape[:2], size, short_side))


def load_image(
    path: str | os.PathLike, size: tuple[int, int], short_side: int | None = None
) -> np.ndarray:
    """Read an image file at a model's size: `open_image`, then `centre`.

    Args:
        path: Any image file Pillow reads; its EXIF orientation is applied.
        size: `(height, width)` in pixels.
        short_side: As for `centre_window`.

    Returns:
        `(height, width, 3)` float32, 0..255.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, is damaged or too large.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/photo.png"
        >>> Image.new("RGB", (300, 200), "white").save(path)
        >>> load_image(path, (96, 96)).shape
        (96, 96, 3)
    """
    return centre(np.asarray(open_image(path)), size, short_side).astype("float32")
