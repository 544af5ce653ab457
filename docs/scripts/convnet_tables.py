"""The README's table of ParC in other ConvNets: counted, and timed in `convnets.csv`."""

from tables import medians, read, size, table

# Time of the ParC model relative to the plain one in the paper's Table 3 (24 to 27 ms, 47 to 48).
MODELS = {
    "ParCResNet50": ("resnet50", "equal"),
    "ParCMobileNetV2": ("mobilenet_v2", f"{27 / 24:.2f}"),
    "ParCConvNeXtXT": ("convnext_xt", f"{48 / 47:.2f}"),
}


def convnets() -> str:
    """Size of each model, and its time relative to the same model without ParC."""
    times = medians(read("convnets.csv"))
    rows = []
    for function, (name, in_paper) in MODELS.items():
        ratios = [
            times[f"parc_{name}_224_rewritten_{dtype}"] / times[f"{name}_224_rewritten_{dtype}"]
            for dtype in ("fp32", "int8")
        ]
        rows.append([*size(function), *(f"{ratio:.2f}" for ratio in ratios), in_paper])
    head = ["model", "parameters", "multiply-adds, 224x224", "time / plain, fp32", "int8", "paper"]
    return table(head, rows)
