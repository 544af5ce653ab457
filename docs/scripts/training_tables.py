"""The README's tables of training speed, from what `make benchmark-train` writes."""

from pathlib import Path

from tables import read, table

RESULTS = Path(__file__).parents[2] / "experiments/results"
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
# Columns of the table of forms: convolution and form.
FORMS = {
    "ParC, tiled": ("ParC", "tiled"),
    "ParC, split": ("ParC", "split"),
    "ParC, Fourier": ("ParC", "fourier"),
    "grouped 1x1, Keras' own": ("grouped 1x1", "keras"),
    "depthwise 3x3 with 2 outputs, Keras' own": ("depthwise 3x3, 2 outputs", "keras"),
}


def _by_backend(name: str) -> dict[str, list[dict[str, str]]]:
    """Rows of a CSV file by the backend they were measured on, in the order of the file."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in read(RESULTS / name):
        title = f"{BACKENDS[row['backend']]} {row['version']}"
        if row["backend"] == "tensorflow" and row["jit"] == "True":
            title += ", `jit_compile`"
        found.setdefault(title, []).append(row)
    return found


def rates() -> str:
    """Images per second of training, relative to MobileViT-S."""
    cells = []
    for title, rows in _by_backend("rates.csv").items():
        speed = {row["model"]: float(row["images_per_second"]) for row in rows}
        parc = next(float(row["speed_ratio"]) for row in rows if row["model"] == "parc_net_s")
        kimm = speed.get("kimm_mobilevit_s")
        cells.append(
            [
                title,
                rows[0]["device"],
                rows[0]["batch"],
                f"{parc:.2f}",
                f"{speed['parc_net_s'] / kimm:.2f}" if kimm else "",
                f"{speed['parc_net_s']:.1f}",
            ]
        )
    head = ["256x256, float32", "on", "batch", "ParC-Net-S / MobileViT-S", "/ kimm's", "images/s"]
    return table(head, cells)


def forms() -> str:
    """Time of result and gradients relative to the form the layers have, of all late stages."""
    cells = []
    for title, rows in _by_backend("forms.csv").items():
        total: dict[tuple[str, str], float] = {}
        for row in rows:
            key = row["convolution"][:4] if row["convolution"].startswith("ParC") else ""
            key = (key or row["convolution"], row["form"])
            total[key] = total.get(key, 0.0) + float(row["median_ms"])
        ratios = (total[key] / total[key[0], "ours"] for key in FORMS.values())
        cells.append([title, *(f"{ratio:.1f}" for ratio in ratios)])
    return table(["time / ours", *FORMS], cells)
