"""A folder `split/class/image` as a builder of TensorFlow Datasets."""

import logging
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_parc.support.images import ENDINGS, image_files

log = logging.getLogger(__name__)
_NAMED = 5  # files that a warning names


class FolderOfClasses(tfds.core.DatasetBuilder):
    """The image files of a folder, with the class whose folder they lie in, at any depth.

    As `tfds.ImageFolder`, whose order it keeps, but for what it takes: every ending of
    `keras_parc.support.images.ENDINGS` and files in deeper folders; nothing that is hidden, and no
    class without an image. What else lies there is named in one warning.

    Args:
        folder: With a folder for each split, and in it one for each class.

    Attributes:
        files: Paths and class numbers of each split, in the order of the set.
        left_out: The files that are not used: of another ending, or in no class's folder.

    Raises:
        ValueError: There are no images.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("train/cat/a.webp", "train/dog/puppies/b.jpg", "train/.cache/c.jpg"):
        ...     (folder / name).parent.mkdir(parents=True)
        ...     (folder / name).touch()
        >>> builder = FolderOfClasses(folder)
        >>> builder.info.features["label"].names, builder.info.splits["train"].num_examples
        (['cat', 'dog'], 2)
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, folder: Path):
        super().__init__(data_dir=str(folder))
        self._data_dir = self.name = str(folder)  # the name that messages call it by
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.left_out: list[Path] = []
        for path, is_image in image_files(folder):
            parts = path.relative_to(folder).parts
            if is_image and len(parts) > 2:
                found[parts[0]].append((parts[1], str(path)))
            else:
                self.left_out.append(path)
        if not found:
            raise ValueError(
                f"There are no images in {str(folder)!r}: expected split/class/image, for example "
                f"train/cat/1.jpg, with names ending in {', '.join(ENDINGS)}."
            )
        names = sorted({name for files in found.values() for name, _ in files})
        numbers = {name: number for number, name in enumerate(names)}
        self.files: dict[str, tuple[list[str], np.ndarray]] = {}
        for split, files in found.items():
            files.sort()
            random.Random(split).shuffle(files)  # The same order on every machine.
            labels = np.array([numbers[name] for name, _ in files], "int64")
            self.files[split] = [path for _, path in files], labels
        self.info.features["label"].names = names
        self.info.set_splits(
            tfds.core.SplitDict(
                [
                    tfds.core.SplitInfo(name=split, shard_lengths=[len(paths)], num_bytes=0)
                    for split, (paths, _) in self.files.items()
                ]
            )
        )
        if self.left_out:
            some = ", ".join(str(path.relative_to(folder)) for path in self.left_out[:_NAMED])
            more = len(self.left_out) - _NAMED
            log.warning(
                "%d files in %s are not used, being no images of a class: %s%s",
                len(self.left_out),
                folder,
                some,
                f" and {more} more" if more > 0 else "",
            )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(),
            "image/filename": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _download_and_prepare(self, **_) -> None:
        """Nothing is prepared: the files are read where they are."""

    def _as_dataset(self, split: str, **_) -> tf.data.Dataset:
        raise NotImplementedError("A folder is read by `keras_parc.data`.")
