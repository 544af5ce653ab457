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


def _latency(threads: int) -> tuple[dict[str, float], dict[str, str]]:
    """Median milliseconds by file name, and the circumstances."""
    rows = read(f"latency_{threads}.csv")
    return medians(rows), rows[0]


def instructions(target: str) -> dict[str, float]:
    """Millions of instructions per inference by file name."""
    return {
        Path(row["model"]).stem: float(row["instructions"]) / 1e6
        for row in read(f"{target}.csv")
        if row["instructions"]
    }


def _armv7(instructions: dict[str, float], name: str) -> float | None:
    return instructions.get(name.replace("_rewritten_", "_portable_"))


def models() -> str:
    """All models at 256x256, relative to MobileViT-S in float32."""
    one, facts = _latency(1)
    two, _ = _latency(2)
    armv7, arm64 = instructions("armv7x"), instructions("arm64")
    rows = []
    for stem, name in MODELS.items():
        cells = [name]
        for times in (one, two):
            for dtype in ("fp32", "int8"):
                time = times.get(f"{stem}_{dtype}")
                cells.append(f"{time / times[BASE]:.2f}" if time else "")
        for dtype in ("fp32", "int8"):
            count = _armv7(armv7, f"{stem}_{dtype}")
            cells.append(f"{count:,.0f} M" if count else "")
        for dtype in ("fp32", "int8"):
            count = arm64.get(f"{stem}_{dtype}")
            cells.append(f"{count:,.0f} M" if count else "")
        rows.append(cells)
    head = ["256x256", "1 thread, fp32", "int8", "2 threads, fp32", "int8"]
    head += ["ARMv7 instructions, fp32", "int8", "arm64, fp32", "int8"]
    note = (
        f"Times relative to MobileViT-S in float32, which took {one[BASE]:.1f} ms on one thread and"
        f" {two[BASE]:.1f} ms on two; {facts['machine']}, {facts['runtime']}, {facts['runs']}"
        " interleaved runs."
    )
    return f"{table(head, rows)}\n\n{note}"


def ratios() -> str:
    """The ratios that matter, one thread at 256x256."""
    times, _ = _latency(1)
    armv7 = instructions("armv7x")
    rows = []
    for name, first, second in RATIOS:
        values = [times[f"{first}_{d}"] / times[f"{second}_{d}"] for d in ("fp32", "int8")]
        rows.append([name, *(f"{value:.2f}" for value in values)])
    int8 = times["parc_net_s_256_rewritten_int8"]
    rows.append(["ParC-Net-S int8 / MobileViT-S fp32", "", f"{int8 / times[BASE]:.2f}"])
    own = int8 / times["parc_net_s_256_rewritten_fp32"]
    rows.append(["ParC-Net-S int8 / its own fp32", "", f"{own:.2f}"])
    values = [
        _armv7(armv7, f"parc_net_s_256_rewritten_{d}")
        / _armv7(armv7, f"mobilevit_s_256_rewritten_{d}")
        for d in ("fp32", "int8")
    ]
    rows.append(["ParC-Net-S / MobileViT-S, ARMv7 instructions", *(f"{v:.2f}" for v in values)])
    return table(["256x256, one thread", "fp32", "int8"], rows)


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
