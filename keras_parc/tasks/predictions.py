"""What a model says of one image file, in the same form for every task."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

IMAGES_AT_A_TIME = 64  # in memory: a folder may hold any number


@dataclass(frozen=True)
class Prediction:
    """The answer for one image file.

    Attributes:
        answer: What goes into JSON, with the file's name as "image".
        rows: The cells of the table of predictions, without the name of the file.
        picture: Draws the answer over the image.
    """

    answer: dict[str, Any]
    rows: list[list[str]]
    picture: Callable[[], Image.Image]


def in_batches(paths: Sequence) -> Iterator[Sequence]:
    """Image files, as many at a time as are held in memory."""
    for start in range(0, len(paths), IMAGES_AT_A_TIME):
        yield paths[start : start + IMAGES_AT_A_TIME]
