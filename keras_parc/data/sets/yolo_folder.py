"""Folders in YOLO's format: a text file of numbers for each image, class names in a YAML file."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from keras_parc.data.sets.found import Box, Found, Item, new_notes
from keras_parc.data.sets.label_files import mentions, read_lines, read_yaml
from keras_parc.data.sets.outlines import Drawing, Outline, mask_names, polygons_in
from keras_parc.data.sets.places import Images, as_number, box_in, split_of
from keras_parc.support.text import one_line

_CLASSES = ("classes.txt", "obj.names")
_SPLITS = ("train", "val", "test")


def _settings(folder: Path) -> list[Path]:
    """The YAML files that may name classes; hidden ones are nobody's."""
    found = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    return [path for path in found if not path.name.startswith(".")]


def _class_file(folder: Path) -> Path | None:
    places = [folder, folder / "labels"]
    return next((p / name for p in places for name in _CLASSES if (p / name).is_file()), None)


def fits(folder: Path) -> bool:
    """Whether there is a YAML file with `names`, or a list of classes beside text files."""
    if any(mentions(path, "names") for path in _settings(folder)):
        return True
    if _class_file(folder) is None:
        return False
    return any(path.name not in _CLASSES for path in folder.rglob("*.txt"))


def has_outlines(folder: Path) -> bool:
    """Whether it is one, and there are lines with outlines."""
    if not fits(folder):
        return False
    for path in sorted(folder.rglob("*.txt")):
        for line in path.read_bytes().splitlines():
            first, *rest = line.split() or [b""]
            if first.isdigit() and len(rest) >= 6:
                return True
    return False


def read(folder: Path, task: str) -> Found:
    """Read a folder in YOLO's format.

    `data.yaml` has `names`, a list or a dictionary, and for each split a folder of images, a text
    file of their names or a list of these, relative to its `path` or to itself; or `classes.txt`
    has a name a line, as has `obj.names` of Darknet and CVAT; `obj.data` names its lists of images.
    The labels of `images/a.jpg` are in `labels/a.txt`, or beside it: a line
    `class x y width height` for an object, relative to the image, or `class x1 y1 x2 y2 ...` for
    one with an outline. No such file means that nothing is in the image.

    Args:
        folder: Of the set.
        task: Detection, or segmentation of the objects' outlines.

    Raises:
        ValueError: A file is not what it should be, or a line has an unknown class.
    """
    notes, images = new_notes(), Images(folder)
    names, splits = _names_and_splits(folder, images, notes)
    known = len(names)
    segments = task == "segmentation"
    if segments:
        names, numbers = mask_names(names)
    found: dict[str, Item] = {}
    for split, paths in splits:
        for path in paths:
            if path in found:
                notes["images listed twice"].append(path)
                continue
            item = found[path] = Item(str(folder / path), split)
            objects = _objects(folder, path, known, notes)
            if segments:
                item.mask = Drawing(item.path, tuple(_outlines(objects, numbers, notes)))
                item.classes = item.mask.classes()
            else:
                item.boxes = list(_boxes(objects, notes))
    images.note_unused(found, notes)
    labels = {path for path in images.others if path.endswith(".txt")}
    read_files = {path for each in found for path in _label_paths(each)}
    strays = {path for path in labels - read_files if "labels" in PurePosixPath(path).parts[:-1]}
    if strays := sorted(path for path in strays if PurePosixPath(path).name not in _CLASSES):
        notes["label files without an image"] += strays
    return Found(task, "yolo", names, [found[path] for path in sorted(found)], notes)


def _names_and_splits(folder, images, notes):
    """The class names; and each split with its images, relative to the folder."""
    named = [(path, read_yaml(path)) for path in _settings(folder)]
    named = [(path, each) for path, each in named if isinstance(each, dict) and "names" in each]
    if len(named) > 1:
        files = " and ".join(path.name for path, _ in named)
        raise ValueError(f"{folder}: {files} both have `names`; leave one of them there.")
    if not named:
        path = _class_file(folder)
        if path is None:
            raise ValueError(f"{folder}: no YAML file here is a dictionary with `names`.")
        splits = _of_darknet(folder, images, notes)
        return [name for _, name in read_lines(path)], splits or _by_folders(images)
    path, settings = named[0]
    names = _names(path, settings["names"])
    splits = [
        (split, _listed(path, entry, settings.get("path"), images, notes))
        for split in _SPLITS
        for entry in _entries(path, split, settings.get(split))
    ]
    return names, splits or _by_folders(images)


def _of_darknet(folder: Path, images: Images, notes):
    """The splits of Darknet's `obj.data`, which CVAT writes: a text file of image paths each."""
    path = folder / "obj.data"
    lines = read_lines(path) if path.is_file() else []
    entries = {key.strip(): value.strip() for key, _, value in (x.partition("=") for _, x in lines)}
    return [
        # CVAT's paths are those of a folder `data`, which is the set's.
        (split, _listed(path, entries[split].removeprefix("data/"), None, images, notes))
        for split in ("train", "valid")
        if entries.get(split)
    ]


