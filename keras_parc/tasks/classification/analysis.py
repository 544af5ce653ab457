"""How good the models of a run classify, and where they fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from keras_parc.models.inputs import input_scale, input_size, short_side_of
from keras_parc.support.extras import needs_extra
from keras_parc.tasks.analysis import (
    MODELS,
    PICTURES,
    Analysis,
    Chart,
    Gallery,
    Matrix,
    Picture,
    Section,
    Table,
    answers_not_numbers,
    few_images,
    of_interval,
    on_page,
    percent,
    share_intervals,
)
from keras_parc.tasks.classification.data import class_names, dataset
from keras_parc.tasks.classification.measuring import in_top_k
from keras_parc.tasks.labels import class_order
from keras_parc.tasks.measured_images import MeasuredImages
from keras_parc.tasks.outputs import class_scores

BATCH = 64
BINS = 10  # of the scores, for calibration
MATRIX_CLASSES = 30  # on the page; of more, the pairs that are confused most
LISTED_CLASSES = 50  # on the page, those found worst
STORED_CLASSES = 1000  # of more, only those that occur are in `report.json`
STORED_MATRIX = 100
TITLES = {"top1": "accuracy", "top5": "right class among five"}
NONE = -1  # the answer of a model whose scores are no numbers


def analyse(
    models: Mapping, labels: Sequence[str], builder, split: str, *, size: int, console=None
) -> Analysis:
    """Measure classifiers on the same images.

    Args:
        models: By the names of `keras_parc.tasks.analysis.MODELS`.
        labels: The names of the models' classes.
        builder: What `keras_parc.data.sources.open_source` returns.
        split: A split of it, or a part of one.
        size: Side of the images in pixels, where the models leave it open.
        console: Where to draw the progress bar.

    Returns:
        What was measured; images are cut as `evaluate_classifier` does.

    Raises:
        ValueError: The classes are others, or the images cannot be used.
    """
    names = class_names(builder)
    order = class_order(labels, names, builder.name).argsort()
    sides = input_size(models["keras"], size)
    images = MeasuredImages(
        builder,
        split,
        dataset,
        console,
        batch=BATCH,
        size=sides,
        short_side=short_side_of(models["keras"], sides),
        training=False,
    )
    scales = {name: input_scale(model) for name, model in models.items()}
    ks = {"top1": 1, "top5": 5} if len(names) > 5 else {"top1": 1}
    truth, answers, hits = [], {each: [] for each in models}, {}
    logits = None
    for pixels, targets in images.batches():
        targets = targets.numpy()
        truth.append(targets)
        for name, model in models.items():
            scores = class_scores(model, scales[name].of(pixels), BATCH)[:, order]
            logits = _are_logits(scores) if logits is None else logits
            answers[name].append(_answers(scores, logits))
            for measure, k in ks.items():
                hits.setdefault((measure, name), []).append(in_top_k(scores, targets, k))
    truth = np.concatenate(truth)
    answers = {name: np.concatenate(each, 1) for name, each in answers.items()}
    right = {
        measure: {name: np.concatenate(hits[measure, name]) for name in models} for measure in ks
    }
    return _analysis(names, truth, answers, right, images)


def _are_logits(scores) -> bool:
    good = scores[np.isfinite(scores).all(1)]
    return len(good) > 0 and bool((good < 0).any() or (abs(good.sum(1) - 1) > 0.01).any())


def _answers(scores, logits) -> np.ndarray:
    """Class and probability of the best answer of each image, `(2, n)`."""
    sound = ~np.isnan(scores).any(1)
    best = np.where(sound, scores.argmax(1), NONE)
    if logits:
        scores = scores - scores.max(1, keepdims=True)
        scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return np.stack([best, np.where(sound, scores.max(1), np.nan)])


def _analysis(names, truth, answers, right, images) -> Analysis:
    guesses = {name: each[0].astype(int) for name, each in answers.items()}
    sure = {name: each[1] for name, each in answers.items()}
    measures = {n: {m: float(right[m][n].mean()) for m in right} for n in answers}
    intervals, cost = {name: {} for name in answers}, {}
    for measure, of_models in right.items():
        found, difference = share_intervals(of_models)
        for name, bounds in found.items():
            intervals[name][measure] = bounds
        cost[measure] = {
            "difference": measures["int8"][measure] - measures["keras"][measure],
            "interval": difference,
        }
    same = guesses["int8"] == guesses["keras"]
    cost["agreement"] = float(same.mean())
    per_class = _per_class(names, truth, guesses)
    calibration = {
        n: _calibration(sure[n], right["top1"][n]) for n in answers if np.isfinite(sure[n]).any()
    }
    changed = np.flatnonzero(~same)
    wrong = np.flatnonzero(~right["top1"]["int8"])
    wrong = wrong[np.argsort(-np.nan_to_num(sure["int8"][wrong], nan=2), kind="stable")]
    shown = images.pictures({*wrong[:PICTURES].tolist(), *changed[:PICTURES].tolist()})

    def said(model, number):
        guess = guesses[model][number]
        return (
            "no number" if guess == NONE else f"{names[guess]} ({percent(sure[model][number], 0)})"
        )

    def gallery(title, numbers, text):
        pictures = [
            Picture(images.name(i), text(i), {"": on_page(shown[i])}) for i in map(int, numbers)
        ]
        return Gallery(title, pictures)

    mistakes = gallery(
        f"The {min(len(wrong), PICTURES)} surest of {len(wrong)} wrong answers",
        wrong[:PICTURES],
        lambda i: f"said {said('int8', i)}, is {names[truth[i]]}",
    )
    changes = gallery(
        f"{len(changed)} of {len(truth)} answers changed",
        changed[:PICTURES],
        lambda i: f"Keras: {said('keras', i)}, int8: {said('int8', i)}, is {names[truth[i]]}",
    )
    main, bounds = measures["int8"]["top1"], intervals["int8"]["top1"]
    matrix = _confusion(names, truth, guesses["int8"], STORED_MATRIX)
    return Analysis(
        images=len(truth),
        skipped=images.skipped.skipped,
        sentence=f"The int8 file names the right class for {percent(main)} of {len(truth)} "
        f"image{'s' * (len(truth) > 1)} that it was not trained on ("
        f"{of_interval(bounds)})",
        titles={key: TITLES[key] for key in right},
        main="top1",
        measures=measures,
        intervals=intervals,
        int8_cost=cost,
        facts={
            "per_class": per_class,
            "confusion": None if matrix is None else matrix.tolist(),
            "calibration": calibration,
            "changed": [images.name(int(i)) for i in changed],
            "mistakes": [
                {
                    "image": images.name(int(i)),
                    "answer": None if guesses["int8"][i] == NONE else names[guesses["int8"][i]],
                    "score": float(sure["int8"][i]),
                    "truth": names[truth[i]],
                }
                for i in wrong
            ],
        },
        sections=[
            Section("Classes", _class_parts(names, truth, guesses["int8"], per_class)),
            Section("The worst mistakes of the int8 file", _or_none(mistakes, "It made none.")),
            Section("Answers that int8 changed", _or_none(changes, "None.")),
            Section("Can the scores be trusted?", _calibration_parts(calibration)),
        ],
        warnings=[
            *few_images(names, np.bincount(truth, minlength=len(names)).tolist()),
            *answers_not_numbers({n: int((each == NONE).sum()) for n, each in guesses.items()}),
        ],
    )


def _or_none(gallery: Gallery, otherwise: str) -> list:
    return [gallery] if gallery.pictures else [otherwise]


def _per_class(names, truth, guesses) -> list[dict]:
    with needs_extra():
        from sklearn.metrics import precision_recall_fscore_support
    numbers = np.arange(len(names))
    if len(names) > STORED_CLASSES:
        numbers = np.unique([truth, *guesses.values()])
        numbers = numbers[numbers != NONE]
    found = {
        name: precision_recall_fscore_support(truth, each, labels=numbers, zero_division=np.nan)
        for name, each in guesses.items()
    }
    counts = np.bincount(truth, minlength=len(names))
    return [
        {"class": names[number], "images": int(counts[number])}
        | {
            model: {"precision": _known(precision[place]), "recall": _known(recall[place])}
            for model, (precision, recall, *_) in found.items()
        }
        for place, number in enumerate(numbers)
    ]


def _known(value) -> float | None:
    return None if np.isnan(value) else float(value)


def _confusion(names, truth, guesses, most) -> np.ndarray | None:
    """Row: what is there, column: what was said; answers that are no number count nowhere."""
    with needs_extra():
        from sklearn.metrics import confusion_matrix
    good = guesses != NONE
    if len(names) > most:
        return None
    if not good.any() or len(names) == 1:  # of which scikit-learn would complain
        return np.full((len(names),) * 2, good.sum())
    return confusion_matrix(truth[good], guesses[good], labels=range(len(names)))


def _class_parts(names, truth, guesses, per_class) -> list:
    shown = [each for each in per_class if each["images"]] or per_class
    shown = sorted(shown, key=lambda each: each["int8"]["recall"] or 0)
    rows = [
        [
            each["class"],
            str(each["images"]),
            percent(each["int8"]["precision"]),
            percent(each["int8"]["recall"]),
            percent(each["keras"]["precision"]),
            percent(each["keras"]["recall"]),
        ]
        for each in (shown if len(shown) > LISTED_CLASSES else per_class)[:LISTED_CLASSES]
    ]
    head = ["class", "images", "precision, int8", "recall, int8"]
    head += ["precision, Keras", "recall, Keras"]
    worst = f": the {LISTED_CLASSES} found worst of {len(shown)}"
    parts = [
        "Precision: how many of those named so are right. Recall: how many of those there are "
        "named so.",
        Table("By class" + worst * (len(shown) > LISTED_CLASSES), head, rows),
    ]
    matrix = _confusion(names, truth, guesses, MATRIX_CLASSES)
    if matrix is not None:
        return [*parts, Matrix("What the int8 file takes for what, images", names, matrix)]
    pairs = Counter(
        (names[a], names[b]) for a, b in zip(truth, guesses, strict=True) if a != b and b != NONE
    )
    rows = [[*pair, str(count)] for pair, count in pairs.most_common(20)]
    return [*parts, Table("Confused most by the int8 file", ["is", "said", "images"], rows)]


def _calibration(sure, right) -> dict:
    """By tenths of the score: how many answers, their mean score, and how many are right."""
    good = np.isfinite(sure)
    sure, right = sure[good], right[good]
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    with np.errstate(invalid="ignore"):
        scores, hits = (np.bincount(places, each, BINS) / counts for each in (sure, right))
    gaps = np.where(counts, abs(scores - hits), 0)
    return {
        "expected_calibration_error": float((counts * gaps).sum() / counts.sum()),
        "images": counts.tolist(),
        "score": scores.tolist(),
        "accuracy": hits.tolist(),
    }


def _calibration_parts(calibration) -> list:
    if "int8" not in calibration:
        return ["The scores are no numbers."]
    errors = ", ".join(
        f"{MODELS[name]} {percent(each['expected_calibration_error'])}"
        for name, each in calibration.items()
    )
    lines = {}
    for name, each in calibration.items():
        lines[MODELS[name]] = each["score"], each["accuracy"]
    chart = Chart(
        "Share of right answers by score",
        "Reliability diagram: of answers with about the same score, the share that is right. "
        "On the diagonal the score is that share; below it the model is too sure.",
        "score of the answer",
        "share that is right",
        lines,
        diagonal=True,
    )
    return [
        "On the dashed line, answers with a score of 0.8 are right in 80 % of cases. Below it the "
        "model is surer than it may be.",
        chart,
        f"Mean distance from the line (expected calibration error): {errors}.",
    ]
