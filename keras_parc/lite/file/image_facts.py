"""What images a `.tflite` file takes, as a record of its own in the file.

The metadata that MediaPipe and Android read has a mean and a deviation, but no order of channels
and no crop, and needs a description of every output. So the facts also stand, as JSON, in an entry
of their own, which any model can have.
"""

import dataclasses
import json

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.models.inputs import InputScale

ENTRY = "keras_parc_image"


def record(content: bytes, scale: InputScale | None, crop: float) -> bytes:
    """Put the facts into the bytes of a `.tflite` file.

    Args:
        content: A file without them.
        scale: What the model takes; None where it is not known, and then left out.
        crop: As `keras_parc.layers.ImageInput` has it.

    Returns:
        The new content; the model computes the same.
    """
    facts: dict = {"crop": crop}
    if scale is not None:
        facts |= dataclasses.asdict(scale)
    model = flatbuffer.read(content)
    flatbuffer.add_entry(model, ENTRY, json.dumps(facts).encode())
    return flatbuffer.write(model)


def understood(data: bytes) -> tuple[InputScale | None, float]:
    """Scale and crop of the content of an entry.

    Raises:
        ValueError: It is damaged.
    """
    try:
        facts = json.loads(data)
        crop = float(facts["crop"])
        if not 0 < crop <= 1:
            raise ValueError(f"a crop of {crop}")
        if "mean" not in facts:
            return None, crop
        mean, std = (tuple(map(float, facts[name])) for name in ("mean", "std"))
        fits = len(mean) == len(std) == 3 and np.isfinite(mean + std).all() and min(std) > 0
        if not fits or facts["channels"] not in ("rgb", "bgr"):
            raise ValueError("a mean, deviation or order of channels")
        return InputScale(mean, std, facts["channels"]), crop
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"Its record of the images it takes is damaged: {error}.") from error
