"""The guide's table of maps in strips, from what `python -m experiments.strips` writes."""

from pathlib import Path

from tables import read, table

RESULTS = Path(__file__).parents[2] / "experiments/results"


def strips() -> str:
    """Memory and time of each model whole and in strips."""
    found = {}
    for row in read(RESULTS / "strips.csv"):
        found.setdefault((row["model"], row["side"], row["dtype"]), []).append(row)
    cells = []
    for (model, side, dtype), (whole, *cut) in found.items():
        cells.append([f"{model}, {side}x{side}, {dtype}", whole["peak_mb"], whole["milliseconds"]])
        for row in cut:
            cells[-1] += [row["peak_mb"], row["ratio"]]
    caches = [row["cache_kib"] for row in next(iter(found.values()))[1:]]
    head = ["", "whole, MB", "ms"]
    for cache in caches:
        head += [f"{cache} KiB, MB", "time / whole"]
    row = next(iter(found.values()))[0]
    about = f"{row['machine']}, one thread; a copy of 64 MB took {row['copy_64_mb_ms']} ms."
    return f"{table(head, cells)}\n\n{about}"
