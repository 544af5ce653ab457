"""Folders in COCO's format: a JSON file of images, categories and annotations for each split."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from keras_parc.data.sets.found import Found, Item, new_notes
from keras_parc.data.sets.label_files import mentions, read_json
from keras_parc.data.sets.outlines import (
    Drawing,
    Outline,
    checked_runs,
    mask_names,
    polygons_in,
)
from keras_parc.data.sets.places import Images, as_number, box_in
from keras_parc.data.sets.splits import known_split
from keras_parc.support.class_maps import IGNORED
from keras_parc.support.text import one_line

_PARTS = ("images", "annotations", "categories")
_OUTLINE = re.compile(rb'"segmentation"\s*:\s*(\[\s*[\[\d]|\{)')


def label_files(folder: Path) -> list[Path]:
    """The annotation files: of the folder, its `annotations`, or beside the images of a split."""
    found = sorted([*folder.glob("*.json"), *folder.glob("*/*.json")])
    found = [path for path in found if not path.name.startswith(".")]
    named = [path for path in found if path.name.startswith(("instances", "_annotations.coco"))]
    return named or [path for path in found if _has_parts(path)]


def _has_parts(path: Path) -> bool:
    return all(mentions(path, f'"{part}"') for part in _PARTS)


def fits(folder: Path) -> bool:
    """Whether there are annotation files."""
    return bool(label_files(folder))


def has_outlines(folder: Path) -> bool:
    """Whether there are annotation files with outlines."""
    return any(_OUTLINE.search(path.read_bytes()) for path in label_files(folder))


def read(folder: Path, task: str) -> Found:
    """Read a folder in COCO's format.

    The annotation files are `annotations/instances_train2017.json` and the like, as COCO and CVAT
    write them; `train/_annotations.coco.json`, as Roboflow does; or any JSON file of images,
    annotations and categories. The images are beside them, in folders of the split's name, in
    `images`, or wherever there is only one of the name.

    Args:
        folder: Of the set.
        task: Detection, or segmentation of the objects' outlines, polygons or runs of pixels;
            pixels of crowds are ignored.

    Raises:
        ValueError: A file is not what it should be, or has an annotation of an unknown category.
    """
    notes, images = new_notes(), Images(folder)
    files = [_File(path, folder) for path in label_files(folder)]
    categories = _categories(files, notes)
    ids = sorted(categories)
    names = [categories[each] for each in ids]
    segments = task == "segmentation"
    if segments:
        names, numbers = mask_names(names)
    labels = dict(zip(ids, numbers if segments else range(len(ids)), strict=True))
    items: dict[str, Item] = {}
    for file in files:
        for image in file.images:
            path = images.find(image["file_name"], file.folders)
            if path is None:
                notes["images named that do not exist"].append(one_line(image["file_name"]))
                continue
            if path in items:
                notes["images listed twice"].append(path)
                continue
            size = images.size(path, _said(image), notes)
            if size is None:
                notes["images of unknown size, left out"].append(path)
                continue
            number = image["id"] if isinstance(image["id"], int) else -1
            item = Item(str(folder / path), file.split, number=max(min(number, 2**63 - 1), -1))
            annotations = _once(file.annotations[image["id"]], notes)
            if segments:
                outlines = _outlines(annotations, size, labels, notes)
                if outlines is None:
                    notes["images whose runs of pixels are of another size, left out"].append(path)
                    continue
                item.mask = Drawing(item.path, tuple(outlines))
                item.classes = item.mask.classes()
            else:
                item.boxes = _boxes(annotations, size, labels, notes)
            items[path] = item
        file.annotations.clear()
    images.note_unused(items, notes)
    items = [items[path] for path in sorted(items)]
    return Found(task, "coco", names, items, notes, None if segments else ids)


class _File:
    """An annotation file, its parts checked, annotations by image."""

    def __init__(self, path: Path, folder: Path):
        self.path = path
        content = read_json(path)
        if not isinstance(content, dict) or any(
            not isinstance(content.get(part), list) for part in _PARTS
        ):
            raise ValueError(f"{path}: expected lists {', '.join(_PARTS)}, as COCO's format has.")
        self.categories = self._records(content, "categories", {"id": (int,), "name": (str,)})
        self.images = self._records(content, "images", {"id": (int, str), "file_name": (str,)})
        self.annotations: dict[Any, list[dict]] = {image["id"]: [] for image in self.images}
        self.used: dict[int, str] = {}  # categories, with an annotation of each
        self.strays: list[str] = []
        known = {"image_id": (int, str), "category_id": (int,)}
        for number, each in enumerate(self._records(content, "annotations", known)):
            each["place"] = f"{path.name}, annotation {one_line(str(each.get('id', number)), 40)}"
            self.used.setdefault(each["category_id"], each["place"])
            if each["image_id"] in self.annotations:
                self.annotations[each["image_id"]].append(each)
            else:
                self.strays.append(each["place"])
        parent = path.parent.relative_to(folder).as_posix()
        words = re.split(r"[_.]", path.stem)  # instances_train2017, _annotations.coco
        splits = [word for word in [*words, PurePosixPath(parent).name] if known_split(word)]
        self.split = known_split(splits[0]) if splits else None
        names = [*splits[:1], *(words[-1:] if not splits else ())]
        self.folders = [parent, *(f"{top}{name}" for name in names for top in ("", "images/"))]
        self.folders += ["images", "."]

    def _records(self, content, part, keys: dict[str, tuple]) -> list[dict]:
        for number, each in enumerate(content[part]):
            for key, kinds in keys.items():
                if not isinstance(each, dict) or not isinstance(each.get(key), kinds):
                    raise ValueError(
                        f"{self.path}: number {number} of {part!r} has no proper {key!r}: "
                        f"{one_line(str(each), 80)}."
                    )
        return content[part]


def _categories(files: list[_File], notes) -> dict[int, str]:
    """Id and name of each category; annotations of others are refused."""
    found: dict[int, str] = {}
    groups = {
        each.get("supercategory")
        for file in files
        for each in file.categories
        if each.get("supercategory") != each["name"] and isinstance(each.get("supercategory"), str)
    }
    for file in files:
        for each in file.categories:
            number, name = each["id"], each["name"]
            if found.setdefault(number, name) != name:
                raise ValueError(
                    f"{file.path}: category {number} is {one_line(name)!r} here and "
                    f"{one_line(found[number])!r} in another file."
                )
    used: dict[int, str] = {}
    for file in files:
        used |= file.used
        if file.strays:
            notes["annotations of images that are not listed"] += file.strays
    for number, place in used.items():
        if number not in found:
            raise ValueError(f"{place}: there is no category {number}.")
    for number, name in list(found.items()):  # Roboflow adds one with the name of the set
        if number not in used and name in groups:
            notes["categories that are only the group of others"].append(one_line(name))
            del found[number]
    if len(set(found.values())) < len(found):
        names = list(found.values())
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{files[0].path}: two categories have the name {one_line(twice)!r}.")
    return found


def _said(image) -> tuple[int, int] | None:
    size = image.get("height"), image.get("width")
    return size if all(isinstance(each, int) and each > 0 for each in size) else None


def _once(annotations, notes):
    """Those of an image without what is there twice."""
    seen = set()
    for each in annotations:
        key = each["category_id"], str(each.get("bbox")), str(each.get("segmentation"))
        if key in seen:
            notes["annotations there twice"].append(each["place"])
        else:
            seen.add(key)
            yield each


def _outlines(annotations, size, labels, notes) -> list[Outline] | None:
    """The outlines of an image's objects; None if they are of an image of another size."""
    found = []
    for each in annotations:
        shape, place = each.get("segmentation"), each["place"]
        number = IGNORED if each.get("iscrowd") else labels[each["category_id"]]
        if not shape:
            notes["objects without an outline, left out"].append(place)
        elif isinstance(shape, dict):
            if shape.get("size") != list(size):
                return None
            found.append(Outline(number, runs=checked_runs(shape, place)))
        else:
            shape = shape if isinstance(shape, list) else [[None]]
            shape = shape if all(isinstance(part, list) for part in shape) else [shape]
            polygons = [[as_number(value) for value in part] for part in shape]
            if polygons := polygons_in(polygons, size, place, notes):
                found.append(Outline(number, polygons))
    return found


def _boxes(annotations, size, labels, notes):
    boxes = []
    for each in annotations:
        box, place = each.get("bbox"), each["place"]
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(
                f"{place}: expected a bbox of 4 numbers, got {one_line(str(box), 80)}."
            )
        x, y, width, height = map(as_number, box)
        area = as_number(each.get("area"))
        found = box_in(
            labels[each["category_id"]],
            (x, y, x + width, y + height),
            size,
            place,
            notes,
            crowd=bool(each.get("iscrowd")),
            area=area if 0 <= area < 1e15 else -1.0,
        )
        if found is not None:
            boxes.append(found)
    return boxes
