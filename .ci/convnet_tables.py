"""The README's table of ParC in other ConvNets: counted, and timed in `convnets.csv`."""

import csv
import math
from pathlib import Path

import keras_parc

FIGURES = Path(__file__).resolve().parent.parent / "tflite/results/convnets.csv"
# Time of the ParC model relative to the plain one in the paper's Table 3 (24 to 27 ms, 47 to 48).
MODELS = {
    "ParCResNet50": ("resnet50", "equal"),
    "ParCMobileNetV2": ("mobilenet_v2", f"{27 / 24:.2f}"),
    "ParCConvNeXtXT": ("convnext_xt", f"{48 / 47:.2f}"),
}


def convnets() -> str:
    """Size of each model, and its time relative to the same model without ParC."""
    with FIGURES.open(newline="") as file:
        times = {Path(row["model"]).stem: float(row["median_ms"]) for row in csv.DictReader(file)}
    lines = [
        "| model | parameters | multiply-adds, 224x224 | time / plain, fp32 | int8 | paper |",
        "|---|---|---|---|---|---|",
    ]
    for function, (name, in_paper) in MODELS.items():
        model = getattr(keras_parc, function)()
        count = sum(math.prod(v.shape) for v in model.trainable_variables)
        macs = keras_parc.count_macs(model) / 1e6
        ratios = [
            times[f"parc_{name}_224_rewritten_{dtype}"] / times[f"{name}_224_rewritten_{dtype}"]
            for dtype in ("fp32", "int8")
        ]
        cells = [f"`{function}`", f"{count:,}", f"{macs:,.0f} M"]
        cells += [*(f"{ratio:.2f}" for ratio in ratios), in_paper]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
