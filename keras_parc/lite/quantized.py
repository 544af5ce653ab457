"""From a float32 file that was proved to an int8 one whose closeness is measured."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_parc.lite.exported import Closeness
from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.inspection import compared
from keras_parc.lite.file.outputs import OpenFile, values_of
from keras_parc.lite.proof import Converted
from keras_parc.lite.quantize import int8
from keras_parc.lite.quantize.explain import explain
from keras_parc.support.text import first_of

log = logging.getLogger(__name__)

HELD_OUT = 32  # calibration images, at most, of ten times as many
LEAST_DB = 15.0  # below it the worst operations are named
_EXPLAINED = 4  # images
_WORST = 3


def quantized(
    converted: Converted,
    images: Sequence[np.ndarray],
    io: str,
    method: str,
    target: str,
    *,
    ends_float: bool = False,
) -> tuple[bytes, Closeness]:
    """Quantize a file, and compare it with its model on images that it was not calibrated on.

    Args:
        converted: A float32 file.
        images: Calibration examples.
        io: Type of the input and the outputs.
        method: How ranges are chosen.
        target: The runtime it is for, see `to_tflite`.
        ends_float: Whether the outputs stay float32 for what is to follow.

    Returns:
        The bytes of the int8 file, and how close its outputs, before a last softmax, are.
    """
    calibration, held_out = _split(images)
    # An NPU runs all of an int8 file, its last softmax too.
    integer = target == "npu" and io != "float32"
    ends_float = ends_float or (converted.softmax and not integer)
    types = (io, "float32" if ends_float else "int8" if converted.softmax else io)
    found = int8.quantize(converted.content, calibration, *types, method, target=target)
    closeness = measured(converted, found, held_out or images[:HELD_OUT], bool(held_out))
    if closeness.signal_to_noise_db < LEAST_DB:
        _warn(converted, found, closeness, images[:_EXPLAINED])
    file = flatbuffer.read(found)
    if target == "litert":
        flatbuffer.convert_through_float(file)
    if converted.softmax:
        flatbuffer.append_softmax(file, io, integer)
    if integer and not ends_float and (left := flatbuffer.float_operations(file)):
        log.warning(
            "An NPU runs int8 alone: it leaves %s to the CPU, which the converter has in float32 "
            "only, or whose values have no int8 scale.",
            first_of(left),
        )
    return flatbuffer.write(file), closeness


def _split(images: Sequence[np.ndarray]) -> tuple[list, list]:
    """The images to calibrate on and those held out, evenly spaced; none of fewer than ten."""
    count = min(len(images) // 10, HELD_OUT)
    chosen = set(np.linspace(0, len(images) - 1, count).round().astype(int).tolist())
    return (
        [image for number, image in enumerate(images) if number not in chosen],
        [image for number, image in enumerate(images) if number in chosen],
    )


def measured(
    converted: Converted, content: bytes, images: Sequence[np.ndarray], held_out: bool
) -> Closeness:
    """Compare a file with the float32 one, output by output; the least of its outputs counts.

    Args:
        converted: The float32 file.
        content: The file.
        images: Examples, at least one.
        held_out: Whether the file was made without them.
    """
    before, after = OpenFile(converted.content), OpenFile(content)
    expected, found = [], []
    for image in images:
        expected.append(before(values_of(image)))
        found.append(after(values_of(image)))
    pairs = zip(zip(*found, strict=True), zip(*expected, strict=True), strict=True)
    close = compared([(np.stack(a), np.stack(b)) for a, b in pairs])
    return Closeness(len(images), held_out, close.same_class, close.signal_to_noise_db)


def _warn(converted: Converted, content: bytes, closeness: Closeness, images) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "float.tflite"), Path(folder, "int8.tflite")
        for path, each in zip(paths, (converted.content, content), strict=True):
            path.write_bytes(each)
        try:
            rows = explain(*paths, images)
        except (MemoryError, RuntimeError, ValueError):  # it holds every result of both files
            log.debug("The int8 file could not be explained", exc_info=True)
            rows = []
    names = ", ".join(
        f"{row.operation} {row.tensor} ({row.own_db:.0f} dB)" for row in rows[:_WORST]
    )
    log.warning(
        "The int8 file is not close to the model: %.1f dB on %d calibration images. %s",
        closeness.signal_to_noise_db,
        closeness.images,
        f"Worst: {names}." if names else "Try more calibration images.",
    )
