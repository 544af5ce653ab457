"""What a folder of labelled images is, told by what is in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from keras_parc.data.sets import (
    class_folder,
    coco_folder,
    mask_folder,
    table,
    voc_folder,
    yolo_folder,
)
from keras_parc.data.sets.found import TASKS, Found
from keras_parc.data.sets.index import read_index
from keras_parc.data.sets.labelled import LabelledFolder


@dataclasses.dataclass(frozen=True)
class Format:
    """A way to write labels down.

    Args:
        name: By which a user states it.
        says: What is in such a folder, for messages.
        fits: Of a folder, whether it is one, by task.
        read: Reads a folder for a task.
    """

    name: str
    says: str
    fits: dict[str, Callable[[Path], bool]]
    read: Callable[[Path, str], Found]


# Folders of classes are what every other folder with images looks like too: the last.
FORMATS = (
    Format(
        "coco",
        "COCO's JSON files of images, categories and annotations",
        {"detection": coco_folder.fits, "segmentation": coco_folder.has_outlines},
        coco_folder.read,
    ),
    Format(
        "yolo",
        "YOLO's text files, with the class names in data.yaml or classes.txt",
        {"detection": yolo_folder.fits, "segmentation": yolo_folder.has_outlines},
        yolo_folder.read,
    ),
    Format(
        "voc",
        "PASCAL VOC's XML files, one an image",
        {"detection": voc_folder.fits},
        voc_folder.read,
    ),
    Format(
        "masks",
        "images and PNG masks of the same names in images and masks, or NAME_mask.png beside them",
        {"segmentation": mask_folder.fits},
        mask_folder.read,
    ),
    Format("table", "a CSV file of files and labels", {"classification": table.fits}, table.read),
    Format(
        "folders",
        "split/class/image or class/image",
        {"classification": class_folder.fits},
        class_folder.read,
    ),
)


def open_folder(
    folder: Path,
    task: str | None = None,
    *,
    format: str | None = None,
    validation: float = 0.2,
    seed: int = 0,
    split_by: str | None = None,
    index: Path | None = None,
) -> LabelledFolder:
    """Open a folder of labelled images of any format.

    Args:
        folder: Where the images and their labels are.
        task: `"classification"`, `"detection"` or `"segmentation"`; None: the one it fits.
        format: Name of one of `FORMATS`; None: the one it fits.
        validation: As for `LabelledFolder`.
        seed: As for `LabelledFolder`.
        split_by: As for `LabelledFolder`.
        index: Folder in which what was read once is kept: it is taken from there as long as no
            file of the set changes, else `found.keep()` of the answer writes it. None: nothing is.

    Raises:
        ValueError: It fits none or several, or something in it cannot be used.
    """
    if task not in (None, *TASKS):
        raise ValueError(f"`task` must be one of {', '.join(TASKS)}, got {task!r}.")
    names = [each.name for each in FORMATS]
    if format not in (None, *names):
        raise ValueError(f"`format` must be one of {', '.join(names)}, got {format!r}.")

    def read():
        chosen, fitting = _reading(folder, task, format)
        return chosen.read(folder, fitting)

    found = read() if index is None else read_index(index, folder, task, format, read)
    return LabelledFolder(folder, found, validation=validation, seed=seed, split_by=split_by)


def _reading(folder: Path, task: str | None, format: str | None) -> tuple[Format, str]:
    """The one format and task that a folder fits."""
    formats = [each for each in FORMATS if format in (None, each.name)]
    fitting = _fitting(folder, formats, TASKS if task is None else (task,))
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        kinds = "; or ".join(
            f"{each.says} ({each.name})" for each in formats if task is None or task in each.fits
        )
        message = f"There are no images with labels in {str(folder)!r}"
        if task is not None:
            message += f" for {task}"
            if others := _fitting(folder, formats, TASKS):
                message += f", which can be read as {_said(others)}"
        raise ValueError(f"{message}; expected {kinds or 'another format'}.")
    option = "format" if len({each.name for each, _ in fitting}) > 1 else "task"
    raise ValueError(
        f"{str(folder)!r} can be read as {_said(fitting)}: say which one with `{option}`."
    )


def _fitting(folder: Path, formats, tasks) -> list[tuple[Format, str]]:
    found = [
        (each, task)
        for each in formats
        for task in tasks
        if task in each.fits and each.fits[task](folder)
    ]
    if len(found) > 1:  # what is more than images in folders is not there by chance
        found = [each for each in found if each[0].name != "folders"]
    return found


def _said(readings: list[tuple[Format, str]]) -> str:
    return " or as ".join(f"{task} in the format {each.name!r}" for each, task in readings)
