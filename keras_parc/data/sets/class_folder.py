"""Images of a class each, in a folder of the class's name: `split/class/image` or `class/image`."""

from pathlib import Path

from keras_parc.data.sets.found import Found, Item, new_notes
from keras_parc.data.sets.splits import known_split
from keras_parc.support.images import ENDINGS, image_files


def fits(folder: Path) -> bool:
    """Whether there is an image in a folder of the folder."""
    return any(
        is_image and len(path.relative_to(folder).parts) > 1
        for path, is_image in image_files(folder)
    )


def read(folder: Path, task: str) -> Found:
    """Read the folder: the image files of a class may lie at any depth in its folder.

    Nothing that is hidden is taken, and no class without an image.

    Args:
        folder: With a folder for each split, and in it one for each class; or with one for each
            class. Splits it has if a split's name is that of a folder of folders, or if no image
            lies less deep.
        task: Classification.

    Raises:
        ValueError: There are no images.
    """
    files = [(path.relative_to(folder).parts, path, good) for path, good in image_files(folder)]
    images = [parts for parts, _, good in files if good and len(parts) > 1]
    named = any(known_split(parts[0]) and len(parts) > 2 for parts in images)
    depth = 1 + (named or all(len(parts) > 2 for parts in images))  # folders above an image
    found, notes = [], new_notes()
    for parts, path, good in files:
        if good and len(parts) > depth:
            found.append((parts[0] if depth == 2 else None, parts[depth - 1], str(path)))
        else:
            notes["files that are no images of a class"].append("/".join(parts))
    if not found:
        raise ValueError(
            f"There are no images in {str(folder)!r}: expected split/class/image, for example "
            f"train/cat/1.jpg, or class/image, with names ending in {', '.join(ENDINGS)}."
        )
    found.sort(key=lambda each: each[1:])  # as TensorFlow Datasets' ImageFolder
    names = sorted({name for _, name, _ in found})
    numbers = {name: number for number, name in enumerate(names)}
    items = [Item(path, split, numbers[name]) for split, name, path in found]
    return Found(task, "folders", names, items, notes)
