"""Objects with outlines, polygons or runs of pixels, as masks."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_parc.data.sets.mask_files import BACKGROUND, png_of
from keras_parc.support.class_maps import IGNORED
from keras_parc.support.extras import needs_extra
from keras_parc.support.images import upright_size
from keras_parc.support.text import one_line

_ROUNDING = 1e-5  # no outline is called clipped for less, in parts of the side


@dataclasses.dataclass(frozen=True, slots=True)
class Outline:
    """An object's pixels.

    Args:
        number: Of its class in a mask, or 255 where no pixel counts, as of a crowd.
        polygons: Arrays x, y, x, y ... relative to the image; or
        runs: COCO's compressed runs of pixels, a dictionary of `size` and `counts`.
    """

    number: int
    polygons: Sequence[np.ndarray] = ()
    runs: dict | None = None

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """Where it is, bool `(height, width)`."""
        with needs_extra():
            from pycocotools import mask as coco
        runs = self.runs
        if runs is None:
            sides = np.array(size[::-1], "float64")
            drawn = [(each.reshape(-1, 2) * sides).ravel().tolist() for each in self.polygons]
            runs = coco.merge(coco.frPyObjects(drawn, *size))
        return coco.decode(runs).astype(bool)


@dataclasses.dataclass(frozen=True, slots=True)
class Drawing:
    """A function that draws the mask of an image: the largest object first, crowds below all.

    Args:
        path: The image file.
        outlines: Of its objects.
    """

    path: str
    outlines: tuple[Outline, ...]

    def __call__(self) -> bytes:
        size = upright_size(self.path) or (1, 1)  # of a damaged image, which decoding tells
        mask = np.zeros(size, "uint8")
        found = [(each.number, each.pixels(size)) for each in self.outlines]
        for number, pixels in sorted(found, key=lambda each: (each[0] < IGNORED, -each[1].sum())):
            mask[pixels] = number
        return png_of(mask)

    def classes(self) -> tuple[int, ...]:
        """The classes drawn, and the background, which nearly every image has."""
        return tuple(sorted({0, *(each.number for each in self.outlines)} - {IGNORED}))


def polygons_in(
    polygons: Sequence[Sequence[float]], size: tuple[float, float], place: str, notes: dict
) -> list[np.ndarray]:
    """Polygons relative to their image; those of fewer than three corners are left out.

    Args:
        polygons: Each x, y, x, y ...
        size: Height and width of the image in the same unit.
        place: What the object is called in notes and errors.
        notes: Where it is noted what was clipped or left out.

    Raises:
        ValueError: A corner is no finite number.
    """
    found = []
    for polygon in polygons:
        corners = np.asarray(polygon, "float64")
        if not np.isfinite(corners).all():
            raise ValueError(f"{place}: its outline is not of numbers alone.")
        if len(corners) < 6 or len(corners) % 2:
            notes["outlines of fewer than three corners, left out"].append(place)
            continue
        corners = corners / np.resize(size[::-1], len(corners))
        if corners.min() < -_ROUNDING or corners.max() > 1 + _ROUNDING:
            notes["outlines clipped to their image"].append(place)
        # Drawing clips to the image; a corner too far away would take memory.
        found.append(corners.clip(-1, 2).astype("float32"))
    return found


def checked_runs(runs: dict, place: str) -> dict:
    """Runs of pixels, compressed, once it is known that they fill their image.

    pycocotools takes memory for an answer where they do not.

    Args:
        runs: A dictionary of `size`, height and width, and `counts`, a list or COCO's text.
        place: What the object is called in errors.

    Raises:
        ValueError: They do not fill an image of that size.
    """
    with needs_extra():
        from pycocotools import mask as coco
    counts, (height, width) = runs.get("counts"), runs["size"]
    try:
        lengths = _lengths(counts.encode("ascii")) if isinstance(counts, str) else counts
        if min(lengths) < 0 or sum(lengths) != height * width:
            raise ValueError("they do not fill the image")
        return coco.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
    except (OverflowError, TypeError, ValueError) as error:
        words = one_line(str(error), 80)
        raise ValueError(f"{place}: its runs of pixels cannot be read: {words}.") from error


def _lengths(text: bytes) -> list[int]:
    """The lengths in COCO's text: digits of five bits, from the third on the change of the last
    but one, as maskApi.c of pycocotools writes them."""
    found: list[int] = []
    value = shift = 0
    for each in text:
        digit = each - 48
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (1 << shift) if digit & 16 else 0
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value = shift = 0
    return found


def mask_names(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """The classes in masks, the background first, and the number there of each class.

    Raises:
        ValueError: They are too many for a mask.

    Example:
        >>> mask_names(["cat", "dog"])
        (['background', 'cat', 'dog'], [1, 2])
    """
    found = [BACKGROUND, *(name for name in names if name != BACKGROUND)]
    if len(found) > IGNORED:
        raise ValueError(f"A mask has room for {IGNORED - 1} classes; there are {len(names)}.")
    return found, [found.index(name) for name in names]
