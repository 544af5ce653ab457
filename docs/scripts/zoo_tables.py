"""The tables of other people's models, from what `make export-zoo` wrote."""

from collections.abc import Callable
from pathlib import Path

from tables import read, table

FIGURES = Path(__file__).resolve().parents[2] / "experiments/results/export_zoo.csv"
WAYS = ("ours", "plain", "plain, batch 1")
PRECISIONS = ("float32", "int8")
RIGHT = 1e-4  # of the largest output: a float32 file that differs by more is wrong
HALF_A_DECIBEL = 0.5  # the same model, images and method, twice: int8 ranges are chosen with luck
Row = dict[str, str]


def _models(precision: str) -> dict[tuple[str, str], dict[str, Row]]:
    """Source and model to the rows of its three ways."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in read(FIGURES):
        if row["precision"] == precision:
            found.setdefault((row["source"], row["model"]), {})[row["way"]] = row
    return found


def full(precision: str) -> str:
    """A row for each model: ours / plain / plain at batch 1 in every cell, and who does not."""
    names = {"float32": "difference", "int8": "dB"}
    head = ["model", "from", names[precision], "partitions + outside", "MB", "time, relative"]
    cells: list[Callable[[Row], str]] = [
        lambda row: row["difference" if precision == "float32" else "decibels"],
        lambda row: row["partitions"] + (f" + {row['outside']}" if row["outside"] != "0" else ""),
        lambda row: row["megabytes"],
        lambda row: row["ratio"] or "?",
    ]
    rows, refused = [], []
    for (source, model), ways in sorted(_models(precision).items()):
        found = [ways[way] for way in WAYS]
        parts = [
            " / ".join(cell(row) if row["converts"] == "yes" else "-" for row in found)
            for cell in cells
        ]
        rows.append([model, source, *parts])
        refused += [
            f"- {model} ({source}), {row['way']}: {_plain_text(row['converts'])}"
            for row in found
            if row["converts"] != "yes"
        ]
    parts = [table(head, rows)]
    if refused:
        parts.append("Not converted, or not run:\n\n" + "\n".join(refused))
    return "\n\n".join(parts)


def _plain_text(reason: str) -> str:
    """A message as Markdown shows it as it is."""
    return "`" + reason.replace("`", "'") + "`"


def right(row: Row, base: Row) -> bool:
    """Whether a file was made, and a float32 one is equal to its model.

    Of a deep model with random weights even the plain file may be further away than `RIGHT`, by
    rounding: up to twice that is right too.
    """
    if row["converts"] != "yes":
        return False
    plain = float(base["difference"]) if base["converts"] == "yes" else 0.0
    limit = max(RIGHT, 2 * plain) if plain < 10 * RIGHT else RIGHT
    return row["precision"] == "int8" or float(row["difference"]) <= limit


def short() -> str:
    """How many models each way gets right, and in how many ours is no worse."""
    head = ["", "models", *(f"right: {way}" for way in WAYS), "as few partitions", "as close"]
    rows = []
    for precision in PRECISIONS:
        models = _models(precision)
        counts = [sum(right(ways[way], ways[WAYS[-1]]) for ways in models.values()) for way in WAYS]
        both = [
            (ways["ours"], base)
            for ways in models.values()
            if right(ways["ours"], base := ways[WAYS[-1]]) and right(base, base)
        ]
        fewer = sum(int(a["partitions"]) <= int(b["partitions"]) for a, b in both)
        closer = sum(_as_close(a, b) for a, b in both)
        rows.append(
            [
                precision,
                str(len(models)),
                *map(str, counts),
                f"{fewer} of {len(both)}",
                f"{closer} of {len(both)}",
            ]
        )
    return table(head, rows)


def _as_close(a: Row, b: Row) -> bool:
    if a["precision"] == "float32":
        return True  # both are right
    return float(a["decibels"]) >= float(b["decibels"]) - HALF_A_DECIBEL
