"""The table of the steps of the int8 export, from what `experiments.int8_steps` wrote."""

from tables import read, table

CSV = "int8_steps.csv"


def steps() -> str:
    """A row for each step, a column for each model it was measured on: decibels and same class."""
    rows = [row for row in read(CSV) if row["seconds"]]
    models = list(dict.fromkeys(row["model"] for row in rows))
    found = {(row["step"], row["model"]): row for row in rows}
    names = dict.fromkeys(row["step"] for row in rows)
    cells = [[name, *(_cell(found.get((name, model))) for model in models)] for name in names]
    return table(["dB, same answer", *models], cells)


def _cell(row: dict[str, str] | None) -> str:
    if row is None:
        return ""
    return f"{float(row['logits_snr_db']):.1f}, {100 * float(row['agreement']):.1f} %"
