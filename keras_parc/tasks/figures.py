"""The picture of the demonstration's report."""

import numpy as np


def measures_panel(figure, report, measure: str, curves: dict[str, str], name: str) -> None:
    """The training curve by epoch, a measure of every model, called `name`, and times."""
    curve, accuracy, latency = figure.subplots(1, 3)
    rows = report["history"]
    epochs = [row["epoch"] for row in rows]
    for (label, key), style in zip(curves.items(), ("k--o", "k-s"), strict=True):
        curve.plot(epochs, [row[key] for row in rows], style, label=label)
    curve.set(xlabel="epoch", ylabel=name, title="Training", xticks=epochs, ylim=(0, 1.02))
    curve.legend(loc="best")
    values = {model: 100 * value for model, value in report[measure].items()}
    _bars(accuracy, values, f"Test {name}, %", "{:.1f}")
    times = report["time_one_image_one_thread"]
    _bars(
        latency,
        {name: times[name]["median_ms"] for name in times},
        "One image, one thread*, ms",
        "{:.2f}",
    )
    latency.set_yscale("log")
    latency.set_xlabel("* Keras takes all cores; log scale")


def _bars(axis, values, title, form):
    shades = np.linspace(0.75, 0.35, len(values)).astype(str)
    bars = axis.bar(list(values), list(values.values()), color=shades, edgecolor="black")
    axis.bar_label(bars, [form.format(value) for value in values.values()])
    axis.set_title(title)
    axis.margins(y=0.15)
