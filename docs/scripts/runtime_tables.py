"""The tables of tflite/README.md on runtimes, from the CSV file that `make runtimes` writes."""

from tables import read, table

FIGURES = "runtimes.csv"


def runtimes(model: str | None = None) -> str:
    """Partitions, operations outside and agreement of each file on each runtime.

    Of one model, or of all; empty if there is none.
    """
    files: dict[str, dict[str, dict[str, str]]] = {}
    versions: dict[str, str] = {}
    for row in read(FIGURES):
        if model not in (None, row["model"]):
            continue
        name = " ".join(row[key] for key in ("model", "size", "dtype", "target"))
        files.setdefault(name, {})[row["runtime"]] = row
        versions[row["runtime"]] = row["version"]
    if not files:
        return ""
    first = next(iter(files.values()))
    telling = [runtime for runtime, row in first.items() if row["partitions"]]
    parts = []
    for title, columns, cell in [
        ("partitions + operations outside", telling, _partitions),
        ("largest difference", versions, _difference),
    ]:
        head = [title, *(f"{runtime}: {versions[runtime]}" for runtime in columns)]
        rows = [[name, *(cell(found[each]) for each in columns)] for name, found in files.items()]
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def _partitions(row: dict[str, str]) -> str:
    outside = sum(int(each.split()[0]) for each in row["outside"].split(", ") if each)
    return row["partitions"] + (f" + {outside}" if outside else "")


def _difference(row: dict[str, str]) -> str:
    text = f"{row['difference']} {row['unit']}"
    if row["reference_difference"]:
        text += f" ({row['reference_difference']})"
    if row["outside"] and row["noise"]:
        text += f", noise x{row['noise']}"
    return text + ("" if row["top1_same"] == "True" else ", other class")
