"""The guide's table of maps in strips, from what `python -m experiments.strips` writes."""

from pathlib import Path

from tables import RESULTS, read, table

STRIPS = Path(__file__).parents[2] / "experiments/results/strips.csv"
ARM = "strips_armv7x.csv"


def strips() -> str:
    """Memory and time of each model whole and in strips."""
    found, on_arm = {}, {}
    for row in read(STRIPS):
        key = f"{row['model']}_{row['side']}_{row['dtype']}"
        found.setdefault(key, {})[row["strips"]] = row
    if (RESULTS / ARM).is_file():
        on_arm = {row["model"].removesuffix(".tflite"): row for row in read(ARM)}
    cells = []
    for key, each in found.items():
        whole, cut, small = each["whole"], each["litert"], each["portable"]
        memory = " -> ".join(row["peak_mb"] for row in (whole, cut, small))
        time = f"{whole['milliseconds']} ms, {cut['ratio']}, {small['ratio']}"
        arm = [on_arm.get(f"{key}_{name}") for name in ("whole", "strips")]
        traffic = " -> ".join(f"{float(row['memory_mb']):.0f}" for row in arm if row)
        counted = " -> ".join(f"{int(row['instructions']) / 1e6:.0f}" for row in arm if row)
        title = f"{whole['model']}, {whole['side']}x{whole['side']}, {whole['dtype']}"
        cells.append([title, memory, time, traffic, counted])
    head = ["", "MB at once: whole, litert, portable", "time here, and relative"]
    head += ["ARMv7: MB from and to memory", "million instructions"]
    row = next(iter(found.values()))["whole"]
    about = f"{row['machine']}, one thread; a copy of 64 MB took {row['copy_64_mb_ms']} ms."
    return f"{table(head, cells)}\n\n{about}"
