"""The picture of the demonstration's report."""

import numpy as np


def demo_figure(report: dict, images: np.ndarray, labels: np.ndarray, scores: np.ndarray):
    """Draw sample predictions, the training curve, accuracy and time.

    Args:
        report: What `keras_parc.demo.run_demo` returns.
        images: Test images, `(n, height, width, 3)`, 0..255.
        labels: Their labels, `(n,)`.
        scores: Class probabilities of the int8 file, `(n, 10)`.

    Returns:
        A matplotlib figure. Wrong predictions come first and are framed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    guesses = scores.argmax(axis=1)
    # Half of the pictures are mistakes, as far as there are any: those tell more.
    order = np.argsort(guesses == labels, kind="stable")
    wrong = order[: min(8, int((guesses != labels).sum()))]
    right = order[::-1][: 16 - len(wrong)]
    axes = top.subplots(2, 8)
    top.suptitle(
        f"int8 predictions on test scenes: {len(wrong)} of the {int((guesses != labels).sum())} "
        f"mistakes among {len(labels)}, then correct ones"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, index in zip(axes.flat, [*wrong, *right], strict=False):
        axis.axis("on")
        axis.imshow(images[index].astype("uint8"))
        axis.set(xticks=[], yticks=[])
        mistake = guesses[index] != labels[index]
        title = f"{guesses[index]} ({100 * scores[index].max():.0f} %)"
        axis.set_title(f"{title}, is {labels[index]}" if mistake else title, fontsize=10)
        for spine in axis.spines.values():
            spine.set(linewidth=3 if mistake else 0.5)

    curve, accuracy, latency = bottom.subplots(1, 3)
    rows = report["history"]
    epochs = [row["epoch"] for row in rows]
    curve.plot(epochs, [row["top1"] for row in rows], "k--o", label="training (augmented)")
    curve.plot(epochs, [row["val_top1"] for row in rows], "k-s", label="validation (averaged)")
    curve.set(xlabel="epoch", ylabel="accuracy", title="Training", xticks=epochs, ylim=(0, 1.02))
    curve.legend(loc="lower right")
    _bars(
        accuracy,
        {name: 100 * value for name, value in report["accuracy"].items()},
        "Test accuracy, %",
        "{:.1f}",
    )
    times = report["time_one_image_one_thread"]
    _bars(
        latency,
        {name: times[name]["median_ms"] for name in times},
        "One image, one thread*, ms",
        "{:.2f}",
    )
    latency.set_yscale("log")
    latency.set_xlabel("* Keras takes all cores; log scale")
    return figure


def _bars(axis, values, title, form):
    shades = np.linspace(0.75, 0.35, len(values)).astype(str)
    bars = axis.bar(list(values), list(values.values()), color=shades, edgecolor="black")
    axis.bar_label(bars, [form.format(value) for value in values.values()])
    axis.set_title(title)
    axis.margins(y=0.15)
