"""Digit scenes: real handwritten digits on textured backgrounds, made on the fly.

One scene serves classification (label), detection (boxes) and segmentation (mask). The digits are
the 1797 8x8 images that scikit-learn ships (UCI optical recognition of handwritten digits), so
nothing is downloaded; train, validation and test scenes are drawn from disjoint digits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import operator
from typing import NamedTuple

import numpy as np

from keras_parc.support.extras import needs_extra

with needs_extra():
    from scipy import ndimage

SPLITS = ("train", "validation", "test")
NUM_CLASSES = 10

_SPLIT_ENDS = (0.7, 0.8)  # of train and validation, as shares of the digit images
_SPLIT_SEED = 1797  # never the scene seed: a digit must not change sides with it
_MIN_DIGIT_PIXELS = 12  # below, an 8x8 digit loses strokes
_MARGIN = 1  # pixels around a digit for its soft edge
_INK_LEVEL = 0.35  # outline of a digit, as a fraction of its darkest stroke
_OUTLINE_STEP = 0.125  # sampling of the outline, in pixels of the 8x8 image
_LAYOUT_ATTEMPTS = 100
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _pair(name: str, value, kind: type) -> tuple:
    with contextlib.suppress(TypeError, ValueError):
        pair = tuple(map(kind, value))
        if len(pair) == 2 and pair == tuple(value):  # int() would silently cut 64.5
            return pair
    raise ValueError(f"{name} must be two {kind.__name__}s, got {value!r}.")


def _check_range(name: str, values: tuple, low: float, high: float):
    if not (low <= values[0] <= values[-1] <= high):
        pair = len(values) > 1
        raise ValueError(
            f"{name} must lie in [{low:g}, {high:g}]{' with min <= max' if pair else ''}, "
            f"got {values if pair else values[0]}."
        )


def _grid(count: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of at least `count` equal cells, as large as they can be."""
    grids = [(rows, -(-count // rows)) for rows in range(1, count + 1)]
    return max(grids, key=lambda grid: min(height // grid[0], width // grid[1]))


@dataclasses.dataclass(frozen=True)
class SceneConfig:
    """What digit scenes look like.

    Args:
        image_size: `(height, width)` in pixels.
        digits: `(min, max)` number of digits in a scene, both included, at least 1.
        scale: `(min, max)` longer side of a digit as a fraction of the shorter image side, in
            [0, 1]. In crowded scenes large digits are drawn less often.
        rotation: `(min, max)` rotation in degrees, counter-clockwise, in [-180, 180].
        contrast: Least luminance difference between a digit's colour and every background pixel
            around it, in [0, 0.5], where black is 0 and white 1.
        texture: Largest luminance difference within a background, in [0, 1 - 2 * contrast].
        max_overlap: Largest part of a digit's box that other digits' boxes may cover, in [0, 0.3].

    Raises:
        ValueError: If a value is out of range, or the digits would be too small or not fit.

    Example:
        >>> SceneConfig(image_size=(96, 160), digits=(2, 3), scale=(0.25, 0.5)).digits
        (2, 3)
    """

    image_size: tuple[int, int] = (64, 64)
    digits: tuple[int, int] = (1, 1)
    scale: tuple[float, float] = (0.55, 0.9)
    rotation: tuple[float, float] = (-15.0, 15.0)
    contrast: float = 0.25
    texture: float = 0.3
    max_overlap: float = 0.1

    def __post_init__(self):
        # Equal values in one type: [64, 64] and (64, 64), 1 and 1.0 are the same configuration.
        pairs = {"image_size": int, "digits": int, "scale": float, "rotation": float}
        for name, kind in pairs.items():
            object.__setattr__(self, name, _pair(name, getattr(self, name), kind))
        for name in ("contrast", "texture", "max_overlap"):
            object.__setattr__(self, name, float(getattr(self, name)))
        _check_range("digits", self.digits, 1, math.inf)
        _check_range("scale", self.scale, 0.0, 1.0)
        _check_range("rotation", self.rotation, -180.0, 180.0)
        _check_range("contrast", (self.contrast,), 0.0, 0.5)
        _check_range("texture", (self.texture,), 0.0, round(1.0 - 2.0 * self.contrast, 9))
        _check_range("max_overlap", (self.max_overlap,), 0.0, 0.3)

        side, most = min(self.image_size), self.digits[1]
        smallest = self.scale[0] * side
        if smallest < _MIN_DIGIT_PIXELS:
            raise ValueError(
                f"Digits need {_MIN_DIGIT_PIXELS} pixels or more, but scale[0] * shorter side = "
                f"{self.scale[0]} * {side} = {smallest:.1f}. Enlarge image_size or scale[0]."
            )
        room = np.min(np.array(self.image_size) // _grid(most, *self.image_size)) - 2 * _MARGIN
        if math.ceil(smallest) > room:
            raise ValueError(
                f"{most} digits of {smallest:.1f} pixels may not fit into {self.image_size}, where "
                f"each has {room}. Use fewer digits, a smaller scale[0] or a larger image_size."
            )


VARIANTS = {
    "classify": SceneConfig(),
    "detect": SceneConfig(image_size=(128, 128), digits=(1, 4), scale=(0.2, 0.5)),
    "segment": SceneConfig(image_size=(128, 128), digits=(1, 4), scale=(0.3, 0.6)),
    "detect_small": SceneConfig(image_size=(64, 64), digits=(1, 3), scale=(0.25, 0.6)),
    "detect_tiny": SceneConfig(image_size=(64, 64), digits=(1, 3), scale=(0.25, 0.6)),
    "segment_small": SceneConfig(image_size=(64, 64), digits=(1, 2), scale=(0.45, 0.8)),
    "small": SceneConfig(image_size=(48, 48)),
    "tiny": SceneConfig(image_size=(48, 48)),
}


class Scene(NamedTuple):
    """A scene, or with one more leading axis, the stacked scenes of `digit_scenes`.

    Attributes:
        image: uint8 `(height, width, 3)`, RGB.
        label: int64, the class of the largest digit (by box area), 0 to 9.
        boxes: float32 `(n, 4)`, the tight boxes of the digits' visible pixels as ymin, xmin, ymax,
            xmax relative to the image, largest digit first.
        labels: int64 `(n,)`, the classes of `boxes`; `labels[0] == label`.
        mask: uint8 `(height, width)`, 0 for background and `d + 1` for digit `d`.

    Example:
        >>> scene = digit_scene(0, "test")
        >>> scene.image.shape, scene.boxes.shape, int(scene.mask.max()) == scene.label + 1
        ((64, 64, 3), (1, 4), True)
    """

    image: np.ndarray
    label: np.ndarray | int
    boxes: np.ndarray
    labels: np.ndarray
    mask: np.ndarray


def digit_scene(
    index: int, split: str, config: SceneConfig | str = "classify", seed: int = 0
) -> Scene:
    """Makes one scene, which depends on nothing but the arguments.

    Args:
        index: Number of the scene, 0 to 2**32 - 1.
        split: `"train"`, `"validation"` or `"test"`.
        config: Scene parameters, or the name of a variant: `"classify"` (64x64, one digit),
            `"detect"` or `"segment"` (128x128, one to four digits).
        seed: Seed of the data set, 0 to 2**32 - 1.

    Returns:
        A `Scene`.

    Raises:
        ValueError: If the split, the variant, the index or the seed does not exist.

    Example:
        >>> scene = digit_scene(3, "train", "detect")
        >>> scene.image.shape, len(scene.boxes) == len(scene.labels)
        ((128, 128, 3), True)
    """
    config, split_number = _resolve(config, split)
    for name, value in [("seed", seed), ("index", index)]:
        # Larger numbers take two words of the key, and different keys could then be equal.
        if not 0 <= operator.index(value) < 2**32:
            raise ValueError(f"{name} must be an integer in [0, 2**32), got {value}.")
    rng = np.random.Generator(np.random.PCG64([int(seed), split_number, int(index)]))

    count = rng.integers(config.digits[0], config.digits[1] + 1)
    drawn = rng.choice(_split_indices()[split_number], count)
    digits = list(map(_digit, drawn, rng.uniform(*config.rotation, count)))
    layout = _layout(rng, np.array([digit.high - digit.low for digit in digits]), config)

    image = _background(rng, config)
    luminance = image @ _LUMA
    owner = np.zeros(config.image_size, np.int64)  # 0, or 1 + the digit seen in this pixel
    for number, (digit, scale, window) in enumerate(zip(digits, *layout, strict=True), start=1):
        alpha = _render(digit, scale, owner[window].shape)
        colour = _digit_colour(rng, luminance[window], config.contrast)
        image[window] += alpha[..., None] * (colour - image[window])
        owner[window][alpha > 0.5] = number

    labels = np.array([digit.label for digit in digits], np.int64)
    mask = np.concatenate([[0], labels + 1]).astype(np.uint8)[owner]
    boxes = np.array([_box(owner == number) for number in range(1, count + 1)])
    order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
    boxes = (boxes[order] / np.tile(config.image_size, 2)).astype(np.float32)
    labels = labels[order]
    return Scene(np.rint(image * 255.0).astype(np.uint8), int(labels[0]), boxes, labels, mask)


def digit_scenes(
    split: str, count: int, config: SceneConfig | str = "classify", seed: int = 0
) -> Scene:
    """Makes the first `count` scenes of a split and stacks them.

    Args:
        split: `"train"`, `"validation"` or `"test"`.
        count: Number of scenes, at least 1.
        config: Scene parameters or the name of a variant, as in `digit_scene`.
        seed: Seed of the data set, 0 to 2**32 - 1.

    Returns:
        A `Scene` of arrays with a leading axis of `count`. `boxes` `(count, max digits, 4)` and
        `labels` `(count, max digits)` are padded with -1, the convention of KerasCV.

    Raises:
        ValueError: As `digit_scene`, or if `count` is less than 1.

    Example:
        >>> scenes = digit_scenes("test", 8)
        >>> scenes.image.shape, scenes.label.shape, scenes.mask.shape
        ((8, 64, 64, 3), (8,), (8, 64, 64))
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    config, _ = _resolve(config, split)
    scenes = [digit_scene(index, split, config, seed) for index in range(count)]
    boxes = np.full((count, config.digits[1], 4), -1, np.float32)
    labels = np.full((count, config.digits[1]), -1, np.int64)
    for i, scene in enumerate(scenes):
        boxes[i, : len(scene.boxes)] = scene.boxes
        labels[i, : len(scene.labels)] = scene.labels
    images, label, _, _, masks = zip(*scenes, strict=True)
    return Scene(np.stack(images), np.array(label, np.int64), boxes, labels, np.stack(masks))


def _resolve(config: SceneConfig | str, split: str) -> tuple[SceneConfig, int]:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {[*SPLITS]}, got {split!r}.")
    if not isinstance(config, SceneConfig) and config not in VARIANTS:
        raise ValueError(f"config must be a SceneConfig or one of {[*VARIANTS]}, got {config!r}.")
    return VARIANTS.get(config, config), SPLITS.index(split)


class _Digit(NamedTuple):
    label: int
    spline: np.ndarray  # (12, 12) cubic B-spline coefficients; the darkest stroke is 1
    rotation: np.ndarray  # (2, 2), turns y, x counter-clockwise
    low: np.ndarray  # (2,) y, x extent of the rotated digit, in pixels of the 8x8 image
    high: np.ndarray  # (2,)


@functools.cache
def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    with needs_extra():
        from sklearn.datasets import load_digits  # a second of import, so only when scenes are made

    digits = load_digits()
    return digits.images, digits.target


@functools.cache
def _split_indices() -> tuple[np.ndarray, ...]:
    """The digit images of each split: fixed, disjoint, stratified by class."""
    rng = np.random.Generator(np.random.PCG64(_SPLIT_SEED))
    parts = [[] for _ in SPLITS]
    for label in range(NUM_CLASSES):
        shuffled = rng.permutation(np.flatnonzero(_load_digits()[1] == label))
        ends = np.round(np.multiply(_SPLIT_ENDS, len(shuffled))).astype(int)
        for part, chunk in zip(parts, np.split(shuffled, ends), strict=True):
            part.append(chunk)
    return tuple(np.sort(np.concatenate(part)) for part in parts)


@functools.cache
def _glyph(index: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Label, spline and outline (n, 2): y, x from the centre, points with the hull of all ink."""
    images, labels = _load_digits()
    image = np.pad(images[index], 2)
    image -= 0.2 * ndimage.laplace(image)  # opens the loops that 8x8 pixels almost close
    spline = ndimage.spline_filter(image, order=3, mode="mirror")
    fine = np.arange(0.0, 11.01, _OUTLINE_STEP)
    weights = _spline_weights(fine, 12)
    surface = weights @ spline @ weights.T
    ink = surface >= _INK_LEVEL * surface.max()
    rows = np.flatnonzero(ink.any(axis=1))
    left, right = ink[rows].argmax(axis=1), len(fine) - 1 - ink[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.stack([rows, left], 1), np.stack([rows, right], 1)])
    return int(labels[index]), spline / surface.max(), fine[ends] - 5.5


def _digit(index: int, degrees: float) -> _Digit:
    label, spline, outline = _glyph(index)
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    rotation = np.array([[cos, -sin], [sin, cos]])
    points = outline @ rotation.T
    low, high = points.min(axis=0) - _OUTLINE_STEP, points.max(axis=0) + _OUTLINE_STEP
    return _Digit(label, spline, rotation, low, high)


def _render(digit: _Digit, scale: float, shape: tuple[int, int]) -> np.ndarray:
    """Opacity (height, width) of a centred digit, 0 to 1, with an edge of 1 to 2 pixels."""
    origin = (np.array(shape) - 1) / 2 - scale * (digit.low + digit.high) / 2
    inverse = digit.rotation.T / scale
    ink = ndimage.affine_transform(
        digit.spline, inverse, 5.5 - inverse @ origin, shape, order=3, prefilter=False
    )
    return np.clip(0.5 + (ink - _INK_LEVEL) * 1.5 * scale, 0.0, 1.0)


def _layout(rng: np.random.Generator, extents: np.ndarray, config: SceneConfig) -> tuple:
    """Scales (n,) and windows of the image for n digits of these extents (n, 2)."""
    image_size, count = np.array(config.image_size), len(extents)
    side, longest = image_size.min(), extents.max(axis=1)
    low, high = side * config.scale[0], min(side * config.scale[1], side - 2 * _MARGIN)
    for attempt in range(_LAYOUT_ATTEMPTS):
        scales = rng.uniform(low, high - (high - low) * attempt / _LAYOUT_ATTEMPTS, count) / longest
        shapes = _window_shapes(scales, extents)
        corners = rng.integers(0, image_size - shapes + 1)
        if _largest_overlap(corners, shapes) <= config.max_overlap:
            break
    else:  # Crowded: the smallest digits, each in its own cell of a grid, always fit.
        cells = np.array(_grid(count, *config.image_size))
        scales = low / longest
        shapes = _window_shapes(scales, extents)
        rows, columns = np.divmod(rng.permutation(cells.prod())[:count], cells[1])
        corners = np.stack([rows, columns], axis=1) * (image_size // cells)
        corners = corners + rng.integers(0, image_size // cells - shapes + 1)
    spans = np.stack([corners, corners + shapes], axis=2)
    return scales, [tuple(slice(*span) for span in window) for window in spans]


def _window_shapes(scales: np.ndarray, extents: np.ndarray) -> np.ndarray:
    # Less a rounding error: a digit of exactly the room that is left must fit.
    return np.ceil(scales[:, None] * extents - 1e-6).astype(int) + 2 * _MARGIN


def _largest_overlap(corners: np.ndarray, shapes: np.ndarray) -> float:
    """Largest part of any rectangle that the others cover together, at most."""
    ends = corners + shapes
    sides = np.minimum(ends[:, None], ends) - np.maximum(corners[:, None], corners)
    areas = np.prod(np.maximum(sides, 0), axis=2)
    return (areas.sum(axis=1) / areas.diagonal()).max() - 1.0


def _box(visible: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def _colour(rng: np.random.Generator, luminance: float) -> np.ndarray:
    """A random RGB colour (3,), 0 to 1, of exactly this luminance."""
    tint = rng.uniform(-1.0, 1.0, 3).astype(np.float32)
    tint -= _LUMA @ tint
    room = np.where(tint > 0, 1.0 - luminance, luminance) / np.maximum(np.abs(tint), 1e-6)
    return (luminance + tint * rng.uniform(0.2, 1.0) * room.min()).astype(np.float32)


def _digit_colour(rng: np.random.Generator, behind: np.ndarray, contrast: float) -> np.ndarray:
    """A colour darker or lighter by `contrast` than all of the luminances behind it."""
    darkest = max(behind.min() - contrast, 0.0)
    lightest = min(behind.max() + contrast, 1.0)
    # `texture <= 1 - 2 * contrast` leaves room on at least one side.
    position = rng.uniform(0.0, darkest + 1.0 - lightest)
    return _colour(rng, position if position < darkest else lightest + position - darkest)


def _background(rng: np.random.Generator, config: SceneConfig) -> np.ndarray:
    """Noise, alone or with a gradient or stripes, between two colours: (height, width, 3)."""
    height, width = config.image_size
    side = min(height, width)
    field = np.zeros((height, width), np.float32)
    for octave in range(1, 5):
        rows, columns = _smoothing(height, side / 2**octave), _smoothing(width, side / 2**octave)
        knots = rng.uniform(-1.0, 1.0, (rows.shape[1], columns.shape[1])).astype(np.float32)
        field += rows @ knots @ columns.T / 1.5**octave

    angle, strength = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.3, 1.0)
    y, x = np.ogrid[:height, :width]
    along = ((math.sin(angle) * y + math.cos(angle) * x) / side).astype(np.float32)
    pattern = rng.integers(3)
    if pattern == 1:
        field += strength * along
    elif pattern == 2:
        waves, phase = rng.uniform(2.0, 8.0), rng.uniform(0.0, 2.0 * math.pi)
        field += 0.5 * strength * np.sin(2.0 * math.pi * waves * along + phase)

    field = (field - field.min()) / (field.max() - field.min())
    span = rng.uniform(0.3, 1.0) * config.texture
    darkest = rng.uniform(0.0, 1.0 - span)
    first, second = _colour(rng, darkest), _colour(rng, darkest + span)
    return first + field[..., None] * (second - first)


@functools.lru_cache(maxsize=64)
def _smoothing(size: int, cell: float) -> np.ndarray:
    """Weights (size, knots) that spread one knot per `cell` pixels smoothly over a line."""
    return _spline_weights(np.arange(size) / cell + 1.0, math.ceil(size / cell) + 3)


def _spline_weights(positions: np.ndarray, knots: int) -> np.ndarray:
    """Cubic B-spline weights (positions, knots); knot k lies at position k."""
    distance = np.abs(positions[:, None] - np.arange(knots))
    near = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    far = np.maximum(2.0 - distance, 0.0) ** 3 / 6.0
    return np.where(distance < 1.0, near, far).astype(np.float32)
