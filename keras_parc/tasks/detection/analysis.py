"""How good the detectors of a run are, and where they fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from keras_parc.models.inputs import input_size
from keras_parc.tasks.analysis import (
    MODELS,
    PICTURES,
    Analysis,
    Chart,
    Gallery,
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
from keras_parc.tasks.detection.data import class_names, evaluation_dataset
from keras_parc.tasks.detection.matches import THRESHOLDS, Matches
from keras_parc.tasks.detection.measuring import coco_evaluation, coco_figures, coco_results
from keras_parc.tasks.detection.predicting import detector_of, draw
from keras_parc.tasks.labels import class_order
from keras_parc.tasks.measured_images import MeasuredImages

BATCH = 32
RESAMPLES = 500  # each sorts all boxes again
OTHERWISE = 0.3  # the threshold where no box is right
LISTED_CLASSES = 100
POINTS = 200  # of a curve, in `report.json` and on the page


def analyse(
    models: Mapping, labels: Sequence[str], builder, split: str, *, size: int, console=None
) -> Analysis:
    """Measure detectors on the same images.

    Args:
        models: By the names of `keras_parc.tasks.analysis.MODELS`.
        labels: The names of the models' classes.
        builder: What `keras_parc.tasks.detection.data.open_detection_source` returns.
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
    sides = input_size(models["keras"], size)
    images = MeasuredImages(builder, split, evaluation_dataset, console, batch=BATCH, size=sides)
    detectors = {
        name: detector_of(model, score_threshold=0.01, batch_size=BATCH)
        for name, model in models.items()
    }
    truths, found, no_numbers = [], {name: [] for name in models}, Counter()
    for pixels, targets in images.batches():
        for name, detector in detectors.items():
            for each in detector(pixels):
                found[name].append(_sound(each, order))
                no_numbers[name] += len(each["scores"]) > len(found[name][-1]["scores"])
        for number in range(len(pixels)):
            truth = {key: each[number].numpy() for key, each in targets.items()}
            truths.append(truth | {"id": len(truths)})
    numbers = range(1, len(names) + 1)
    matches, figures = {}, {}
    for name, each in found.items():
        results = coco_results(
            range(len(truths)), [truth["size"] for truth in truths], each, numbers
        )
        evaluation = coco_evaluation(truths, results, numbers)
        matches[name] = Matches.of(evaluation)
        figures[name] = coco_figures(evaluation, numbers, names)
    return _analysis(names, truths, found, matches, figures, no_numbers, images)


def _sound(found, order) -> dict:
    """Without boxes that are no numbers; classes as the data set numbers them."""
    found = {name: np.asarray(values) for name, values in found.items()}
    good = np.isfinite(found["scores"]) & np.isfinite(found["boxes"].reshape(-1, 4)).all(1)
    found = {name: values[good] for name, values in found.items()}
    return {**found, "labels": order[found["labels"].astype(int)]}


