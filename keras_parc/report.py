"""The picture of the demonstration's report."""

import numpy as np

from keras_parc.paint import painted

SHOWN = 0.3  # least score of a box in the picture


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

    curves = {"training (augmented)": "top1", "validation (averaged)": "val_top1"}
    _measures(bottom, report, "accuracy", curves, "accuracy")
    return figure


def detection_figure(report: dict, pictures: list):
    """Draw pictures with boxes, the training curve, mean average precision and time.

    Args:
        report: What `keras_parc.demo.run_demo` returns.
        pictures: Up to 16 pictures of the test set with what the int8 file found.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    top.suptitle(f"What the int8 file finds in test scenes, scores of {SHOWN} or more")
    axes = top.subplots(2, 8)
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture in zip(axes.flat, pictures, strict=False):
        axis.imshow(picture)
    curves = {"mAP": "val_map", "at IoU 0.5": "val_map50"}
    _measures(bottom, report, "map", curves, "mAP")
    return figure


def segmentation_figure(report: dict, images: np.ndarray, truth: np.ndarray, maps: np.ndarray):
    """Draw class maps over sample images, the training curve, mean IoU and time.

    Args:
        report: What `keras_parc.demo.run_demo` returns.
        images: Test images, `(n, height, width, 3)`, 0..255.
        truth: Their masks, `(n, height, width)`.
        maps: Class maps of the int8 file, `(n, height, width)`.

    Returns:
        A matplotlib figure: above what is there, below what was found, the worst images first.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    wrong = (maps != truth).mean((1, 2))
    order = np.argsort(-wrong, kind="stable")
    chosen = [*order[:3], *order[len(order) // 2 :][:3]]
    top.suptitle("Test scenes: masks above, int8 below; the three worst, three in the middle")
    axes = top.subplots(2, len(chosen), squeeze=False)
    for column, index in zip(axes.T, chosen, strict=True):
        for axis, classes in zip(column, (truth[index], maps[index]), strict=True):
            axis.imshow(painted(images[index], classes))
            axis.set(xticks=[], yticks=[])
        column[1].set_xlabel(f"{100 * wrong[index]:.1f} % of pixels wrong")
    curves = {"training (augmented)": "miou", "validation (averaged)": "val_miou"}
    _measures(bottom, report, "mean_iou", curves, "mean IoU")
    return figure


def _measures(figure, report, measure: str, curves: dict[str, str], name: str) -> None:
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
