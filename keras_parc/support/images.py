"""Image files as arrays."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# The authors' evaluation rule at 256: the short side to 288, then the centre.
CENTRE = 256 / 288


def open_image(path: str | os.PathLike) -> Image.Image:
    """Read an image file as RGB, upright.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no image file {str(path)!r}.")
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except UnidentifiedImageError as error:
        raise ValueError(f"{str(path)!r} is not an image file that Pillow can read.") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"The image file {str(path)!r} is damaged: {error}") from error


def load_image(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """Read an image file as RGB at a model's size.

    An image of just that size is taken as it is; any other is resized (bilinear) so that its short
    side is 288/256 of the model's, and the centre is cut out, as the authors evaluate.

    Args:
        path: Any image file Pillow reads; its EXIF orientation is applied.
        size: `(height, width)` in pixels.

    Returns:
        `(height, width, 3)` float32, 0..255.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not an image, or is damaged.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/photo.png"
        >>> Image.new("RGB", (300, 200), "white").save(path)
        >>> load_image(path, (96, 96)).shape
        (96, 96, 3)
    """
    image, (height, width) = open_image(path), size
    if image.size != (width, height):
        enlarged = (round(width / CENTRE), round(height / CENTRE))
        image = ImageOps.fit(image, enlarged, Image.Resampling.BILINEAR)
        left, top = (enlarged[0] - width) // 2, (enlarged[1] - height) // 2
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image, "float32")
