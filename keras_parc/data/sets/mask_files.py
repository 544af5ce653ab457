"""Mask files as class numbers: palette, grey or colours."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from keras_parc.data.sets.labelmap import read_labelmap
from keras_parc.support.class_maps import IGNORED

BACKGROUND = "background"
_VOID = (224, 224, 192)  # VOC's outlines, which no map names


def png_of(numbers: np.ndarray) -> bytes:
    """The content of a PNG file of class numbers."""
    file = io.BytesIO()
    Image.fromarray(numbers).save(file, "PNG", compress_level=1)
    return file.getvalue()


@dataclasses.dataclass(frozen=True)
class MaskFiles:
    """How the masks of a set are read.

    Args:
        names: Of the classes, the background first; None: what the numbers mean is not said.
        colours: Class number of each colour; None: the values are the class numbers.
    """

    names: list[str] | None = None
    colours: dict[tuple[int, int, int], int] | None = None

    def numbers(self, path: Path) -> np.ndarray:
        """The class numbers in a mask file, uint8 `(height, width)`; 255 where none counts.

        Raises:
            LookupError: It has a colour or number that is no class; the message says which.
            ValueError: It cannot be read.
        """
        try:
            with Image.open(path) as image:
                image.load()
        except Exception as error:  # Decoders of damaged files fail with whatever comes.
            raise ValueError(str(error)) from error
        grey_map = self.colours and all(len(set(colour)) == 1 for colour in self.colours)
        if self.colours and (grey_map or image.mode in ("P", "RGB", "RGBA")):
            return self._by_colour(image, path)
        if image.mode in ("P", "L", "1"):
            numbers = np.asarray(image).astype("uint8")
        elif image.mode.startswith("I"):
            numbers = np.asarray(image)
        else:
            red, *others = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
            if any((each != red).any() for each in others):
                raise LookupError(f"{path}: it has colours, whose classes labelmap.txt must name.")
            numbers = red
        wrong = (numbers > IGNORED) | (numbers < 0)
        if self.names is not None:
            wrong |= (numbers >= len(self.names)) & (numbers != IGNORED)
        if wrong.any():
            last = (IGNORED if self.names is None else len(self.names)) - 1
            raise LookupError(
                f"{path}: it has the number {numbers[wrong][0]}; expected 0 to {last}, or "
                f"{IGNORED} for pixels to ignore."
            )
        return numbers.astype("uint8")

    def _by_colour(self, image: Image.Image, path: Path) -> np.ndarray:
        pixels = np.asarray(image.convert("RGB")).astype("int32")
        packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
        found, places = np.unique(packed, return_inverse=True)
        numbers = []
        for value in found.tolist():
            colour = (value >> 16, value >> 8 & 255, value & 255)
            number = self.colours.get(colour, IGNORED if colour == _VOID else None)
            if number is None:
                raise LookupError(f"{path}: the colour {colour} is not in labelmap.txt.")
            numbers.append(number)
        return np.array(numbers, "uint8")[places.reshape(packed.shape)]

    def content(self, path: Path) -> bytes:
        """A PNG file of class numbers made of a mask file; the file itself if it cannot be."""
        try:
            return png_of(self.numbers(path))
        except (LookupError, ValueError):
            return path.read_bytes()  # that something is wrong with it is told where it is decoded


@dataclasses.dataclass(frozen=True, slots=True)
class MaskFile:
    """A function that gives a mask as a PNG file of class numbers.

    Args:
        files: How the masks of the set are read.
        path: The file.
    """

    files: MaskFiles
    path: Path

    def __call__(self) -> bytes:
        return self.files.content(self.path)


def mask_files(folder: Path) -> MaskFiles:
    """What `labelmap.txt` of a set says of its masks.

    Args:
        folder: Of the set.

    Raises:
        ValueError: That file is not what it should be.
    """
    labelmap = read_labelmap(folder)
    if labelmap is None:
        return MaskFiles()
    first = labelmap.pop(BACKGROUND, (0, 0, 0))
    if first in labelmap.values():
        raise ValueError(
            f"{folder / 'labelmap.txt'}: black is a class, and no colour is the {BACKGROUND}'s. If "
            f"black is the background, call it so: {BACKGROUND}:0,0,0::; else name a colour that "
            f"does not occur, as in {BACKGROUND}:1,1,1::"
        )
    names = [BACKGROUND, *labelmap]
    if len(names) > IGNORED:
        raise ValueError(f"{folder / 'labelmap.txt'}: more than {IGNORED} classes.")
    colours = {colour: number for number, colour in enumerate((first, *labelmap.values()))}
    return MaskFiles(names, colours)
