"""What an export returns: the path of the file, and how close the file is to the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Closeness:
    """How far the outputs of a file are from those of its model.

    Args:
        images: How many inputs were compared.
        held_out: Whether the file was made without them.
        same_class: Share of them (or of their pixels) with the same largest value.
        signal_to_noise_db: Power of the model's outputs to that of the differences.
    """

    images: int
    held_out: bool
    same_class: float
    signal_to_noise_db: float


class ExportedFile(type(Path())):
    """The path of a file that was exported.

    Attributes:
        closeness: For int8, how close the file is to the model; else None.
        whole: For int8, the bytes of the file before maps were cut into strips; else None.
        reference: For int8, the bytes of the float32 file that it was made from; else None.

    Example:
        >>> ExportedFile("model.tflite").closeness is None
        True
    """

    closeness: Closeness | None = None
    whole: bytes | None = None
    reference: bytes | None = None
