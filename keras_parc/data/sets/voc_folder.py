"""Folders in PASCAL VOC's format: an XML file of objects for each image."""

from pathlib import Path, PurePosixPath

from keras_parc.data.sets.found import Box, Found, Item, new_notes
from keras_parc.data.sets.label_files import mentions, read_lines, read_xml
from keras_parc.data.sets.labelmap import read_labelmap
from keras_parc.data.sets.places import Images, as_number, box_in, split_of
from keras_parc.data.sets.splits import known_split
from keras_parc.support.images import image_files
from keras_parc.support.text import one_line

_IMAGES = ("JPEGImages", "images")  # beside Annotations: VOC's, and a usual one
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def fits(folder: Path) -> bool:
    """Whether the first of its XML files looks like an annotation."""
    files = (path for path, _ in image_files(folder) if path.suffix == ".xml")
    first = next(files, None)
    return first is not None and mentions(first, "annotation")


def read(folder: Path, task: str) -> Found:
    """Read a folder in VOC's format.

    The XML files are in `Annotations`, with the images in `JPEGImages` or `images`, or beside the
    images, as labelImg writes them. Lists `ImageSets/Main/train.txt` and so on name the splits;
    without them a folder's name does. The image is that of the XML file's own name; if there is
    none, the one that is named in it.

    Args:
        folder: Of the set, or one that has VOCdevkit in it.
        task: Detection.

    Raises:
        ValueError: A file is not what it should be, or has an object of an unknown class.
    """
    notes, images = new_notes(), Images(folder)
    listed = lists(folder, "Main", "Annotations")
    found: dict[str, tuple[Item, list[tuple[str, str, Box]]]] = {}
    files = [path for path in images.others if path.endswith(".xml")]
    for file in files:
        name = file.removesuffix(".xml")
        if listed and name not in listed:
            notes["label files that no list names"].append(file)
            continue
        root = read_xml(folder / file)
        path = _image(images, file, root, notes)
        if path is None:
            notes["images named that do not exist"].append(file)
        elif path in found:
            notes["images listed twice"].append(path)
        else:
            size = images.size(path, _said(root), notes)
            item = Item(str(folder / path), listed[name] if listed else split_of(path))
            found[path] = item, list(_objects(file, root, size, notes))
    if missing := sorted(set(listed) - {file.removesuffix(".xml") for file in files}):
        notes["names in lists without a label file"] += missing
    images.note_unused(found, notes)
    names = _names(folder, found)
    labels = {name: label for label, name in enumerate(names)}
    for item, objects in found.values():
        item.boxes = [Box(labels[name], *box[1:]) for name, _, box in objects]
    return Found(task, "voc", names, [found[path][0] for path in sorted(found)], notes)


def lists(folder: Path, kind: str, labels: str) -> dict[str, str | None]:
    """What the lists of VOC say.

    Args:
        folder: Of the set.
        kind: Folder of the lists in `ImageSets`.
        labels: Folder of the label files beside `ImageSets`.

    Returns:
        The split of each label file, which is relative to the folder and without its ending; None:
        of a list that is called default. Nothing if there are no lists.
    """
    found: dict[str, str | None] = {}
    for place in sorted(folder.glob("**/ImageSets")):
        files = {path.stem: path for path in sorted((place / kind).glob("*.txt"))}
        splits = {stem: known_split(stem) for stem in files if known_split(stem)}
        if "train" not in splits.values():  # VOC 2007 comes with the two together
            splits |= {stem: "train" for stem in ("trainval",) if stem in files}
        splits |= {stem: None for stem in ("default",) if stem in files}
        for stem, split in splits.items():
            for _, line in read_lines(files[stem]):
                path = (place.parent / labels).relative_to(folder) / line
                found[path.as_posix()] = split
    return found


def _image(images: Images, file: str, root, notes) -> str | None:
    """The image of a label file, relative to the set's folder."""
    path = PurePosixPath(file)
    place = path.parent
    beside = [place.as_posix()]
    if "Annotations" in place.parts:
        number = place.parts.index("Annotations")
        top, rest = place.parts[:number], place.parts[number + 1 :]
        beside = [PurePosixPath(*top, each, *rest).as_posix() for each in _IMAGES] + beside
    named = (root.findtext("filename") or "").strip()
    found = images.find_stem(path.stem, beside)
    if found is None:
        return images.find(named, beside) if named else None
    if named and PurePosixPath(named.replace("\\", "/")).stem != path.stem:
        notes["label files that name another image than that of their own name"].append(file)
    return found


def _said(root) -> tuple[int, int] | None:
    size = [as_number(root.findtext(f"size/{side}")) for side in ("height", "width")]
    return (int(size[0]), int(size[1])) if all(each >= 1 for each in size) else None


def _objects(file: str, root, size, notes):
    """Class, place and box, still without a label, of each object."""
    seen = set()
    for number, each in enumerate(root.iterfind("object"), 1):
        place = f"{file}, object {number}"
        name = (each.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"{place}: it has no name.")
        corners = [as_number(each.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        if (name, *corners) in seen:
            notes["annotations there twice"].append(place)
            continue
        seen.add((name, *corners))
        difficult = (each.findtext("difficult") or "0").strip() == "1"
        if size is None:
            notes["boxes in images of unknown size, left out"].append(place)
            continue
        box = box_in(-1, corners, size, place, notes, difficult=difficult)
        if box is not None:
            yield name, place, box


def _names(folder: Path, found) -> list[str]:
    """The classes: those of CVAT's labelmap.txt, or else all there are."""
    labelmap = read_labelmap(folder)
    if labelmap is None:
        return sorted({name for _, objects in found.values() for name, *_ in objects})
    for _, objects in found.values():
        for name, place, _ in objects:
            if name not in labelmap:
                raise ValueError(f"{place}: the class {one_line(name)!r} is not in labelmap.txt.")
    return [name for name in labelmap if name != "background"]
