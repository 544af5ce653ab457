"""What the readers of formats find in a folder of labelled images."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from keras_parc.support.text import first_of

TASKS = ("classification", "detection", "segmentation")


class Box(NamedTuple):
    """An object: its class, and its box relative to the upright image, 0 to 1."""

    label: int
    ymin: float
    xmin: float
    ymax: float
    xmax: float
    crowd: bool = False
    difficult: bool = False
    area: float = -1.0  # of its outline in pixels, where it is known


@dataclasses.dataclass(slots=True)
class Item:
    """An image file with its labels.

    Args:
        path: The image file.
        split: Name of a split; None: the set does not say.
        label: Class number, in classification.
        boxes: The objects, in detection.
        mask: A function that gives the content of a PNG file of class numbers, in segmentation. It
            reads what it needs when it is called.
        classes: The classes in a mask.
        number: COCO's number of the image, else -1.
    """

    path: str
    split: str | None = None
    label: int = -1
    boxes: Sequence[Box] = ()
    mask: Callable[[], bytes] | None = None
    classes: tuple[int, ...] = ()
    number: int = -1

    def labels(self) -> list[int]:
        """The classes that count in this image, once for each object."""
        if self.mask is not None:
            return list(self.classes)
        return [self.label] if self.label >= 0 else [box.label for box in self.boxes]


@dataclasses.dataclass
class Found:
    """What the reader of a format made of a folder.

    Args:
        task: One of `TASKS`.
        format: Name of the format.
        names: Of the classes; in segmentation the background is the first.
        items: The images in a repeatable order.
        notes: What was changed or left out: the reason, and what it applied to.
        ids: The numbers of the classes in COCO's files; None: 1, 2, 3 ...
        keep: Writes the index of the folder, see `keras_parc.data.sets.index`; None: none is
            wanted, or it is there already.
    """

    task: str
    format: str
    names: list[str]
    items: list[Item]
    notes: dict[str, list[str]]
    ids: list[int] | None = None
    keep: Callable[[], None] | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """What was understood of a folder.

    Args:
        task: One of `TASKS`.
        format: Name of the format.
        splits: Images of each split.
        validation: Where the validation split comes from.
        classes: Images of each class, or its objects in detection.
        notes: What was changed or left out: the reason, and what it applied to.
        by_split: As `classes`, of each split.
    """

    task: str
    format: str
    splits: dict[str, int]
    validation: str
    classes: dict[str, int]
    notes: dict[str, list[str]]
    by_split: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)

    def faults(self) -> str:
        """What was changed or left out, in one line; nothing if nothing was."""
        return "; ".join(
            f"{why}: {len(all_)} ({first_of(all_)})" for why, all_ in self.notes.items()
        )


def new_notes() -> dict[str, list[str]]:
    """An empty `notes`, to which a reader adds."""
    return defaultdict(list)