def _analysis(names, truths, found, matches, figures, no_numbers, images) -> Analysis:
    measures = {
        name: {key: each[key] for key in ("map", "map50")} for name, each in figures.items()
    }
    intervals, difference = _intervals(matches, len(truths))
    curves = {name: each.by_threshold() for name, each in matches.items()}
    f1 = curves["int8"]["f1"]
    best = int(np.nanargmax(f1)) if np.nan_to_num(f1).any() else None
    threshold = OTHERWISE if best is None else float(THRESHOLDS[best])
    shown = {
        name: [_above(each, threshold) for each in of_images] for name, of_images in found.items()
    }
    changed = [
        number
        for number, (a, b) in enumerate(zip(shown["keras"], shown["int8"], strict=True))
        if sorted(a["labels"]) != sorted(b["labels"])
    ]
    missed, false = matches["int8"].errors(threshold)
    wrong = np.argsort(-(missed + false), kind="stable")
    wrong = [int(i) for i in wrong if missed[i] + false[i]]
    pictures = images.pictures({*wrong[:PICTURES], *changed[:PICTURES]})

    def picture(number, says, **views):
        # Of a set without files the pictures are stretched, as the models see them.
        height, width = (int(side) for side in truths[number]["size"])
        image = on_page(pictures[number].resize((width, height)))
        drawn = {title: draw(image, boxes, names) for title, boxes in views.items()}
        return Picture(images.name(number), says, drawn)

    mistakes = [
        picture(
            i,
            f"{missed[i]} missed, {false[i]} false",
            truth=_counted(truths[i]),
            found=shown["int8"][i],
        )
        for i in wrong[:PICTURES]
    ]
    changes = [
        picture(
            i,
            f"Keras: {len(shown['keras'][i]['labels'])} found, "
            f"int8: {len(shown['int8'][i]['labels'])}",
            Keras=shown["keras"][i],
            int8=shown["int8"][i],
        )
        for i in changed[:PICTURES]
    ]
    objects = matches["int8"].objects.sum(0)
    per_class = [
        {"class": name, "objects": int(objects[number])}
        | {model: {"map": each["per_class"][name]} for model, each in figures.items()}
        for number, name in enumerate(names)
    ]
    cost = {
        "map": {"difference": _minus(measures, "map"), "interval": None},
        "map50": {"difference": _minus(measures, "map50"), "interval": difference},
        "agreement": 1 - len(changed) / len(truths),
    }
    at_best = (
        {
            name: {key: float(curve[best or 0]) for key, curve in each.items()}
            for name, each in curves.items()
        }
        if best is not None
        else None
    )
    count = f"{len(truths)} image{'s' * (len(truths) > 1)}"
    return Analysis(
        images=len(truths),
        skipped=images.skipped.skipped,
        sentence=f"The int8 file reaches an mAP50 of {percent(measures['int8']['map50'])} on "
        f"{count} that it was not trained on ("
        f"{of_interval(intervals['int8']['map50'])})",
        titles={"map": "mAP", "map50": "mAP50"},
        note=f"The intervals of mAP50 are of {RESAMPLES} resamples; mAP, the mean over ten IoUs, "
        "has none.",
        main="map50",
        measures=measures,
        intervals=intervals,
        int8_cost=cost,
        facts={
            "per_class": per_class,
            "confusion": None,
            "calibration": None,
            "resamples": RESAMPLES,
            "threshold": None if best is None else threshold,
            "at_threshold": at_best,
            "by_threshold": {"threshold": THRESHOLDS.tolist()}
            | {
                model: {key: curve.tolist() for key, curve in each.items()}
                for model, each in curves.items()
            },
            "changed": [images.name(i) for i in changed],
            "mistakes": [
                {"image": images.name(i), "missed": int(missed[i]), "false": int(false[i])}
                for i in wrong
            ],
        },
        sections=[
            Section("Classes", [_class_table(per_class)]),
            Section("Which score threshold?", _threshold_parts(curves["int8"], best, matches)),
            Section(
                "The worst mistakes of the int8 file",
                [
                    Gallery(
                        f"Boxes with a score of {threshold:.2f} or more; {len(wrong)} of "
                        f"{len(truths)} images have a mistake",
                        mistakes,
                    )
                ]
                if mistakes
                else ["It made none."],
            ),
            Section(
                "Answers that int8 changed",
                [
                    "An answer counts as changed where not as many boxes of each class have a "
                    f"score of {threshold:.2f} or more.",
                    Gallery(f"{len(changed)} of {len(truths)} answers changed", changes)
                    if changes
                    else "None.",
                ],
            ),
        ],
        warnings=[*few_images(names, objects.tolist()), *answers_not_numbers(no_numbers)],
    )


def _minus(measures, key) -> float | None:
    one, other = measures["int8"][key], measures["keras"][key]
    return None if one is None or other is None else one - other


def _intervals(matches, images):
    names = list(matches)
    if images < 2:
        return {name: {"map50": None} for name in names}, None
    drawn = bootstrap(
        lambda weights: np.stack([each.map50(weights) for each in matches.values()], 1),
        images,
        RESAMPLES,
    )
    found = {name: {"map50": interval(drawn[:, i])} for i, name in enumerate(names)}
    return found, interval(drawn[:, names.index("int8")] - drawn[:, names.index("keras")])


def _above(found, threshold) -> dict:
    good = found["scores"] >= threshold
    return {name: values[good] for name, values in found.items()}


def _counted(truth) -> dict:
    """The objects of an image that count."""
    good = ~truth["crowd"]
    return {name: truth[name][good] for name in ("boxes", "labels")}


def _class_table(per_class) -> Table:
    known = [each for each in per_class if each["objects"]]
    shown, title = per_class, "Average precision by class"
    if len(per_class) > LISTED_CLASSES:
        shown = sorted(known, key=lambda each: each["int8"]["map"] or 0)[:LISTED_CLASSES]
        title += f": the {len(shown)} found worst of {len(known)}"
    rows = [
        [each["class"], str(each["objects"]), *(percent(each[model]["map"]) for model in MODELS)]
        for each in shown
    ]
    return Table(title, ["class", "objects", *(f"AP, {each}" for each in MODELS.values())], rows)


def _threshold_parts(curve, best, matches) -> list:
    if best is None:
        return ["The int8 file finds no box that is right, whatever the threshold."]
    threshold = float(THRESHOLDS[best])
    lines = {
        name: (THRESHOLDS, curve[key])
        for name, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
    }
    pairs = {}
    for name, each in matches.items():
        recall, precision = each.precision_recall()
        some = np.unique(np.linspace(0, max(0, len(recall) - 1), POINTS).astype(int))
        pairs[MODELS[name]] = (recall[some], precision[some]) if len(recall) else ([], [])
    return [
        f"F1 is best at {threshold:.2f}: there {percent(curve['precision'][best])} of the boxes "
        f"are right (precision) and {percent(curve['recall'][best])} of the objects found "
        "(recall). Take a higher one where false boxes cost more, a lower one where missed "
        "objects do.",
        Chart(
            "Precision, recall and F1 by threshold, int8 file",
            "Of all classes together, a box counts as right with an IoU of 0.5 or more.",
            "score threshold",
            "share",
            lines,
            marked=threshold,
        ),
        Chart(
            "Precision and recall",
            "Of all classes together, at IoU 0.5: how precise the boxes are when the threshold is "
            "lowered until that share of the objects is found.",
            "recall",
            "precision",
            pairs,
        ),
    ]
