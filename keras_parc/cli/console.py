"""What every command does: choices with a hint, quiet imports, one line for a mistake."""

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_parc.support.checks import unknown_name
from keras_parc.support.notices import notices_shown, without_notices

INTERRUPTED = 75  # the system's "temporary failure, try again"
BACKENDS = ("tensorflow", "jax", "torch")


class TaskName(StrEnum):
    """What a model is for."""

    CLASSIFICATION = "classification"
    DETECTION = "detection"
    SEGMENTATION = "segmentation"


class Quantization(StrEnum):
    """The number format of an exported file."""

    NONE = "none"
    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INT8 = "int8"


class IOType(StrEnum):
    """The type of an exported file's input and output."""

    FLOAT32 = "float32"
    UINT8 = "uint8"
    INT8 = "int8"


class Target(StrEnum):
    """The runtime an exported file is for."""

    LITERT = "litert"
    PORTABLE = "portable"
    NPU = "npu"


class Protocol(StrEnum):
    """How a segmenter is measured."""

    AUTHORS = "authors"
    NATIVE = "native"


class InputRange(StrEnum):
    """What a model takes: the names of `keras_parc.models.inputs.INPUT_RANGES`."""

    PIXELS = "0..255"
    ONE = "0..1"
    SIGNED = "-1..1"
    IMAGENET = "imagenet"
    CAFFE = "caffe"
    AUTHORS = "bgr-0..1"


class Precision(StrEnum):
    """Mixed precision of training."""

    NONE = "none"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def choice(kind: str, names: type[StrEnum] | Sequence[str], *flags: str, **options):
    """A `typer.Option` of a fixed set of values; the error names the nearest one and all others.

    Args:
        kind: What is chosen, for the error: "There is no KIND 'x'."
        names: The values.
        *flags: The names of the option; none: that of the argument.
        **options: Of `typer.Option`.
    """
    known = [str(name) for name in names]

    def parse(text: str) -> str:
        if text.lower() not in known:
            raise typer.BadParameter(unknown_name(kind, text, known))
        return text.lower()

    return typer.Option(*flags, parser=parse, metavar="|".join(known), **options)


InputRangeOption = Annotated[
    str | None,
    choice(
        "input range",
        InputRange,
        help="What values the model takes, where it does not say so itself. Default: what is "
        "recorded in it.",
    ),
]


# How a folder of labelled images is read.
FormatOption = Annotated[
    str | None,
    typer.Option(
        help="How the labels of a folder are written: coco, yolo, voc, masks, table or folders. "
        "Default: told by what is in it."
    ),
]
ValidationOption = Annotated[
    float,
    typer.Option(
        min=0, max=0.99, help="Of a folder without a validation split, the part that becomes one."
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of prepared TFDS sets, default ~/tensorflow_datasets; what was read of a "
        "folder of labels is kept there, too."
    ),
]
SplitByOption = Annotated[
    str | None,
    typer.Option(help="folder: images of one folder stay in one split, as frames of a video."),
]


def given_options(taken: Sequence[str], model: str, **options: Any) -> dict[str, Any]:
    """The options that a user gave; one that would do nothing is a mistake.

    Args:
        taken: Names of those that have a meaning for the model.
        model: What the model is, for the message.
        **options: Each option's value; None where it was not given.

    Raises:
        ValueError: One is given that is not taken.

    Example:
        >>> given_options(["top"], "a classifier", top=3, threshold=None)
        {'top': 3}
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in taken:
            raise ValueError(f"--{name.replace('_', '-')} has no meaning for {model}.")
    return given


def load_backend() -> None:
    """Import Keras and its backend, without the notices that need no action.

    TensorFlow is among them whatever the backend: data sets and files are read with it.

    Raises:
        ImportError: The backend is not installed.
        ValueError: There is no such backend.
    """
    backend = os.environ.get("KERAS_BACKEND")
    if backend:
        if backend not in BACKENDS:
            raise ValueError(f"KERAS_BACKEND: {unknown_name('backend', backend, BACKENDS)}")
        if importlib.util.find_spec(backend) is None:
            raise ImportError(
                f"KERAS_BACKEND={backend} needs {backend}, which is not installed: "
                f"pip install {backend}"
            )
    if not notices_shown():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(format="%(message)s")  # before a library does, with prefixes of its own
    with without_notices():
        importlib.import_module("keras")
        importlib.import_module("tensorflow")
    if not notices_shown():
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        # Its logger's own level TensorFlow sets back whenever it saves.
        importlib.import_module("absl.logging").set_verbosity("error")


def import_module(name: str) -> None:
    """Import a user's module, also one of the working folder.

    Raises:
        ImportError: There is no such module, or it cannot be imported.
    """
    load_backend()
    sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the module does
        hint = " Give its name without .py." if name.endswith(".py") else ""
        raise ImportError(f"--import {name}: {type(error).__name__}: {error}.{hint}") from error


@contextlib.contextmanager
def without_log(name: str) -> Iterator[None]:
    """Leave out the warnings of a module, whose command prints the same itself."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def until_stopped(then: str) -> Iterator[None]:
    """End with a status of its own where training was stopped, and say what comes next.

    Args:
        then: What the user can do now.
    """
    from keras_parc.training.fit import Interrupted

    try:
        yield
    except Interrupted as stopped:
        print(f"keras-parc: {stopped}; {then}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
