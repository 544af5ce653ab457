"""CVAT's `labelmap.txt`: class names with the colours they have in masks."""

from pathlib import Path

from keras_parc.data.sets.label_files import read_lines
from keras_parc.support.text import one_line


def read_labelmap(folder: Path) -> dict[str, tuple[int, int, int]] | None:
    """Names and colours of the classes, in the order of the file.

    Args:
        folder: Of the set.

    Returns:
        None if there is no such file.

    Raises:
        ValueError: A line is not `name:red,green,blue:parts:actions`, or a name or a colour is
            there twice.
    """
    path = folder / "labelmap.txt"
    if not path.is_file():
        return None
    found: dict[str, tuple[int, int, int]] = {}
    for number, line in read_lines(path):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        values = rest.partition(":")[0].split(",")
        if len(values) != 3 or not all(each.strip().isdecimal() for each in values):
            raise ValueError(
                f"{path}, line {number}: expected name:red,green,blue::, got {one_line(line, 80)}."
            )
        colour = tuple(int(each) for each in values)
        if max(colour) > 255:
            raise ValueError(f"{path}, line {number}: {colour} is no colour of 0 to 255.")
        if name in found or colour in found.values():
            raise ValueError(
                f"{path}, line {number}: {one_line(name)!r} or its colour is there twice."
            )
        found[name] = colour
    if not found:
        raise ValueError(f"{path}: there are no classes in it.")
    return found
