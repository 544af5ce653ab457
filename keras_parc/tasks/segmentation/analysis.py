"""How good the segmenters of a run are, and where they fail."""

from __future__ import annotations

import heapq
import io
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from keras_parc.models.deeplab_v3 import low_resolution
from keras_parc.models.inputs import input_scale, input_size
from keras_parc.support.class_maps import painted
from keras_parc.support.images import resize
from keras_parc.tasks.analysis import (
    MODELS,
    PICTURES,
    SIDE,
    Analysis,
    Gallery,
    Matrix,
    Picture,
    Section,
    Table,
    answers_not_numbers,
    bootstrap,
    few_images,
    interval,
    of_interval,
    on_page,
    percent,
)
from keras_parc.tasks.labels import class_order
from keras_parc.tasks.measured_images import MeasuredImages
from keras_parc.tasks.segmentation.data import class_names, evaluation_dataset
from keras_parc.tasks.segmentation.measuring import (
    class_map,
    confusion_matrix,
    intersections_over_unions,
    segmentation_logits,
)

BATCH = 8
MATRIX_CLASSES = 30
STORED_MATRIX = 100
SAME = 0.99  # of its pixels: below, the answer for an image counts as changed


def analyse(
    models: Mapping, labels: Sequence[str], builder, split: str, *, size: int, console=None
) -> Analysis:
    """Measure segmenters on the same images, at the images' own sizes as a client shows them.

    Args:
        models: By the names of `keras_parc.tasks.analysis.MODELS`.
        labels: The names of the models' classes.
        builder: What `keras_parc.tasks.segmentation.data.open_segmentation_source` returns.
        split: A split of it, or a part of one.
        size: Side of the images in pixels, where the models leave it open.
        console: Where to draw the progress bar.

    Returns:
        What was measured.

    Raises:
        ValueError: The classes are others, or the images cannot be used.
    """
    names = class_names(builder)
    order = class_order(labels, names, builder.name)
    models = {name: low_resolution(model) for name, model in models.items()}
    sides = input_size(models["keras"], size)
    images = MeasuredImages(builder, split, evaluation_dataset, console, batch=BATCH, size=sides)
    scales = {name: input_scale(model) for name, model in models.items()}
    counts = {name: _Counts(len(names)) for name in models}
    same, worst, changed = [], _Kept(PICTURES), _Kept(PICTURES)
    no_numbers = Counter()
    for pixels, masks in images.batches():
        logits = {
            name: segmentation_logits(model, scales[name].of(pixels), BATCH)
            for name, model in models.items()
        }
        for name, each in logits.items():
            no_numbers[name] += int(np.isnan(each).any((1, 2, 3)).sum())
        for place, mask in enumerate(masks.numpy()):
            truth = np.asarray(Image.open(io.BytesIO(mask)))
            maps = {
                name: order[class_map(each[place], truth.shape)] for name, each in logits.items()
            }
            ious = {name: counts[name].add(truth, each) for name, each in maps.items()}
            same.append(float((maps["keras"] == maps["int8"]).mean()))
            number = len(same) - 1
            views = pixels[place], truth, maps["keras"], maps["int8"]
            worst.offer(ious["int8"], number, views)
            if same[-1] < SAME:
                changed.offer(same[-1], number, views)
    return _analysis(names, counts, same, worst.best(), changed.best(), no_numbers, images)


class _Counts:
    """Pixels by class: of every pair over all images, and of each image."""

    def __init__(self, classes: int):
        self.confusion = np.zeros((classes,) * 2, "int64")
        self.images = np.zeros(classes, "int64")  # with the class in them
        self.both, self.either, self.all = [], [], []  # by image: right, right or wrong, counted

    def add(self, truth, found) -> float:
        """Count an image; returns its mean IoU."""
        confusion = confusion_matrix(truth, found, len(self.images))
        self.confusion += confusion
        self.images += confusion.sum(1) > 0
        self.both.append(np.diag(confusion).copy())
        self.either.append(confusion.sum(0) + confusion.sum(1) - self.both[-1])
        self.all.append(confusion.sum())
        return float(_mean(self.both[-1:], self.either[-1:])[0])

    def measures(self) -> dict[str, float]:
        """Mean IoU and share of pixels that are right, of all images together."""
        weights = np.ones((1, len(self.both)))
        return dict(zip(("miou", "pixel_accuracy"), map(float, self.of(weights)[0]), strict=True))

    def of(self, weights: np.ndarray) -> np.ndarray:
        """Both measures where each image counts a number of times, `(m, 2)`."""
        both = weights @ np.array(self.both)
        miou = _mean(both, weights @ np.array(self.either))
        return np.stack([miou, both.sum(1) / np.maximum(weights @ np.array(self.all), 1)], 1)


def _mean(both, either) -> np.ndarray:
    """Mean IoU of each row, over the classes that are there or were found."""
    with np.errstate(invalid="ignore"):
        each = np.asarray(both) / np.asarray(either)
        known = np.isfinite(each)
        return np.where(known, each, 0).sum(1) / known.sum(1)


