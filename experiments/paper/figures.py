"""Figures 5 to 7 of the paper and the ablation, as matplotlib figures. Needs matplotlib."""

from collections.abc import Sequence

from experiments.paper.rows import ABLATIONS, MODELS, SCORES, TITLES

_MARKS = "osD^v<>*"
_FIGURES = {"classification": 5, "detection": 6, "segmentation": 7}


def results_figure(task: str, summary: Sequence[dict]):
    """One of Figures 5 to 7: results over parameters, the paper's, beside those on digit scenes.

    Args:
        task: "classification" (Figure 5), "detection" (6) or "segmentation" (7).
        summary: What `experiments.paper.ablation.summary` returns.

    Returns:
        A matplotlib figure.

    Example:
        >>> figure = results_figure("detection", [])
        >>> figure.axes[0].get_ylabel()
        'COCO mAP, %'
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    rows = MODELS if task == "classification" else [r for r in ABLATIONS if r.task == task]
    for row, mark in zip(rows, _MARKS, strict=False):
        score = row.top1 if task == "classification" else row.score
        fill = "full" if row.name.startswith("ParC") else "none"
        left.plot(row.millions, score, f"k{mark}", fillstyle=fill, markersize=8, label=row.name)
    left.legend(fontsize=8, loc="best")
    title = TITLES[SCORES[task]]
    left.margins(x=0.3, y=0.2)
    left.set(title=f"The paper's values, Figure {_FIGURES[task]}", ylabel=f"{title}, %")
    left.set(xlabel="parameters, millions")
    _bars(right, [each for each in summary if each["task"] == task], SCORES[task])
    return figure


def ablation_figure(summary: Sequence[dict]):
    """Table 2 on digit scenes, a panel for each task; error bars are a standard deviation.

    Args:
        summary: What `experiments.paper.ablation.summary` returns.

    Returns:
        A matplotlib figure.

    Example:
        >>> len(ablation_figure([]).axes)
        3
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    for axis, task in zip(figure.subplots(1, 3), SCORES, strict=True):
        _bars(axis, [each for each in summary if each["task"] == task], SCORES[task])
    return figure


def _bars(axis, rows: Sequence[dict], score: str) -> None:
    """Mean and spread of each row, the first on top."""
    axis.set_title(f"Here: digit scenes, {TITLES[score].split()[-1]}, %")
    if not rows:
        axis.text(0.5, 0.5, "not trained yet", ha="center", transform=axis.transAxes)
        axis.set(xticks=[], yticks=[])
        return
    names = [f"{each['row']}  {each['name']}" for each in rows]
    means = [each["mean"] for each in rows]
    axis.errorbar(means, names, xerr=[each["spread"] or 0 for each in rows], fmt="ko", capsize=4)
    axis.invert_yaxis()
    axis.margins(x=0.15, y=0.1)
    axis.grid(axis="x", alpha=0.4)
