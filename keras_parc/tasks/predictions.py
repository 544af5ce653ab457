"""What a model says of one image file, in the same form for every task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Prediction:
    """The answer for one image file.

    Attributes:
        answer: What goes into JSON, with the file's name as "image".
        rows: The cells of the table of predictions, without the name of the file.
        picture: Draws the answer over the image; None where there is nothing to draw.
    """

    answer: dict[str, Any]
    rows: list[list[str]]
    picture: Callable[[], Image.Image] | None = None
