"""The sections of a report's page that are the same for every task."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from keras_parc.report.page import Commands, Listing
from keras_parc.report.run import FORMATS, Run
from keras_parc.support.text import first_of
from keras_parc.tasks.analysis import (
    MODELS,
    Analysis,
    Chart,
    Section,
    Table,
    percent,
)
from keras_parc.training.recipes import Recipe

LISTED_CLASSES = 100


def page_title(run: Run, recipe: Recipe) -> str:
    """The heading: the folder of the run, and what was trained."""
    return f"{run.folder.resolve().name}: {recipe.model}, {recipe.task}"


def result_sentence(analysis: Analysis, report: Mapping[str, Any]) -> str:
    """The result of the int8 file beside that of the model."""
    cost = report["int8_cost"][analysis.main]["difference"]
    if cost is None:
        return f"{analysis.sentence}."
    points = round(100 * abs(cost), 1)
    than = "less" if cost < 0 else "more"
    compared = f"{points} points {than} than" if points else "the same as"
    return f"{analysis.sentence}, {compared} the Keras model."


def warnings_of(builder, recipe: Recipe, analysis: Analysis) -> list[str]:
    """What to know before trusting the figures."""
    from keras_parc.data.sets.advice import FEW
    from keras_parc.data.sources import is_folder

    warnings = list(analysis.warnings)
    if analysis.skipped:
        which = first_of([f"{name} ({why})" for name, why in analysis.skipped.items()])
        warnings.insert(0, f"Left out of the measuring, as they cannot be used: {which}.")
    if analysis.images < 2:
        warnings.insert(0, "Measured on a single image: no interval can be given.")
    if is_folder(builder):
        few = [f"{name} ({n})" for name, n in builder.report.classes.items() if n < FEW]
        if few:
            warnings.append(f"Fewer than {FEW} in all splits together: {first_of(few)}.")
    return warnings


def sections_of(
    run: Run,
    analysis: Analysis,
    report: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    score: str,
) -> list[Section]:
    """All sections of the page, in order.

    Args:
        run: The run.
        analysis: What its task found.
        report: The content of `report.json`.
        history: A row of measures for each epoch.
        score: The name of the measure that chose the epochs.
    """
    return [
        Section("Result", _result(analysis, report)),
        *analysis.sections,
        Section("Training", _training(history, score, analysis.titles[score])),
        Section("Size and speed", _size_and_speed(report)),
        Section("Data", _data(report["data"], report)),
        *([Section("Licence", [_licence(report["weights"])])] if report["weights"] else []),
        Section("To go on", [_commands(run)]),
    ]


def _result(analysis, report) -> list:
    def cell(model, measure):
        value = percent(report["measures"][model][measure])
        bounds = report["intervals"][model].get(measure)
        return (
            value
            if bounds is None
            else f"{value}\n{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"
        )

    rows = [
        [title, *(cell(model, measure) for measure in analysis.titles)]
        for model, title in MODELS.items()
    ]
    cost = report["int8_cost"]
    costs = [
        [title, _points(cost[measure]["difference"]), _points_between(cost[measure]["interval"])]
        for measure, title in analysis.titles.items()
    ]
    split, only = report["split"], report["images"] == 1
    return [
        f"Measured on {report['images']} image{'s' * (not only)} of the split {split!r}, on which "
        "the model was not trained. "
        + (
            "Nothing else was done with them."
            if split == "test"
            else "The epochs that were kept were chosen on them, which flatters a little."
        ),
        Table("Measures, with 95 % bootstrap intervals", ["", *analysis.titles.values()], rows),
        *([analysis.note] if analysis.note else []),
        Table(
            "What int8 changes against the Keras model, in points",
            ["", "difference", "95 % interval"],
            costs,
        ),
        f"Keras model and int8 file agree on {percent(cost['agreement'])} of the "
        f"{'pixels' if report['task'] == 'segmentation' else 'images'}.",
    ]


def _points(value) -> str:
    if value is None:
        return "-"
    points = round(100 * value, 1)
    return f"{points:+.1f}" if points else "0.0"


def _points_between(bounds) -> str:
    return "no interval" if bounds is None else f"{_points(bounds[0])} to {_points(bounds[1])}"


def _training(history, score, name) -> list:
    epochs = [row["epoch"] for row in history]
    charts = []
    for title, key in (("loss", "loss"), (name, score)):
        lines = {
            name: (epochs, [row.get(column) for row in history])
            for name, column in (("training", key), ("validation", f"val_{key}"))
            if any(column in row for row in history)
        }
        if lines:
            charts.append(
                Chart(
                    f"{title[0].upper()}{title[1:]} by epoch",
                    f"The last: {_last(lines)}.",
                    "epoch",
                    title,
                    lines,
                    shares=False,
                )
            )
    return charts or ["No epoch was recorded."]


def _last(lines) -> str:
    return ", ".join(
        f"{name} {values[-1]:.3f}" for name, (_, values) in lines.items() if values[-1] is not None
    )


def _size_and_speed(report) -> list:
    def row(title, cell):
        return [title, *(cell(model) if model in known else "-" for model in MODELS)]

    times, known = report["latency"], MODELS
    rows = [
        row("size, MB", lambda model: f"{report['bytes'][model] / 1e6:.2f}"),
        row("one image, ms", lambda model: f"{times[model]['median_ms']:.2f}"),
        row(
            "10 to 90 % of calls",
            lambda model: "{p10_ms:.2f} to {p90_ms:.2f}".format(**times[model]),
        ),
    ]
    known = FORMATS
    rows += [
        row("memory, MB", lambda model: f"{report['memory'][model] / 1e6:.2f}"),
        row("XNNPACK partitions", lambda model: str(report["partitions"][model])),
        row("operations outside", lambda model: _operations(report["outside"][model])),
    ]
    return [
        Table("The model and its files", ["", *MODELS.values()], rows),
        f"Measured on {report['machine']}, in turns, the median of the calls; a file runs on one "
        "thread, Keras on all. Memory: what the runtime plans for inputs and results, beside the "
        "file. One partition and nothing outside is best.",
    ]


def _operations(counts) -> str:
    return "\n".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _data(data, report) -> list:
    splits = [[name, str(count)] for name, count in data["splits"].items()]
    parts = [
        f"{data['name']}, read as {data['format']}; validation split: {data['validation']}."
        if "format" in data
        else f"{data['name']}.",
        Table("Images by split", ["split", "images"], splits),
    ]
    classes = data.get("classes", {})
    if classes:
        fewest = sorted(classes.items(), key=lambda each: each[1])[:LISTED_CLASSES]
        shown = classes.items() if len(classes) <= LISTED_CLASSES else fewest
        title = "By class, all splits" + (
            f": the {LISTED_CLASSES} rarest of {len(classes)}" * (len(classes) > LISTED_CLASSES)
        )
        what = "objects" if report["task"] == "detection" else "images"
        parts.append(Table(title, ["class", what], [[name, str(n)] for name, n in shown]))
    notes = data.get("notes", {})
    if notes:
        parts.append(
            Listing([f"{why}: {len(which)} ({first_of(which)})" for why, which in notes.items()])
        )
    elif "notes" in data:
        parts.append("Nothing was changed or left out.")
    return parts


def _licence(weights) -> str:
    return "; ".join(f"{key}: {value}" for key, value in weights.items())


def _commands(run: Run) -> Commands:
    folder = shlex.quote(str(run.folder))
    file = shlex.quote(str(run.folder / "model_int8.tflite"))
    both = f"{file} {shlex.quote(str(run.folder / 'model_float32.tflite'))}"
    return Commands(
        [
            ("What is in a picture:", f"keras-parc predict {folder} photo.jpg"),
            ("Measure again, or on other data:", f"keras-parc evaluate {folder}"),
            (
                "On the device, with run.py and benchmark.py of the project's folder tflite, which "
                "need numpy and a runtime only:",
                f"python run.py photo.jpg {file}\npython benchmark.py {both}",
            ),
            ("Renew this page:", f"keras-parc report {folder}"),
        ]
    )