def _by_folders(images):
    """The split of each image by the name of a folder it is in; None where none is a split's."""
    return [(split_of(path), [path]) for path in images.images]


def _names(path: Path, names) -> list[str]:
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise ValueError(
                f"{path}: the `names` have the numbers {one_line(str(list(names)), 80)}; expected "
                f"0 to {len(names) - 1}."
            )
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{path}: `names` must be a list or a dictionary of class names.")
    for name in names:
        if not isinstance(name, (str, int, float)):  # a class may be called 3
            raise ValueError(f"{path}: the class name {one_line(str(name), 80)!r} is no text.")
    names = [str(name) for name in names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: two classes have the name {one_line(twice)!r}.")
    return names


def _entries(path, split, entry) -> list[str]:
    entries = entry if isinstance(entry, list) else [entry] if entry else []
    for each in entries:
        if not isinstance(each, str):
            raise ValueError(
                f"{path}: `{split}` must be a folder, a text file or a list of these, got "
                f"{one_line(str(each), 80)}."
            )
    return entries


def _listed(path: Path, entry: str, base, images: Images, notes) -> list[str]:
    """The images that an entry of a YAML file means, relative to the set's folder."""
    folder = images.folder
    entry = entry.replace("\\", "/")
    # Roboflow writes ../train/images for what lies beside the file; sets are moved, too.
    short = PurePosixPath(*[part for part in PurePosixPath(entry).parts if part not in ("..", "/")])
    tried = [Path(str(base), entry), folder / str(base) / entry] if base else []
    tried += [folder / entry, folder / short]
    for each in tried:
        top = images.inside(each)
        if top is None:
            continue
        if (folder / top).is_file():
            return _of_list(top, images, notes)
        return [name for name in images.images if top == "." or name.startswith(f"{top}/")]
    notes[f"entries of {path.name} that are not in the folder"].append(one_line(entry))
    return []


def _of_list(file: str, images: Images, notes) -> list[str]:
    """The images of a text file of their paths."""
    found = []
    for number, line in read_lines(images.folder / file):
        name = line.replace("\\", "/").removeprefix("./")
        place = images.inside(Path(name)) if Path(name).is_absolute() else None
        place = place or images.find(name, [PurePosixPath(file).parent.as_posix(), "."])
        if place is None:
            notes["images named that do not exist"].append(f"{file}, line {number}")
        else:
            found.append(place)
    return found


def _label_paths(path: str) -> list[str]:
    """Where the labels of an image may be: the last folder `images` is `labels`, or beside it."""
    file = PurePosixPath(path).with_suffix(".txt")
    parts = list(file.parts)
    places = [number for number, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return [PurePosixPath(*parts).as_posix(), file.as_posix(), f"labels/{file.name}"]


def _boxes(objects, notes) -> Iterator[Box]:
    for where, label, numbers in objects:
        if len(numbers) == 4:
            x, y, width, height = numbers
            corners = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        else:
            corners = (min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2]))
        box = box_in(label, corners, (1, 1), where, notes)
        if box is not None:
            yield box


def _outlines(objects, numbers_in_mask, notes) -> Iterator[Outline]:
    for where, label, numbers in objects:
        if len(numbers) == 4:
            notes["objects without an outline, left out"].append(where)
        elif polygons := polygons_in([numbers], (1, 1), where, notes):
            yield Outline(numbers_in_mask[label], polygons)


def _objects(folder: Path, path: str, classes: int, notes):
    """Place, class and numbers of each object in an image."""
    place = next((each for each in _label_paths(path) if (folder / each).is_file()), None)
    if place is None:
        notes["images without a label file, taken as empty"].append(path)
        return
    seen = set()
    for number, line in read_lines(folder / place):
        where = f"{place}, line {number}"
        if line in seen:
            notes["annotations there twice"].append(where)
            continue
        seen.add(line)
        yield where, *_parsed(line, where, classes)


def _parsed(line: str, where: str, classes: int) -> tuple[int, list[float]]:
    """Class and numbers of a line."""
    first, *rest = line.split()
    label, numbers = as_number(first), [as_number(each) for each in rest]
    if not label.is_integer() or not 0 <= label < classes:
        raise ValueError(
            f"{where}: there is no class {one_line(first, 40)}; expected 0 to {classes - 1}."
        )
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise ValueError(
            f"{where}: expected a class and 4 numbers, or pairs for 3 corners or more, got "
            f"{len(numbers)} numbers."
        )
    if any(each != each for each in numbers):
        raise ValueError(f"{where}: not all are numbers: {one_line(line, 80)}.")
    return int(label), numbers
