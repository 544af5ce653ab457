"""What a model takes: its size, and pixels brought to its scale."""

import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_parc.models.input_probe import Entry, entries, image_input_of
from keras_parc.support.images import CENTRE

# A `keras.Model`, or a file of one that was opened: `TFLiteModel`, `TFLiteDetector`.
Model = Any


@dataclass(frozen=True)
class InputScale:
    """How a model takes colours: `(pixel - mean) / std`, of pixels of 0..255.

    Args:
        mean: Three values, in the order of `channels`.
        std: Three values, above 0.
        channels: "rgb" or "bgr".

    Example:
        >>> pixels = np.full((1, 2, 2, 3), 255, "float32")
        >>> float(InputScale((127.5,) * 3, (127.5,) * 3).of(pixels).max())
        1.0
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: str = "rgb"

    @property
    def is_pixels(self) -> bool:
        """Whether the model takes RGB pixels of 0..255 as they are."""
        return self == InputScale()

    def of(self, images: np.ndarray) -> np.ndarray:
        """Bring RGB pixels `(..., 3)` of 0..255 to this scale, float32."""
        images = np.asarray(images, "float32")
        if self.is_pixels:
            return images
        images = images if self.channels == "rgb" else images[..., ::-1]
        return (images - np.float32(self.mean)) / np.float32(self.std)

    def limits(self) -> tuple[float, float]:
        """What black and white become, the least and the largest of the three channels."""
        ends = [(end - np.array(self.mean)) / self.std for end in (0.0, 255.0)]
        return float(np.min(ends)), float(np.max(ends))


# What people's models take, by the names of `--input-range`.
INPUT_RANGES = {
    "0..255": InputScale(),
    "0..1": InputScale(std=(255.0,) * 3),
    "-1..1": InputScale(mean=(127.5,) * 3, std=(127.5,) * 3),
    "imagenet": InputScale(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    "caffe": InputScale(mean=(103.939, 116.779, 123.68), channels="bgr"),
    "bgr-0..1": InputScale(std=(255.0,) * 3, channels="bgr"),
}
AUTHORS = INPUT_RANGES["bgr-0..1"]


def known_scale(model: Model, input_range: str | None = None) -> InputScale | None:
    """What a model takes: what is stated, else as far as it can be known.

    Of a Keras model, in this order: what its `keras_parc.layers.ImageInput` records, also in a
    model nested in it; or what its preprocessing does, up to the first layer with weights, which is
    found by running it on a few colours: a model that turns 0..255 into small numbers takes pixels,
    as does one of uint8. Of a `.tflite` file: what is recorded in it.

    Args:
        model: A Keras model or an opened file.
        input_range: A name of `INPUT_RANGES`, which goes before what the model says; None: ask the
            model.

    Returns:
        None where it cannot be known.

    Raises:
        ValueError: No such range.

    Example:
        >>> image = keras.Input((32, 32, 3))
        >>> x = keras.layers.Conv2D(8, 3)(image / 127.5 - 1)
        >>> known_scale(keras.Model(image, x)).is_pixels
        True
        >>> known_scale(keras.Sequential([image, keras.layers.Conv2D(8, 3)]))
    """
    if input_range is not None:
        return _stated(input_range)
    if not isinstance(model, keras.Model):
        return model.input_scale
    recorded = image_input_of(model)
    if recorded is not None:
        return _recorded(recorded)
    if [each.dtype for each in getattr(model, "inputs", None) or ()] == ["uint8"]:
        return InputScale()
    # One place may use the image as it is, or its size only, and tell nothing.
    found = {_taken(entry) for entry in entries(model)} - {None}
    return found.pop() if len(found) == 1 else None


def input_scale(model: Model, input_range: str | None = None) -> InputScale:
    """What a model takes, where it has to be known.

    Args:
        model: As for `known_scale`.
        input_range: As for `known_scale`.

    Raises:
        ValueError: No such range, or it is neither stated nor known.

    Example:
        >>> bare = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3)])
        >>> input_scale(bare, "-1..1").mean
        (127.5, 127.5, 127.5)
    """
    scale = known_scale(model, input_range)
    if scale is None:
        name = getattr(model, "name", None) or str(getattr(model, "path", "the model"))
        raise ValueError(
            f"What range of values {name!r} takes is not recorded in it, and it has no "
            "preprocessing inside that tells: state it (--input-range, `input_range=`), one of "
            f"{', '.join(INPUT_RANGES)}."
        )
    return scale


def _stated(input_range: str) -> InputScale:
    if input_range not in INPUT_RANGES:
        raise ValueError(
            f"`input_range` must be one of {', '.join(INPUT_RANGES)}, got {input_range!r}."
        )
    return INPUT_RANGES[input_range]


def crop_of(model: Model) -> float:
    """The share of an image's short side that a model sees in evaluation, as it records it.

    Of a model that does not record it, the crop of the one nested in it. `clone_model` loses it.

    Example:
        >>> crop_of(keras.Sequential([keras.Input((32, 32, 3))])) == 256 / 288  # the default
        True
    """
    if not isinstance(model, keras.Model):
        return model.crop
    recorded = image_input_of(model)
    if recorded is None:
        nested = [entry.recorded.crop for entry in entries(model) if entry.recorded]
        return nested[0] if len(set(nested)) == 1 else CENTRE
    return recorded.crop


def short_side_of(model: Model, size: tuple[int, int]) -> int:
    """The longer of the sides `size` before a model's crop, in pixels: see `centre_window`."""
    return round(max(size) / crop_of(model))