class _Kept:
    """The few images of the lowest value, however many there are."""

    def __init__(self, count: int):
        self._count, self._heap = count, []

    def offer(self, value: float, number: int, views) -> None:
        """Keep an image if it is among the lowest; views: pixels, then class maps."""
        if np.isnan(value) or (len(self._heap) == self._count and -value <= self._heap[0][0]):
            return
        pixels, *maps = views
        each = (-value, -number, _reduced(pixels, maps))
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, each)
        else:
            heapq.heapreplace(self._heap, each)

    def best(self) -> list:
        """Value, number and views of each, the lowest value first."""
        return [(-value, -number, views) for value, number, views in sorted(self._heap)[::-1]]


def _reduced(pixels, maps) -> tuple:
    """Picture and class maps of an image at the size of the page or less, in its own aspect."""
    height, width = maps[0].shape
    factor = min(1, SIDE / max(height, width))
    size = max(1, round(factor * height)), max(1, round(factor * width))
    maps = [
        np.asarray(Image.fromarray(each.astype("uint8")).resize(size[::-1], Image.NEAREST))
        for each in maps
    ]
    return resize(pixels.astype("uint8"), size), *maps


def _analysis(names, counts, same, worst, changed, no_numbers, images) -> Analysis:
    measures = {name: each.measures() for name, each in counts.items()}
    intervals, cost = _intervals(counts, len(same))
    for key, each in cost.items():
        each["difference"] = measures["int8"][key] - measures["keras"][key]
    cost["agreement"] = float(np.mean(same))
    ious = {name: intersections_over_unions(each.confusion) for name, each in counts.items()}
    matrix, there = counts["int8"].confusion, counts["int8"].images
    per_class = [
        {"class": name, "images": int(there[number])}
        | {model: {"iou": _known(each[number])} for model, each in ious.items()}
        for number, name in enumerate(names)
    ]
    different = [number for number, share in enumerate(same) if share < SAME]
    count = f"{len(same)} image{'s' * (len(same) > 1)}"
    classes = [Table("Intersection over union by class", *_class_table(per_class))]
    if len(names) <= MATRIX_CLASSES:
        classes.append(
            Matrix("What the int8 file takes for what, % of the pixels", names, matrix, True)
        )
    return Analysis(
        images=len(same),
        skipped=images.skipped.skipped,
        sentence=f"The int8 file reaches a mean IoU of {percent(measures['int8']['miou'])} on "
        f"{count} that it was not trained on ("
        f"{of_interval(intervals['int8']['miou'])})",
        titles={"miou": "mean IoU", "pixel_accuracy": "pixels that are right"},
        main="miou",
        measures=measures,
        intervals=intervals,
        int8_cost=cost,
        facts={
            "per_class": per_class,
            "confusion": matrix.tolist() if len(names) <= STORED_MATRIX else None,
            "calibration": None,
            "changed": [images.name(number) for number in different],
            "mistakes": [{"image": images.name(n), "miou": iou} for iou, n, _ in worst],
        },
        sections=[
            Section(
                "Classes",
                [
                    "Intersection over union (IoU): of the pixels that are of the class or were "
                    "taken for it, those that are both.",
                    *classes,
                ],
            ),
            Section(
                "The worst mistakes of the int8 file",
                [
                    Gallery(
                        f"The {len(worst)} images of lowest mean IoU",
                        [
                            _picture(images.name(n), f"mean IoU {percent(iou)}", views, TRUTH)
                            for iou, n, views in worst
                        ],
                    )
                ],
            ),
            Section(
                "Answers that int8 changed",
                [
                    f"An answer counts as changed where fewer than {percent(SAME, 0)} of the "
                    "pixels have the same class.",
                    Gallery(
                        f"{len(different)} of {len(same)} answers changed",
                        [
                            _picture(
                                images.name(n), f"{percent(1 - share)} of the pixels", views, CHANGE
                            )
                            for share, n, views in changed
                        ],
                    )
                    if changed
                    else "None.",
                ],
            ),
        ],
        warnings=[*few_images(names, there.tolist()), *answers_not_numbers(no_numbers)],
    )


# The views of a picture: place among what `_Kept` keeps, by title.
TRUTH = {"picture": None, "truth": 1, "int8": 3}
CHANGE = {"Keras": 2, "int8": 3}


def _picture(name, says, views, titles) -> Picture:
    image = views[0]
    return Picture(
        name,
        says,
        {
            title: on_page(image if place is None else painted(image, views[place]))
            for title, place in titles.items()
        },
    )


def _intervals(counts, images) -> tuple[dict, dict]:
    keys, names = ("miou", "pixel_accuracy"), list(counts)
    if images < 2:
        nothing = dict.fromkeys(keys)
        return {name: nothing for name in names}, {key: {"interval": None} for key in keys}
    drawn = bootstrap(
        lambda weights: np.concatenate([each.of(weights) for each in counts.values()], 1), images
    ).reshape(-1, len(names), 2)
    found = {
        name: {key: interval(drawn[:, place, k]) for k, key in enumerate(keys)}
        for place, name in enumerate(names)
    }
    difference = drawn[:, names.index("int8")] - drawn[:, names.index("keras")]
    return found, {key: {"interval": interval(difference[:, k])} for k, key in enumerate(keys)}


def _class_table(per_class) -> tuple[list, list]:
    rows = [
        [each["class"], str(each["images"]), *(percent(each[model]["iou"]) for model in MODELS)]
        for each in per_class
    ]
    return ["class", "images with it", *(f"IoU, {each}" for each in MODELS.values())], rows


def _known(value) -> float | None:
    return None if np.isnan(value) else float(value)
