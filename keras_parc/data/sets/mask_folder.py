"""Folders of images and of masks with their names, VOCdevkit and CVAT's among them."""

import dataclasses
import os
from pathlib import Path, PurePosixPath

import numpy as np

from keras_parc.data.sets.found import Found, Item, new_notes
from keras_parc.data.sets.mask_files import BACKGROUND, MaskFile, MaskFiles, mask_files
from keras_parc.data.sets.places import Images, split_of
from keras_parc.data.sets.voc_folder import lists
from keras_parc.support.class_maps import IGNORED
from keras_parc.support.images import ENDINGS, image_files, upright_size

_VOC = "SegmentationClass"
_MASKS = (_VOC, "masks", "mask", "annotations", "labels")
_IMAGES = ("JPEGImages", "images", "image", "imgs", "img")
_NO_IMAGES = (*_MASKS, "SegmentationObject")


_SUFFIXES = ("_mask", "_seg")  # of masks beside their images


def _of_suffix(stem: str) -> str | None:
    """The name of the image of a mask that lies beside it."""
    return next((stem.removesuffix(each) for each in _SUFFIXES if stem.endswith(each)), None)


def _mask_part(path: str) -> int | None:
    """Which part of a path is the folder of masks."""
    parts = PurePosixPath(path).parts[:-1]
    return next((number for number, part in enumerate(parts) if part in _MASKS), None)


def fits(folder: Path) -> bool:
    """Whether there are masks: in a folder of them beside one of images, or beside the images."""
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        if set(folders) & set(_IMAGES):
            masks = (Path(top, each) for each in folders if each in _MASKS)
            if any(good for each in masks for _, good in image_files(each)):
                return True
        stems = {PurePosixPath(name).stem for name in files if name.lower().endswith(ENDINGS)}
        if any(_of_suffix(PurePosixPath(f).stem) in stems for f in files if f.endswith(".png")):
            return True
    return False


def read(folder: Path, task: str) -> Found:
    """Read a folder of images and masks.

    The masks, PNG files in `masks` or `SegmentationClass`, have the names of the images in
    `images` or `JPEGImages`, but for the ending; or they lie beside the images, as `NAME_mask.png`
    or `NAME_seg.png`. Splits are named by folders or, as in VOCdevkit, by the lists in
    `ImageSets/Segmentation`. A mask has class numbers, as palette or grey, or colours that CVAT's
    `labelmap.txt` names; 255 is ignored.

    Args:
        folder: Of the set.
        task: Segmentation.

    Raises:
        ValueError: A mask has a colour or number that is no class.
    """
    notes, images = new_notes(), Images(folder)
    listed = lists(folder, "Segmentation", _VOC)
    files = mask_files(folder)
    if files.names is None and listed:
        from keras_parc.data.sets.voc_segmentation import CLASSES

        files = MaskFiles(list(CLASSES))
    items: dict[str, Item] = {}
    masks = _masks(folder, images, notes)
    for mask in masks:
        name = PurePosixPath(mask).with_suffix("").as_posix()
        if listed and name not in listed:
            notes["masks that no list names"].append(mask)
            continue
        path = _image(images, mask)
        if path is None:
            notes["masks without an image"].append(mask)
            continue
        if path in items:
            notes["images with two masks, one is used"].append(path)
            continue
        classes = _classes(folder, mask, path, files, notes)
        if classes is not None:
            split = listed[name] if listed else split_of(mask)
            file = MaskFile(files, folder / mask)
            items[path] = Item(str(folder / path), split, mask=file, classes=classes)
    if missing := sorted(set(listed) - {mask.rpartition(".")[0] for mask in masks}):
        notes["names in lists without a mask"] += missing
    used = {_image(images, mask) for mask in masks} | set(masks)
    others = [
        each for each in images.images if not set(PurePosixPath(each).parts) & set(_NO_IMAGES)
    ]
    if without := [each for each in others if each not in used]:
        notes["images without a mask"] += without
    return _named(folder, task, files, [items[path] for path in sorted(items)], notes)


def _masks(folder: Path, images: Images, notes) -> list[str]:
    """The mask files; those of formats that change class numbers are refused."""
    found = [path for path in images.images if _mask_part(path) is not None]
    masks = [path for path in found if path.lower().endswith(".png")]
    others = [path for path in found if not path.lower().endswith(".png")]
    beside = (path for path in images.images if path.lower().endswith(".png"))
    masks += [path for path in beside if _mask_part(path) is None and _image(images, path)]
    if others and not masks:
        raise ValueError(
            f"{folder / others[0]}: masks must be PNG files; compression as JPEG's changes the "
            "class numbers."
        )
    if others:
        notes["masks that are no PNG files, left out"] += others
    return masks


def _image(images: Images, mask: str) -> str | None:
    path, number = PurePosixPath(mask), _mask_part(mask)
    if number is None:
        stem = _of_suffix(path.stem)
        return stem and images.in_folder(stem, path.parent.as_posix())
    top, rest = path.parts[:number], path.parts[number + 1 : -1]
    for each in _IMAGES:
        place = PurePosixPath(*top, each, *rest).as_posix()
        found = images.in_folder(path.stem, place)
        if found is not None:
            return found
    return None


def _classes(folder: Path, mask: str, path: str, files: MaskFiles, notes) -> tuple | None:
    """The classes in a mask; None if it cannot be used."""
    try:
        numbers = files.numbers(folder / mask)
    except LookupError as error:
        raise ValueError(error.args[0]) from error
    except ValueError:
        notes["masks that cannot be read, left out"].append(mask)
        return None
    size = upright_size(folder / path)
    if size is not None and size != numbers.shape:
        notes["masks of another size than their image, left out"].append(
            f"{mask}: {numbers.shape[1]}x{numbers.shape[0]}, not {size[1]}x{size[0]}"
        )
        return None
    counts = np.bincount(numbers.ravel(), minlength=IGNORED + 1)[:IGNORED]
    if not counts.any():
        notes["masks without a pixel that counts, left out"].append(mask)
        return None
    return tuple(np.flatnonzero(counts).tolist())


def _named(folder: Path, task: str, files: MaskFiles, items: list[Item], notes) -> Found:
    """With the names of the classes; where nothing says them, of the numbers that there are."""
    names = files.names
    if names is None:
        last = max((number for item in items for number in item.classes), default=0)
        if items and last == 0:
            raise ValueError(
                f"{folder}: the masks have no class but 0, the background; {IGNORED} is ignored. "
                "If it is a class, say so in labelmap.txt: a line background:0,0,0:: and a line "
                f"NAME:{IGNORED},{IGNORED},{IGNORED}::"
            )
        names = [BACKGROUND, *map(str, range(1, last + 1))]
        final = dataclasses.replace(files, names=names)
        for item in items:
            item.mask = MaskFile(final, item.mask.path)
    return Found(task, "masks", names, items, notes)
