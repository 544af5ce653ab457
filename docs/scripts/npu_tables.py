"""The tables of NPUs, from what `make benchmark-npu` wrote: Vela's estimates, no measurements."""

from pathlib import Path

from tables import read, table

FORMS = Path(__file__).resolve().parents[2] / "experiments/results/npu_forms.csv"
NPUS = {"ethos-u55-128": "U55-128", "ethos-u65-256": "U65-256", "ethos-u85-256": "U85-256"}
EXPORTS = ("plain", "litert", "portable", "npu")


def models() -> str:
    """A row for each file: milliseconds on each NPU, memory, operations left to the CPU at most."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in read("npu.csv"):
        found.setdefault(row["model"], {})[row["npu"]] = row
    order = list(dict.fromkeys(_parts(name)[:2] for name in found))

    def place(name):
        model, side, export = _parts(name)
        return order.index((model, side)), EXPORTS.index(export)

    rows = []
    for name in sorted(found, key=place):
        model, side, export = _parts(name)
        each = [found[name].get(npu) for npu in NPUS]
        if not all(each):
            continue
        rows.append(
            [
                model,
                side,
                f"**{export}**" if export == "npu" else export,
                *(f"{float(row['ms']):.1f}" for row in each),
                f"{int(each[0]['sram_kib']) / 1024:.2f}",
                max((row["on_cpu"] for row in each), key=int),
            ]
        )
    times = [f"{npu}, ms" for npu in NPUS.values()]
    last = ["SRAM on the U55, MiB", "on the CPU"]
    return table(["model", "side", "export", *times, *last], rows)


def _parts(name: str) -> tuple[str, str, str]:
    model, side, export = Path(name).stem.rsplit("_", 2)
    return model, side, export


def forms() -> str:
    """A row for each form of a circular convolution, in thousands of cycles on each NPU."""
    cycles: dict[str, dict[int, list[str]]] = {}
    for row in read(FORMS):
        own = cycles.setdefault(row["form"], {}).setdefault(int(row["length"]), [])
        own.append(f"{float(row['kilocycles']):,.0f}")
    lengths = sorted({length for own in cycles.values() for length in own})
    rows = [
        [form, *(" / ".join(own[each]) if each in own else "" for each in lengths)]
        for form, own in cycles.items()
    ]
    return table(["form", *map(str, lengths)], rows)
