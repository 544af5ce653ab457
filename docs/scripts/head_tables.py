"""The README's tables of detectors and segmenters, from what `make benchmark-heads` writes."""

from pathlib import Path

from benchmark_tables import instructions
from tables import medians, read, table

# File names are <head>_<backbone>_<side>_<form>_<dtype>.
BACKBONES = {"parc_net_s": "ParC-Net-S", "mobilevit_s": "MobileViT-S"}
DTYPES = ("fp32", "int8")


def detectors() -> str:
    """SSDLite: time, post-processing included, and instructions."""
    return _speed("ssd", (320,))


def segmenters() -> str:
    """DeepLabV3: time and instructions, then memory."""
    return f"{_speed('deeplab_v3', (256, 512))}\n\n{_memory('deeplab_v3', (256, 512))}"


def _columns(sides: tuple[int, ...], first: str) -> list[str]:
    return [first, *(f"{side}x{side}, {dtype}" for side in sides for dtype in DTYPES)]


def _speed(head: str, sides: tuple[int, ...]) -> str:
    """Time at all sides relative to MobileViT-S in float32; instructions at the first."""
    rows, armv7 = read("heads.csv"), instructions("heads_armv7x")
    times, base = medians(rows), f"{head}_mobilevit_s_{{}}_rewritten_fp32"
    cells = []
    for backbone, name in BACKBONES.items():
        stem = f"{head}_{backbone}"
        ratios = [
            times[f"{stem}_{side}_rewritten_{dtype}"] / times[base.format(side)]
            for side in sides
            for dtype in DTYPES
        ]
        counts = [armv7[f"{stem}_{sides[0]}_portable_{dtype}"] for dtype in DTYPES]
        cells.append([name, *(f"{x:.2f}" for x in ratios), *(f"{x:,.0f} M" for x in counts)])
    took = " and ".join(f"{times[base.format(side)]:.1f} ms at {side}x{side}" for side in sides)
    note = (
        f"Times relative to MobileViT-S in float32, which took {took}; {rows[0]['machine']}, "
        f"{rows[0]['runtime']}, {rows[0]['runs']} interleaved runs. Random weights."
    )
    head_cells = _columns(sides, "time, one thread")
    head_cells += [f"ARMv7 instructions at {sides[0]}x{sides[0]}, {DTYPES[0]}", *DTYPES[1:]]
    return f"{table(head_cells, cells)}\n\n{note}"


def _memory(head: str, sides: tuple[int, ...]) -> str:
    """Megabytes of the arena, of the process once the model is loaded, and at most in use."""
    weighed = {Path(row["model"]).stem: row for row in read("heads_memory.csv")}
    cells = []
    for backbone, name in BACKBONES.items():
        found = [
            weighed[f"{head}_{backbone}_{side}_rewritten_{dtype}"]
            for side in sides
            for dtype in DTYPES
        ]
        sizes = [[float(r[f"{each}_mb"]) for each in ("arena", "loaded", "peak")] for r in found]
        cells.append([name, *(", ".join(f"{each:.0f}" for each in of) for of in sizes)])
    return table(_columns(sides, "MB of arena, loaded, at most"), cells)
