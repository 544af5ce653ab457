"""Pictures of a set of labelled images: samples with their labels drawn, and histograms."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from keras_parc.data.records import training_records
from keras_parc.data.scan import LABELS
from keras_parc.data.sets.found import Report
from keras_parc.support.class_maps import IGNORED, painted
from keras_parc.support.extras import needs_extra
from keras_parc.support.images import read_rgb
from keras_parc.support.text import one_line
from keras_parc.tasks.detection.predicting import draw

_CELL, _CAPTION, _COLUMNS, _ROWS = 240, 22, 5, 4
_LOOKED_AT = 200  # images of which the samples are chosen, so that every class is among them
_BARS = 30


def samples(builder, task: str, names: list[str]) -> Image.Image:
    """A sheet of images with their labels, of each class in turn.

    Args:
        builder: What `keras_parc.data.sources.open_source` returns.
        task: What its labels are read for.
        names: Of the classes.
    """
    split = "train" if "train" in builder.info.splits else next(iter(builder.info.splits))
    count = min(_LOOKED_AT, builder.info.splits[split].num_examples)
    annotation = LABELS[task]
    if task == "segmentation":
        annotation = type(annotation)(annotation.features, _with_mask)
    records = training_records(builder, split, seed=0, epoch=0, count=count, annotation=annotation)
    by_class: dict[Any, list] = defaultdict(list)
    for _, data, target in records.ignore_errors().as_numpy_iterator():
        labels = [label for label in target["labels"] if label < len(names)]
        # Of several the one that has been seen least, so that the rare ones are shown.
        by_class[min(labels, key=lambda label: len(by_class[label]), default=-1)].append(
            (data, target)
        )
    height = _CELL + _CAPTION
    sheet = Image.new("RGB", (_COLUMNS * _CELL, _ROWS * height), "white")
    place = 0
    for data, target in _in_turns(list(by_class.values())):
        try:
            image = read_rgb(data)
        except ValueError:
            continue
        picture, caption = _drawn(image, target, task, names)
        left, top = place % _COLUMNS * _CELL, place // _COLUMNS * height
        sheet.paste(picture, (left + (_CELL - picture.width) // 2, top + _CAPTION))
        font = ImageFont.load_default(13)
        ImageDraw.Draw(sheet).text((left + 4, top + 3), one_line(caption, 34), "black", font)
        place += 1
        if place == _COLUMNS * _ROWS:
            break
    return sheet.crop((0, 0, sheet.width, max(1, -(-place // _COLUMNS)) * height))


def _with_mask(record):
    return LABELS["segmentation"].target(record) | {"mask": record["segmentation_mask"]}


def _in_turns(groups):
    for turn in range(max(map(len, groups), default=0)):
        yield from (group[turn] for group in groups if turn < len(group))


def _drawn(image: Image.Image, target, task: str, names) -> tuple[Image.Image, str]:
    """An image with its labels at the size of a cell, and what is written above it."""
    labels = [int(label) for label in target["labels"]]
    if task == "segmentation":
        with Image.open(io.BytesIO(target["mask"])) as mask:
            classes = np.asarray(mask)
        if classes.shape == (image.height, image.width):
            image = Image.fromarray(painted(np.asarray(image), classes))
        labels = [label for label in labels if 0 < label < IGNORED]
    image = ImageOps.contain(image, (_CELL - 6, _CELL - 6))
    if task == "detection":
        words = [one_line(name, 20) for name in names]
        image = draw(image, {"boxes": target["boxes"], "labels": labels}, words)
    found = dict.fromkeys(names[label] for label in labels if label < len(names))
    return image, ", ".join(found) or "nothing in it"


def histograms(report: Report, scan):
    """Classes, sizes of images, and in detection objects an image and their sizes.

    Args:
        report: Of the set.
        scan: What is in its images; None: of these nothing is drawn.

    Returns:
        A matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with needs_extra():
        from matplotlib.figure import Figure
    detection = report.task == "detection" and scan is not None
    count = 1 + (scan is not None) + 2 * detection
    figure = Figure(figsize=(5 * count, 5), layout="constrained")
    axes = iter(np.atleast_1d(figure.subplots(1, count)))
    _classes(next(axes), report)
    if scan is not None:
        axis = next(axes)
        axis.scatter(scan.sizes[:, 1], scan.sizes[:, 0], s=8, alpha=0.3, color="black")
        axis.set(title="Sizes of images", xlabel="width, pixels", ylabel="height, pixels")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
    if detection:
        each, sizes = next(axes), next(axes)
        most = int(scan.per_image.max(initial=0))
        each.hist(scan.per_image, bins=np.arange(min(most, 100) + 2) - 0.5, color="grey")
        each.set(title="Objects an image", xlabel="objects", ylabel="images")
        sides = 100 * np.sqrt(scan.boxes.prod(-1))
        sizes.hist(sides, bins=np.arange(0, 101, 5), color="grey")
        sizes.set(title="Sizes of objects", xlabel="side in % of the image", ylabel="objects")
    return figure


def _classes(axis, report: Report) -> None:
    names = sorted(report.classes, key=lambda name: -report.classes[name])
    shown, left = names[:_BARS], len(names) - _BARS
    splits = report.by_split or {"all": report.classes}
    start = np.zeros(len(shown))
    for (split, counts), shade in zip(
        splits.items(), np.linspace(0.3, 0.8, len(splits)), strict=True
    ):
        widths = np.array([counts.get(name, 0) for name in shown])
        axis.barh(range(len(shown)), widths, left=start, color=str(shade), label=split)
        start += widths
    axis.set_yticks(range(len(shown)), [one_line(name, 24) for name in shown], parse_math=False)
    axis.invert_yaxis()
    things = "Objects" if report.task == "detection" else "Images"
    more = f", the {_BARS} most frequent of {len(names)}" if left > 0 else ""
    axis.set(title=f"{things} of a class{more}", xlabel=things.lower())
    axis.legend()
