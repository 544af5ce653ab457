"""Charts as SVG, for light and for dark pages."""

from __future__ import annotations

import io

import numpy as np

from keras_parc.support.extras import needs_extra
from keras_parc.tasks.analysis import MODELS, Chart

# Okabe and Ito's palette, distinguishable with any colour vision, on white and on black.
COLOURS = ("#3b8ec2", "#d99000", "#d9541e", "#009e73")
STYLES = ("-", "--", "-", ":")
WIDTHS = (3.5, 2, 1.5, 2)  # where lines lie on each other, the lower ones are seen
_INK = "#010203"  # stands for the colour of the text
INKS = {"light": "#1b1f23", "dark": "#e6e9ec"}


def svg(chart: Chart) -> dict[str, str]:
    """Draw a chart.

    Args:
        chart: What to draw.

    Returns:
        The text of an SVG file without background for "light" and for "dark" pages.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with needs_extra():
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    ink = {
        key: _INK
        for key in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    }
    # Text as text, in the font of the page; the same file each time.
    fixed = {"svg.fonttype": "none", "svg.hashsalt": "keras_parc", "font.family": "sans-serif"}
    with rc_context(ink | fixed | {"font.size": 11}):
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        axis = figure.subplots()
        if chart.diagonal:
            axis.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle="--")
        for place, (name, (x, y)) in enumerate(chart.lines.items()):
            y = np.array([np.nan if each is None else each for each in y], float)
            axis.plot(
                x,
                y,
                color=COLOURS[place % len(COLOURS)],
                linestyle=STYLES[place % len(STYLES)],
                linewidth=WIDTHS[place % len(WIDTHS)] if len(chart.lines) == len(MODELS) else 2,
                marker="o" if np.isfinite(y).sum() <= 20 else None,
                markersize=4,
                label=name,
            )
        if chart.marked is not None:
            axis.axvline(chart.marked, color=_INK, linewidth=0.8, linestyle=":")
        axis.set(xlabel=chart.x, ylabel=chart.y)
        if chart.shares:
            axis.set(xlim=(0, 1), ylim=(0, 1.02))
        else:
            axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color=_INK, alpha=0.12, linewidth=0.8)
        axis.legend(frameon=False, fontsize=10)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return {page: file.getvalue().replace(_INK, colour) for page, colour in INKS.items()}
