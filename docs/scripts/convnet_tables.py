"""The README's table of ParC in other ConvNets: counted, and timed in `convnets.csv`."""

from tables import medians, read, size, table

import keras_parc
from experiments.paper.rows import MODELS


def convnets() -> str:
    """Size of each model, and its time relative to the same model without ParC."""
    times = medians(read("convnets.csv"))
    rows = []
    entries = keras_parc.list_models("classification", listed=True)
    names = list(dict.fromkeys(row.function for row in MODELS))  # in the paper's order
    entries = [entry for entry in entries if "plain" in entry.variants]
    for entry in sorted(entries, key=lambda entry: names.index(entry.name)):
        plain, parc = (row for row in MODELS if row.function == entry.name)
        ratios = [
            times[f"{parc.files}_224_rewritten_{dtype}"]
            / times[f"{plain.files}_224_rewritten_{dtype}"]
            for dtype in ("fp32", "int8")
        ]
        in_paper = parc.milliseconds / plain.milliseconds
        rows.append(
            [
                *size(entry),
                *(f"{ratio:.2f}" for ratio in ratios),
                "equal" if in_paper == 1 else f"{in_paper:.2f}",
            ]
        )
    head = ["model", "parameters", "multiply-adds, 224x224", "time / plain, fp32", "int8", "paper"]
    return table(head, rows)
