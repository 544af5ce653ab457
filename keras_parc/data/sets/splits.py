"""The splits of labelled images: their names, and a validation split where there is none."""

import hashlib
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_KNOWN = {each: name for name, names in _NAMES.items() for each in names}
_YEAR = re.compile(r"[-_]?\d*$")  # train2017


def known_split(name: str) -> str | None:
    """The split that a name of a file or folder means; None if it is no split's.

    Example:
        >>> known_split("valid"), known_split("Train2017"), known_split("cats")
        ('validation', 'train', None)
    """
    return _KNOWN.get(_YEAR.sub("", name.lower()))


def validation_part(
    paths: Sequence[str],
    classes: Sequence[Iterable[int]],
    *,
    share: float,
    seed: int,
    split_by: str | None = None,
) -> list[int]:
    """Choose the images of a validation split.

    Each class gets its share, an image of several counting for the rarest of them. Images of the
    same content, or with `split_by="folder"` those of a folder, stay on one side. No class loses
    its last such group.

    Args:
        paths: The image files.
        classes: The classes in each image.
        share: Part of the images, 0 to 1.
        seed: Equal seeds choose equal images, on every machine.
        split_by: `"folder"`: as the frames of one video are in one; None: by content.

    Returns:
        Numbers of the images, ascending.

    Example:
        >>> paths = [f"{scene}/{frame}.jpg" for scene in "abcde" for frame in range(2)]
        >>> chosen = validation_part(paths, [[0]] * 10, share=0.2, seed=0, split_by="folder")
        >>> len(chosen), chosen[1] - chosen[0]
        (2, 1)
    """
    by_folder = split_by == "folder"
    groups = _by_folder(paths) if by_folder else by_content(paths)
    images = Counter(number for each in classes for number in set(each))
    strata: dict[int, list[list[int]]] = defaultdict(list)
    for group in groups:
        found = {number for image in group for number in classes[image]}
        # Frames of a folder have several classes: there is nothing to balance.
        rarest = min(found, key=lambda number: (images[number], number), default=-1)
        strata[-1 if by_folder else rarest].append(group)
    chosen: list[int] = []
    goal = 0.0
    for number in sorted(strata):
        stratum = strata[number]
        random.Random(f"{seed} {number}").shuffle(stratum)
        goal += share * sum(map(len, stratum))
        for group in stratum[:-1]:
            if len(chosen) + len(group) <= goal + 0.5:
                chosen += group
    if not chosen and share > 0 and by_folder and len(groups) > 1:
        chosen = min(groups, key=len)
    return sorted(chosen)


def _grouped(paths: Sequence[str], numbers: Iterable[int], key: Callable) -> list[list[int]]:
    groups: dict[object, list[int]] = defaultdict(list)
    for number in numbers:
        groups[key(paths[number])].append(number)
    return list(groups.values())


def _by_folder(paths):
    return _grouped(paths, range(len(paths)), lambda path: Path(path).parent)


def by_content(paths: Sequence[str]) -> list[list[int]]:
    """The numbers of files of the same content; only files of equal length are read.

    One that cannot be read is like no other.
    """
    groups = []
    for group in _grouped(paths, range(len(paths)), _length):
        groups += [group] if len(group) == 1 else _grouped(paths, group, _digest)
    return sorted(groups)


def _length(path):
    try:
        return os.path.getsize(path)
    except OSError:
        return path


def _digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return path
