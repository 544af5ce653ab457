"""Where images come from: TensorFlow Datasets or a folder, opened as one thing, a TFDS builder."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import filelock

from keras_parc.data.sets.splits import known_split
from keras_parc.support.extras import needs_extra

log = logging.getLogger(__name__)


def check_classes(builder) -> None:
    """Refuse a set that is not one of images with a class each.

    Args:
        builder: A TFDS builder.

    Raises:
        ValueError: There is no `image` or no `label` of known classes.
    """
    import tensorflow_datasets as tfds

    check_features(
        builder,
        "a set of images with a class each",
        {"image": tfds.features.Image, "label": tfds.features.ClassLabel},
    )
    if builder.info.features["label"].num_classes is None:
        raise ValueError(f"{builder.name!r} does not say how many classes it has.")


def open_source(
    source,
    data_dir: str | os.PathLike | None = None,
    check: Callable | None = check_classes,
    task: str | None = None,
    index: Path | None = None,
    **folder_options,
):
    """Open a data set.

    Args:
        source: Name of a TensorFlow Datasets builder, as `"imagenet2012"` or
            `"digit_scenes/classify"`; a folder of labelled images, see
            `keras_parc.data.sets.recognise.open_folder`; or a TFDS builder.
        data_dir: Folder of prepared TFDS sets; None: TFDS' own, `~/tensorflow_datasets`, and for
            digit scenes `generated_folder()`. The indexes of folders are kept there, too.
        check: A function of the builder that raises ValueError if the set is not of the kind
            wanted; by default, one of images with a class each. None: any kind.
        task: What a folder is read for, as some have labels for several tasks; None: that of
            `check`, or the only one that fits.
        index: Folder of the index, see `keras_parc.data.sets.recognise.open_folder`, which the
            caller writes, where no `data_dir` is given: else it is there, and is written at once.
        **folder_options: Of `open_folder`, for a folder.

    Returns:
        A TFDS builder that can be read. Digit scenes are made at the first call, which is logged;
        no set is downloaded.

    Raises:
        ImportError: tensorflow-datasets is not installed.
        FileNotFoundError: The set is not there; the message says how to get it.
        ValueError: There is no such set, or it is of another kind.

    Example:
        >>> open_source("no/such/folder/")
        Traceback (most recent call last):
        FileNotFoundError: There is no folder 'no/such/folder' of images.
    """
    with needs_extra():
        import tensorflow_datasets as tfds
    if isinstance(source, tfds.core.DatasetBuilder):
        builder = source
    elif Path(source).expanduser().is_dir():
        from keras_parc.data.sets.recognise import open_folder

        if task is None and check is check_classes:
            task = "classification"
        kept = data_dir is not None
        index = Path(data_dir).expanduser() if kept else index
        builder = open_folder(Path(source).expanduser(), task, index=index, **folder_options)
        if kept and builder.found.keep:
            builder.found.keep()
    elif Path(source).expanduser().is_file():
        packed = Path(source).suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
        what = "unpack it first, and name that folder" if packed else "name the folder it is in"
        raise NotADirectoryError(f"{str(source)!r} is a file, expected a folder of images: {what}.")
    elif isinstance(source, Path) or source.startswith((".", "~", "/")) or source.endswith("/"):
        raise FileNotFoundError(f"There is no folder {str(Path(source))!r} of images.")
    else:
        builder = _named(source, data_dir)
    if not is_folder(builder) and not builder.is_prepared():
        _prepare(builder)
    if check is not None:
        check(builder)
    return builder


def check_features(builder, kind: str, wanted: dict[str, type]) -> None:
    """Refuse a set without the features wanted.

    Args:
        builder: A TFDS builder.
        kind: What the set is expected to be, for the message.
        wanted: Name and class of each feature.

    Raises:
        ValueError: One of them is missing or of another class.
    """
    features = builder.info.features
    for key, cls in wanted.items():
        if key not in features or not isinstance(features[key], cls):
            raise ValueError(
                f"{builder.name!r} is not {kind}: its features {sorted(features)} have no {key!r} "
                f"that is a {cls.__name__}."
            )


def num_examples(
    source, split: str, data_dir: str | os.PathLike | None = None, task: str | None = None
) -> int:
    """How many images a split has.

    Args:
        source: Name of a TFDS set, folder of images or builder, as for `open_source`.
        split: `"train"`, or a part as `"train[:1000]"`.
        data_dir: Folder of prepared TFDS sets.
        task: What a folder is read for, where it has labels for several tasks.

    Returns:
        The number. An epoch to train on has at most 15 fewer.

    Raises:
        FileNotFoundError: The set is not there.
        ValueError: There is no such set or split.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("train/cat/a.jpg", "train/dog/b.jpg"):
        ...     (folder / name).parent.mkdir(parents=True)
        ...     _ = (folder / name).write_bytes(b"")
        >>> num_examples(folder, "train"), num_examples(folder, "train[:50%]")
        (2, 1)
    """
    _, first, end = bounds(open_source(source, data_dir, check=None, task=task), split)
    return end - first


def is_folder(builder) -> bool:
    """Whether a builder reads a folder of image files."""
    from keras_parc.data.sets.labelled import LabelledFolder

    return isinstance(builder, LabelledFolder)


def bounds(builder, split: str) -> tuple[str, int, int]:
    """Split name, first example and end of a split or a part of it.

    Args:
        builder: A TFDS builder.
        split: As in `tfds.load`: `"train"`, `"train[:1000]"`, `"train[10%:]"`.

    Raises:
        ValueError: There is no such split, or it is made of several parts.
    """
    import tensorflow_datasets as tfds

    name, splits = split.split("[")[0].strip(), builder.info.splits
    if is_folder(builder) and name not in splits and (known := known_split(name)):
        name, split = known, split.strip().replace(name, known, 1)  # "val" is "validation"
    if name not in splits:
        raise ValueError(
            f"There is no split {name!r} in {builder.name!r}, which has "
            f"{', '.join(splits) or 'none'}."
        )
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"The split {split!r} of {builder.name!r} is wrong: {error}") from error
    if len(parts) > 1:
        raise ValueError(f"`split` must be one part of one split, got {split!r}.")
    first, end = parts[0].from_ or 0, parts[0].to
    end = splits[name].num_examples if end is None else end
    if end <= first:
        raise ValueError(f"There are no examples in {split!r} of {builder.name!r}.")
    return name, first, end


def _named(name: str, data_dir):
    import tensorflow_datasets as tfds

    import keras_parc.data.sets.digit_scenes
    import keras_parc.data.sets.voc_segmentation  # noqa: F401 (registers it)

    if data_dir is None and name.partition("/")[0] == "digit_scenes":
        data_dir = generated_folder()
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"{name!r} is neither a folder nor a data set of TensorFlow Datasets; see "
            "https://www.tensorflow.org/datasets/catalog/overview for the names."
        ) from error


def generated_folder() -> Path:
    """Where digit scenes are made by default: TFDS_DATA_DIR, or a folder of temporary files.

    Example:
        >>> generated_folder().is_absolute()
        True
    """
    chosen = os.environ.get("TFDS_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"keras_parc-{user}"


def _generate(builder) -> None:
    """Make a set of digit scenes; of several processes that want it, one does."""
    import tensorflow_datasets as tfds

    folder = Path(builder.data_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
        if builder.is_prepared():  # by another process meanwhile, so that its splits are not known
            builder.info.read_from_directory(builder.data_dir)
            return
        log.warning("Making digit scenes in %s, once.", folder)
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()


def _prepare(builder) -> None:
    from keras_parc.data.sets.digit_scenes import DigitScenes

    if isinstance(builder, DigitScenes):  # made on the spot, nothing is downloaded
        _generate(builder)
        return
    folder = Path(builder.data_dir)
    root = folder.parents[2 if builder.builder_config else 1]
    name = (
        f"{builder.name}/{builder.builder_config.name}" if builder.builder_config else builder.name
    )
    steps = [f"The data set {name!r} is not in {str(folder)!r}."]
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        steps += [
            "It has to be downloaded by hand: "
            + " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split()),
            f"The manual_dir is {str(root / 'downloads' / 'manual')!r}.",
        ]
    module = type(builder).__module__
    own = f"import {module}; " if module.startswith("keras_parc.") else ""  # registers it
    steps += [  # The command `tfds build` would need Apache Beam.
        f'Then prepare it once: python -c "{own}import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{root}').download_and_prepare()\"",
        "If it is somewhere else, name that folder (--data-dir).",
    ]
    raise FileNotFoundError("\n".join(steps))
