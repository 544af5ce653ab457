"""The README's tables of speed, from the CSV files that `make benchmark` writes."""

from pathlib import Path

from tables import medians, read, table

BASE = "mobilevit_s_256_rewritten_fp32"
# File names are <model>_<side>_<form>; emulated ARMv7 runs the portable form.
MODELS = {
    "parc_net_xs_256_rewritten": "ParC-Net-XS",
    "parc_net_s_256_rewritten": "ParC-Net-S",
    "parc_net_h_256_rewritten": "ParC-Net-H",
    "mobilevit_s_256_rewritten": "MobileViT-S, rewritten too",
    "kimm_mobilevit_s_256_own": "MobileViT-S of kimm, its exporter",
    "parc_net_s_256_plain": "ParC-Net-S, not rewritten",
}
RATIOS = [
    ("ParC-Net-S / itself, not rewritten", "parc_net_s_256_rewritten", "parc_net_s_256_plain"),
    ("ParC-Net-S / MobileViT-S, rewritten too", "parc_net_s_256_rewritten", BASE[:-5]),
]


INT8_RATIOS = {
    "ParC-Net-S int8 / MobileViT-S fp32": BASE,
    "ParC-Net-S int8 / its own fp32": "parc_net_s_256_rewritten_fp32",
}
# Ends of the names of the files, one for each machine.
MACHINES = ("", "_avx2")


def _latency(threads: int, machine: str = "") -> tuple[dict[str, float], dict[str, str]]:
    """Median milliseconds by file name, and the circumstances."""
    rows = read(f"latency_{threads}{machine}.csv")
    return medians(rows), rows[0]


def instructions(target: str) -> dict[str, float]:
    """Millions of instructions per inference by file name."""
    return {
        Path(row["model"]).stem: float(row["instructions"]) / 1e6
        for row in read(f"{target}.csv")
        if row["instructions"]
    }


def _armv7(instructions: dict[str, float], name: str) -> float | None:
    return instructions.get(_portable(name))


def _portable(name: str) -> str:
    return name.replace("_rewritten_", "_portable_")


def _crashes(target: str) -> set[str]:
    rows = read(f"{target}.csv")
    return {Path(row["model"]).stem for row in rows if row["verdict"].startswith("crashed")}


def _count(millions: float | None) -> str:
    return f"{millions:,.0f} M" if millions else ""


def models() -> str:
    """All models at 256x256, relative to MobileViT-S in float32."""
    one, facts = _latency(1)
    two, _ = _latency(2)
    armv7, arm64 = instructions("armv7x"), instructions("arm64")
    crashes = _crashes("armv7x")
    rows = []
    for stem, name in MODELS.items():
        cells = [name]
        for times in (one, two):
            for dtype in ("fp32", "int8"):
                time = times.get(f"{stem}_{dtype}")
                cells.append(f"{time / times[BASE]:.2f}" if time else "")
        for name in (_portable(f"{stem}_{dtype}") for dtype in ("fp32", "int8")):
            cells.append(_count(armv7.get(name)) or ("crashes" if name in crashes else ""))
        cells += [_count(arm64.get(f"{stem}_{dtype}")) for dtype in ("fp32", "int8")]
        rows.append(cells)
    head = ["256x256", "1 thread, fp32", "int8", "2 threads, fp32", "int8"]
    head += ["ARMv7 instructions, fp32", "int8", "arm64, fp32", "int8"]
    note = (
        f"Times relative to MobileViT-S in float32, which took {one[BASE]:.1f} ms on one thread and"
        f" {two[BASE]:.1f} ms on two; {facts['machine']}, {facts['runtime']}, {facts['runs']}"
        " interleaved runs."
    )
    return f"{table(head, rows)}\n\n{note}"


def headline() -> str:
    """The three ratios that matter, in a sentence; the first machine's."""
    times, facts = _latency(1)
    own = _ratios(times)
    plain, vit = (own[name] for name, *_ in RATIOS)
    int8 = own["ParC-Net-S int8 / MobileViT-S fp32"][1]
    return (
        f"ParC-Net-S at 256x256 on one thread of an {facts['machine']}: its int8 file takes "
        f"**{plain[1]}** of the time of a plain int8 conversion and **{int8}** of that of "
        f"MobileViT-S in float32; its float32 file takes **{vit[0]}** of the latter "
        f"([all figures](#speed))."
    )


def ratios() -> str:
    """The ratios that matter, one thread at 256x256, on each machine and in instructions."""
    found = [_latency(1, machine) for machine in MACHINES]
    armv7 = instructions("armv7x")
    names = [*(name for name, *_ in RATIOS), *INT8_RATIOS]
    columns = [_ratios(times) for times, _ in found]
    columns.append(_ratios(_rewritten(armv7)))
    head = ["256x256, one thread"]
    for where in (*(facts["machine"] for _, facts in found), "ARMv7 instructions"):
        head += [f"{where}: fp32", "int8"]
    rows = [[name, *(cell for column in columns for cell in column[name])] for name in names]
    return table(head, rows)


def _rewritten(armv7: dict[str, float]) -> dict[str, float]:
    """By the names that the files have on other machines."""
    return {name.replace("_portable_", "_rewritten_"): count for name, count in armv7.items()}


def _ratios(times: dict[str, float]) -> dict[str, list[str]]:
    """The cells of one machine, fp32 and int8, by row."""
    cells = {
        name: [f"{times[f'{first}_{d}'] / times[f'{second}_{d}']:.2f}" for d in ("fp32", "int8")]
        for name, first, second in RATIOS
    }
    int8 = times["parc_net_s_256_rewritten_int8"]
    return cells | {name: ["", f"{int8 / times[of]:.2f}"] for name, of in INT8_RATIOS.items()}


def sizes() -> str:
    """ParC-Net-S at all sizes, relative to 256x256."""
    times, _ = _latency(1)
    found = sorted(
        int(stem.split("_")[3])
        for stem in times
        if stem.startswith("parc_net_s_") and stem.endswith("_rewritten_fp32")
    )
    rows = []
    for dtype in ("fp32", "int8"):
        base = times[f"parc_net_s_256_rewritten_{dtype}"]
        row = [times[f"parc_net_s_{side}_rewritten_{dtype}"] / base for side in found]
        rows.append([dtype, *(f"{value:.2f}" for value in row)])
    return table(["ParC-Net-S", *map(str, found)], rows)
