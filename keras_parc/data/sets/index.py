"""What was read of a folder of labelled images, kept in a file, so that it is read once."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_parc.data.sets.found import Box, Found, Item
from keras_parc.data.sets.mask_files import MaskFile, MaskFiles
from keras_parc.data.sets.outlines import Drawing, Outline
from keras_parc.support.files import replacing
from keras_parc.support.images import image_files
from keras_parc.support.version import VERSION

log = logging.getLogger(__name__)

_READERS = 1  # to be raised when a reader of a format finds something else than before


def key_of(folder: Path) -> str:
    """What changes when a file of a folder does: a digest of their names, sizes and times.

    Args:
        folder: Of the set.
    """
    digest = hashlib.sha256(f"{VERSION} {_READERS}".encode())
    for path, _ in image_files(folder):
        try:
            stat = path.stat()
            facts = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:  # a link that leads nowhere
            facts = ""
        digest.update(f"{path.relative_to(folder)}\0{facts}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def read_index(
    place: Path, folder: Path, task: str | None, format: str | None, read: Callable[[], Found]
) -> Found:
    """What a folder holds: from its index, or from its files if one of them changed since.

    Args:
        place: Folder of the index.
        folder: Of the set.
        task: That was asked for; None: the one that fits.
        format: That was asked for; None: the one that fits.
        read: Reads the files.

    Returns:
        What there is; its `keep` writes the index, and is None if it stands already.
    """
    key, file = key_of(folder), _file(place, folder)
    try:
        kept = json.loads(file.read_text("ascii"))
        if kept["key"] != key:
            log.warning("%s changed since it was read: its labels are read anew.", folder)
        elif _answers(kept, task, format):
            return _found(kept, folder)
    except FileNotFoundError:
        pass
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        log.warning("%s cannot be used, the labels are read anew: %s", file, error)
    found = read()
    about = {"key": key, "asked": (task, format)}

    def keep():
        found.keep = None
        _write(file, about | _written(found, _top(folder)))

    found.keep = keep
    return found


def _write(file: Path, index: dict) -> None:
    try:
        with replacing(file) as temporary, open(temporary, "w", encoding="ascii") as stream:
            json.dump(index, stream, separators=(",", ":"))
    except OSError as error:  # as of a folder of prepared sets that many share
        log.warning("%s is not written, the labels will be read anew: %s", file, error)


def _file(place: Path, folder: Path) -> Path:
    whole = os.fsencode(folder.absolute())
    return place / f"{folder.absolute().name}-{hashlib.sha256(whole).hexdigest()[:8]}.index.json"


def _top(folder: Path) -> str:
    """What the paths of a folder's files begin with."""
    return str(folder / "x")[:-1]


def _answers(kept: dict, task: str | None, format: str | None) -> bool:
    """Whether reading the folder as asked now would find the same."""
    pairs = ((task, "task"), (format, "format"))
    return all(
        asked == before or (before is None and asked == kept[field])
        for (asked, field), before in zip(pairs, kept["asked"], strict=True)
    )


def _written(found: Found, top: str) -> dict:
    """An index as JSON has it. The masks of a set are either files, read alike, or drawn."""
    masks = (item.mask for item in found.items)
    files = next((mask.files for mask in masks if isinstance(mask, MaskFile)), None)
    return {
        "task": found.task,
        "format": found.format,
        "names": found.names,
        "ids": found.ids,
        "notes": found.notes,
        "mask_names": files and files.names,
        "mask_colours": files and files.colours and list(files.colours.items()),
        "items": [_of_item(item, top) for item in found.items],
    }


def _of_item(item: Item, top: str) -> list:
    mask = item.mask
    if isinstance(mask, MaskFile):
        mask = str(mask.path).removeprefix(top)
    elif mask is not None:
        mask = [_of_outline(each) for each in mask.outlines]
    path = item.path.removeprefix(top)
    return [path, item.split, item.label, item.boxes, item.classes, item.number, mask]


def _of_outline(outline: Outline) -> list:
    polygons = [
        base64.b64encode(np.ascontiguousarray(each, "<f4").tobytes()).decode()
        for each in outline.polygons
    ]
    runs = outline.runs and [outline.runs["size"], outline.runs["counts"].decode("ascii")]
    return [outline.number, polygons, runs]


def _found(kept: dict, folder: Path) -> Found:
    top = _top(folder)
    colours = kept["mask_colours"]
    colours = colours and {tuple(colour): number for colour, number in colours}
    files = MaskFiles(kept["mask_names"], colours)
    items = []
    for path, split, label, boxes, classes, number, mask in kept["items"]:
        path = top + path
        if isinstance(mask, str):
            mask = MaskFile(files, Path(top + mask))
        elif mask is not None:
            mask = Drawing(path, tuple(_outline(*each) for each in mask))
        boxes = [Box(*box) for box in boxes]
        items.append(Item(path, split, label, boxes, mask, tuple(classes), number))
    task, format, names, notes, ids = map(kept.get, ("task", "format", "names", "notes", "ids"))
    return Found(task, format, names, items, notes, ids)


def _outline(number: int, polygons: list[str], runs: list | None) -> Outline:
    arrays = [np.frombuffer(base64.b64decode(each), "<f4") for each in polygons]
    if runs is not None:
        runs = {"size": runs[0], "counts": runs[1].encode("ascii")}
    return Outline(number, arrays, runs)
