"""What the analyses of all tasks are made of: the parts of a page, and bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from keras_parc.support.text import first_of

MODELS = {"keras": "Keras model", "float32": "float32 file", "int8": "int8 file"}
RESAMPLES = 2000
PICTURES = 12  # of mistakes, and of changed answers
SIDE = 256  # of a picture on the page, in pixels


@dataclass(frozen=True)
class Chart:
    """Lines in a plane.

    Attributes:
        title: What it is.
        says: The same in words, for those who do not see it.
        x: Name of the axis.
        y: Name of the axis.
        lines: By name the places and the values of a line; NaN leaves a gap.
        shares: Whether both axes go from 0 to 1.
        diagonal: Whether to draw the line of equal values.
        marked: A place on the x axis to mark.
    """

    title: str
    says: str
    x: str
    y: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    shares: bool = True
    diagonal: bool = False
    marked: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows of text below a head; the first cell of a row names it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Matrix:
    """How often what is there (row) was taken for what (column)."""

    title: str
    names: Sequence[str]
    counts: np.ndarray
    in_percent: bool = False  # of the row


@dataclass(frozen=True)
class Picture:
    """An image of the data with what there is to say of it.

    Attributes:
        name: Of the image.
        says: What is seen in it.
        views: Pictures, side by side, by what they show.
    """

    name: str
    says: str
    views: Mapping[str, Image.Image]


@dataclass(frozen=True)
class Gallery:
    """Pictures with a text for each."""

    title: str
    pictures: Sequence[Picture]


Part = Chart | Table | Matrix | Gallery | str


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, paragraphs and what else there is, in order."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Analysis:
    """How good the models of a run are, and where they fail.

    Attributes:
        images: How many images were measured.
        skipped: The images that cannot be used, with the reason.
        sentence: The result of the int8 file, up to the comparison with the Keras model.
        titles: What each measure is called on the page.
        main: The name of the measure that the sentence tells.
        measures: By model and name.
        intervals: Likewise, lowest and highest, where there are any.
        int8_cost: What int8 changed: by measure `difference` and `interval`; and `agreement`.
        facts: What else goes into `report.json`.
        sections: What else goes into the page.
        warnings: What to know before trusting the figures.
        note: What to know of the intervals.
    """

    images: int
    skipped: Mapping[str, str]
    sentence: str
    titles: Mapping[str, str]
    main: str
    measures: Mapping[str, Mapping[str, float | None]]
    intervals: Mapping[str, Mapping[str, tuple[float, float] | None]]
    int8_cost: Mapping[str, Any]
    facts: Mapping[str, Any]
    sections: Sequence[Section]
    warnings: Sequence[str] = ()
    note: str = ""


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    images: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """A statistic of data sets that were drawn from the images measured, with replacement.

    Args:
        statistic: A function of `(m, images)`, how often each image was drawn, that gives `(m, k)`.
        images: How many there are.
        resamples: How many data sets to draw.
        seed: Which ones: the same for every model, so that differences are paired.

    Returns:
        `(resamples, k)`.

    Example:
        >>> hits = np.array([1.0, 0.0, 1.0, 1.0])
        >>> drawn = bootstrap(lambda weights: weights @ hits[:, None] / 4, 4)
        >>> drawn.shape, 0.7 < float(drawn.mean()) < 0.8
        ((2000, 1), True)
    """
    rng, rows = np.random.default_rng(seed), []
    at_once = max(1, 2**21 // images)  # 16 MB of weights
    for start in range(0, resamples, at_once):
        weights = [
            np.bincount(rng.integers(images, size=images), minlength=images)
            for _ in range(min(at_once, resamples - start))
        ]
        rows.append(statistic(np.array(weights, "float64")))
    return np.concatenate(rows)


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """Between which 95 % of bootstrapped values lie; None if there are none."""
    good = values[np.isfinite(values)]
    return tuple(map(float, np.percentile(good, (2.5, 97.5)))) if len(good) else None


def share_intervals(hits: Mapping[str, np.ndarray]) -> tuple[dict, tuple[float, float] | None]:
    """Intervals of shares of images, and of what "int8" differs from "keras".

    Where all images are alike, no data set drawn from them differs: there the bound is the exact
    one of Clopper and Pearson.

    Args:
        hits: By model, whether each image counts, bool `(n,)`.

    Returns:
        By model lowest and highest, None for a single image; and the same of the difference.

    Example:
        >>> hits = np.arange(100) < 90
        >>> found, difference = share_intervals({"keras": hits, "int8": hits})
        >>> 0.8 < found["int8"][0] < 0.9 < found["int8"][1] < 0.97, difference
        (True, (0.0, 0.0))
    """
    values = np.stack(list(hits.values()), 1).astype("float64")
    images, names = len(values), list(hits)
    if images < 2:
        return dict.fromkeys(names), None
    drawn = bootstrap(lambda weights: weights @ values / images, images)
    found = {name: interval(drawn[:, i]) for i, name in enumerate(names)}
    for name, each in hits.items():
        bound = 0.025 ** (1 / images)
        if each.all():
            found[name] = bound, 1.0
        elif not each.any():
            found[name] = 0.0, 1 - bound
    return found, interval(drawn[:, names.index("int8")] - drawn[:, names.index("keras")])


def answers_not_numbers(counts: Mapping[str, int]) -> list[str]:
    """Warnings of models that put out NaN for some images, or none."""
    return [
        f"The {MODELS[name]} puts out values that are no numbers for {count} images."
        for name, count in counts.items()
        if count
    ]


def few_images(names: Sequence[str], counts: Sequence[int], least: int = 10) -> list[str]:
    """Warnings of classes with few images or objects to judge by, or none."""
    warnings = []
    none = [name for name, count in zip(names, counts, strict=True) if not count]
    few = [
        f"{name} ({count})" for name, count in zip(names, counts, strict=True) if 0 < count < least
    ]
    if none:
        warnings.append(f"No image to judge by: {first_of(none)}.")
    if few:
        warnings.append(
            f"Fewer than {least} to judge by, so that their figures mean little: {first_of(few)}."
        )
    return warnings


def percent(value: float | None, digits: int = 1) -> str:
    """A share for reading.

    Example:
        >>> percent(0.9375), percent(None)
        ('93.8 %', '-')
    """
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.{digits}f} %"


def of_interval(bounds: tuple[float, float] | None) -> str:
    """An interval of shares for reading, after "an mAP50 of 60.0 % on 64 images".

    Example:
        >>> of_interval((0.862, 0.981)), of_interval(None)
        ('95 % interval 86.2 to 98.1 %', 'no interval can be given')
    """
    if bounds is None:
        return "no interval can be given"
    return f"95 % interval {100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"


def on_page(image: Image.Image | np.ndarray) -> Image.Image:
    """A picture at the size of the page; small ones are enlarged without blurring."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    factor = SIDE / max(picture.size)
    size = tuple(max(1, round(factor * side)) for side in picture.size)
    kind = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BICUBIC
    return picture.resize(size, kind)
