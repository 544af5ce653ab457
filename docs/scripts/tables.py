"""What the generated tables share: Markdown, the CSV files of results, the size of a model."""

import math
import sys
from pathlib import Path

import keras_parc

# `experiments` is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.paper.tables import markdown
from keras_parc.support.files import read_rows

RESULTS = Path(__file__).resolve().parents[2] / "tflite/results"
table = markdown


def read(name: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by default one of `tflite/results`."""
    return read_rows(RESULTS / name)


def medians(rows: list[dict[str, str]]) -> dict[str, float]:
    """Median milliseconds by file name, from what `tflite/benchmark.py` wrote."""
    return {Path(row["model"]).stem: float(row["median_ms"]) for row in rows}


def size(entry: keras_parc.ModelEntry) -> list[str]:
    """Name, parameters and multiply-adds of a registered model, as cells."""
    model = entry.build()
    count = sum(math.prod(v.shape) for v in model.trainable_variables)
    return [f"`{entry.name}`", f"{count:,}", f"{keras_parc.count_macs(model) / 1e6:,.0f} M"]
