"""Where things are: the image files that labels name, and boxes in them."""

import math
import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from keras_parc.data.sets.found import Box
from keras_parc.data.sets.splits import known_split
from keras_parc.support.images import image_files, upright_size

_ROUNDING = 1e-5  # no box is called clipped for less, in parts of the side


class Images:
    """The files of a folder, to be found by the names that label files give them.

    Only files in the folder are found, whatever a name says.

    Args:
        folder: The folder of the set.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        found = {path.relative_to(folder).as_posix(): good for path, good in image_files(folder)}
        self.images = [name for name, good in found.items() if good]
        self.others = [name for name, good in found.items() if not good]
        self._all = found
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self.images:
            self._by_name[PurePosixPath(name).name].append(name)
            self._by_stem[PurePosixPath(name).stem].append(name)

    def find(self, name: str, folders: Sequence[str]) -> str | None:
        """The path, relative to the set's folder, of a file that labels name.

        Args:
            name: As it is in the label file, perhaps with folders or a drive of another machine.
            folders: Where it may be, relative to the set's folder, the likeliest first.

        Returns:
            Where it is: in the first of these folders, or wherever there is the only one of its
            name; None if nowhere.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        last = parts[-1] if parts else ""
        for each in ("/".join(parts[start:]) for start in range(len(parts))):
            for folder in folders:
                path = PurePosixPath(folder, each).as_posix()
                if path in self._all:
                    return path
        same = self._by_name.get(last, [])
        return same[0] if len(same) == 1 else None

    def find_stem(self, stem: str, folders: Sequence[str]) -> str | None:
        """As `find`, of a name without its ending."""
        for folder in folders:
            if (path := self.in_folder(stem, folder)) is not None:
                return path
        same = self._by_stem.get(stem, [])
        return same[0] if len(same) == 1 else None

    def in_folder(self, stem: str, folder: str) -> str | None:
        """The first image of a name without its ending that lies directly in a folder."""
        same = self._by_stem.get(stem, [])
        return next((p for p in same if PurePosixPath(p).parent.as_posix() == folder), None)

    def inside(self, place: Path) -> str | None:
        """The path, relative to the set's folder, of what exists in it; links may lead out."""
        for whole in (os.path.abspath, os.path.realpath):
            path, top = Path(whole(place.expanduser())), Path(whole(self.folder))
            if path.is_relative_to(top) and path.exists():
                return path.relative_to(top).as_posix()
        return None

    def note_unused(self, used: Collection[str], notes: dict) -> None:
        """Note the images that no label file names."""
        if unused := [path for path in self.images if path not in used]:
            notes["images that no label file names"] += unused

    def size(self, path: str, said: tuple[int, int] | None, notes: dict) -> tuple[int, int] | None:
        """Height and width of the upright image: what the file says, whatever a label file does.

        Args:
            path: Relative to the folder.
            said: Height and width in the label file, if they are there.
            notes: Where a difference is noted.

        Returns:
            None if neither says it.
        """
        size = upright_size(self.folder / path)
        if size is not None and said is not None and size != said:
            turned = " before it is turned upright" if size == said[::-1] else ""
            notes["images of another size than their labels say, theirs was taken"].append(
                f"{path}: {size[1]}x{size[0]}, not {said[1]}x{said[0]}{turned}"
            )
        return said if size is None else size


def split_of(path: str) -> str | None:
    """The split that the name of a folder in a path means, the outermost one's.

    Example:
        >>> split_of("images/val/1.jpg"), split_of("images/1.jpg")
        ('validation', None)
    """
    return next(filter(None, map(known_split, PurePosixPath(path).parts[:-1])), None)


def as_number(value) -> float:
    """The number that a label file has there; NaN for what is none.

    Example:
        >>> as_number(1), as_number("1.5"), as_number([]), as_number(10**400)
        (1.0, 1.5, nan, nan)
    """
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return math.nan


def box_in(
    label: int,
    corners: Sequence[float],
    size: tuple[float, float],
    place: str,
    notes: dict,
    **more,
) -> Box | None:
    """A box relative to its image: clipped to it, or None if nothing is left.

    Args:
        label: Number of its class.
        corners: xmin, ymin, xmax, ymax.
        size: Height and width of the image in the same unit.
        place: What the box is called in notes and errors.
        notes: Where it is noted that it was clipped or left out.
        **more: Other fields of `Box`.

    Raises:
        ValueError: A corner is no finite number.
    """
    if not all(map(math.isfinite, corners)):
        raise ValueError(f"{place}: expected a box of four numbers, got {list(corners)}.")
    height, width = size
    whole = [each / side for each, side in zip(corners, (width, height) * 2, strict=True)]
    xmin, ymin, xmax, ymax = (min(max(each, 0.0), 1.0) for each in whole)
    if xmax <= xmin or ymax <= ymin:
        notes["boxes without area or outside their image, left out"].append(place)
        return None
    if min(whole) < -_ROUNDING or max(whole) > 1 + _ROUNDING:
        notes["boxes clipped to their image"].append(place)
    return Box(label, ymin, xmin, ymax, xmax, **more)