def check_values(images: np.ndarray, scale: InputScale | None) -> None:
    """Refuse what is no number, and warn where images for a model of pixels lie in 0..1.

    Args:
        images: As a model takes them.
        scale: What it takes, if known.

    Raises:
        ValueError: There is NaN or infinity among the values.
    """
    images = np.asarray(images)
    if not images.size or not np.issubdtype(images.dtype, np.inexact):
        return
    if not np.isfinite(images).all():
        raise ValueError("The images hold NaN or infinity; expected numbers.")
    if scale is None or not scale.is_pixels or images.min() < 0:
        return
    highest = images.reshape(len(images), -1).max(1)
    if ((highest > 0) & (highest <= 1)).any():
        warnings.warn(
            "All values of an image lie in 0..1, but the model takes pixels of 0..255: do not "
            "divide by 255, the model does it.",
            stacklevel=3,
        )


def _recorded(layer) -> InputScale:
    return InputScale(layer.mean, layer.std, layer.channels)


def _taken(entry: Entry) -> InputScale | None:
    """What the image must be so that what is made of it fits the place where it is used."""
    if entry.recorded is not None:
        return _before(entry, _recorded(entry.recorded))
    for name, low, high in (("0..255", 0, 255), ("0..1", 0, 1), ("-1..1", -1, 1)):
        if _fits(name, entry, low, high):
            return INPUT_RANGES[name]
    return None


def _fits(name: str, entry: Entry, low: float, high: float) -> bool:
    """Whether images of `low` to `high` become what networks are fed with, and by no accident."""
    ends = np.stack([entry.matrix * low, entry.matrix * high])
    lowest, highest = ends.min(0).sum(-1) + entry.shift, ends.max(0).sum(-1) + entry.shift
    spread = highest - lowest
    centred = (lowest < -0.05 * spread).all() and (highest > 0.05 * spread).all()
    from_zero = (np.abs(lowest) < 0.02 * spread).all()
    usual = (spread > 0.9).all() and (spread < 20).all()
    # Only of pixels a mixture of the channels tells something: it must have been divided.
    alone = (np.count_nonzero(entry.matrix, axis=-1) == 1).all()

    def becomes(first, last):
        near = 0.01 * (last - first)
        return (np.abs(lowest - first) < near).all() and (np.abs(highest - last) < near).all()

    if name == "0..255":
        mean_subtracted = alone and (np.abs(spread - 255) < 1).all() and (lowest < -16).all()
        return (usual and (centred or from_zero)) or (mean_subtracted and (highest > 16).all())
    if name == "0..1":
        return alone and ((usual and centred) or becomes(0, 255))
    return alone and (becomes(0, 1) or becomes(0, 255))


def _before(entry: Entry, wanted: InputScale) -> InputScale | None:
    """The scale of the image, if what is made of it has the scale `wanted`."""
    matrix = entry.matrix
    places = np.abs(matrix).argmax(-1)
    factors = matrix[np.arange(len(matrix)), places]
    alone = np.count_nonzero(matrix, axis=-1) == 1
    if sorted(places) != [0, 1, 2] or not alone.all() or (factors <= 0).any():
        return None
    order = ["rgb".index(each) for each in wanted.channels]
    colours, mean, std = np.zeros(3, int), np.zeros(3), np.zeros(3)
    colours[places] = order
    mean[places] = np.array(wanted.mean) + np.array(wanted.std) * entry.shift
    std[places] = np.array(wanted.std) * factors
    channels = "".join("rgb"[each] for each in colours)
    if channels not in ("rgb", "bgr"):
        return None
    # Not of single precision's rounding: 0..255 / 255 * 255 are pixels.
    mean, std = (tuple(float(f"{each:.6g}") + 0.0 for each in values) for values in (mean, std))
    return InputScale(mean, std, channels)


def input_size(model: Model, size: int = 256) -> tuple[int, int]:
    """Height and width of the images a model takes.

    Args:
        model: A model of images.
        size: Side in pixels where the model leaves it open.

    Raises:
        ValueError: The model does not take images of three channels.

    Example:
        >>> image = keras.Input((None, 64, 3))
        >>> input_size(keras.Model(image, image), size=48)
        (48, 64)
    """
    shape = tuple(model.input_shape)
    if len(shape) != 4 or shape[-1] != 3:
        raise ValueError(f"The model takes {shape}, not images (batch, height, width, 3).")
    return shape[1] or size, shape[2] or size
