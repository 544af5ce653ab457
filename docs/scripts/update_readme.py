"""Write the generated tables of README.md, tflite/README.md and three pages: `make readme`.

The models are built and counted; the demonstrations' figures come from `tflite/results/demo*.json`,
copies of the `report.json` of real runs; those of speed from what `make benchmark` wrote.
"""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import benchmark_tables
import convnet_tables
import head_tables
import int8_table
import npu_tables
import runtime_tables
import strip_table
import training_tables
import zoo_tables
from tables import RESULTS, size, table

import keras_parc
from experiments import few_images
from experiments.paper import tables as paper_tables
from experiments.paper.ablation import summary
from experiments.paper.rows import MODELS
from experiments.paper.run import read_costs
from keras_parc.support.files import read_rows

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TFLITE_README = ROOT / "tflite/README.md"
GUIDE = ROOT / "docs/guides/your_own_images.md"
ZOO = ROOT / "docs/export_zoo.md"
NPUS = ROOT / "docs/guides/npus.md"
REWRITE = ROOT / "docs/guides/rewrite.md"


def models() -> str:
    """The classifiers that are no ConvNet with ParC put in, ParC-Net first."""
    head = ["model", "parameters", "multiply-adds, 256x256", "ImageNet top-1 in the paper"]
    published = {row.function: str(row.top1) for row in MODELS if not row.plain}
    entries = keras_parc.list_models("classification", listed=True)
    entries = [entry for entry in entries if "plain" not in entry.variants]
    entries.sort(key=lambda entry: entry.family != "parc_net")
    return table(head, [[*size(entry), published.get(entry.name, "")] for entry in entries])


def presets() -> str:
    head = ["`weights=`", "model", "trained on", "task", "published result", "licence"]
    rows = [
        [f'`"{each.weights}"`', f"`{each.model}`", each.data, each.task, each.metric, each.licence]
        for each in keras_parc.list_presets()
    ]
    return table(head, rows)


# What a report measures, as a table says it.
MEASURES = {
    "top1": "accuracy",
    "map": "mAP",
    "map50": "mAP at IoU 0.5",
    "miou": "mean IoU",
}


def demo(name: str) -> str:
    """The table of a run, from a copy of its `report.json`."""
    report = json.loads((RESULTS / f"{name}.json").read_text())
    names = [each for each in MEASURES if each in report["measures"]["int8"]]
    rows = []
    for model, measures in report["measures"].items():
        shares = [f"{100 * measures[each]:.1f} %" for each in names]
        megabytes = f"{report['bytes'][model] / 1e6:.2f} MB"
        rows.append([model, *shares, megabytes, f"{report['latency'][model]['ratio']:.3f}"])
    head = ["", *(MEASURES[each] for each in names), "size", "time of one image, relative"]
    train = report["data"]["splits"]["train"]
    return (
        f"{table(head, rows)}\n\nOn {report['images']} images of the split {report['split']!r}; "
        f"{train} training images, {report['recipe']['epochs']} epochs. {report['machine']}."
    )


def few_images_table() -> str:
    """Fine-tuning on the clip-art set, from `experiments/results/few_images.csv`."""
    measures = {"top1": "accuracy", "map50": "mAP at IoU 0.5", "miou": "mean IoU"}
    rows = [
        [
            row["task"],
            row["model"],
            row["epochs"],
            f"{row['training_images']}, {row['test_images']}",
            measures[row["measure"]],
            f"{100 * float(row['value']):.1f} %",
            f"{100 * float(row['low']):.1f} to {100 * float(row['high']):.1f} %",
        ]
        for row in read_rows(few_images.RESULTS)
    ]
    head = [
        "task",
        "model",
        "epochs, at most",
        "images to train, to test",
        "measure",
        "value",
        "95 % interval",
    ]
    return table(head, rows)


def ablation() -> str:
    costs = read_costs(paper_tables.RESULTS / "costs.csv")
    results = read_rows(paper_tables.RESULTS / "ablation.csv")
    return paper_tables.table2(costs, summary(results))


TABLES = {
    README: {
        "export_zoo_short": zoo_tables.short,
        "models": models,
        "presets": presets,
        **{name: partial(demo, name) for name in ("demo", "demo_detection", "demo_segmentation")},
        "detectors": head_tables.detectors,
        "segmenters": head_tables.segmenters,
        "convnets": convnet_tables.convnets,
        "headline": benchmark_tables.headline,
        "ratios": benchmark_tables.ratios,
        "latency": benchmark_tables.models,
        "sizes": benchmark_tables.sizes,
        "training_rates": training_tables.rates,
        "training_forms": training_tables.forms,
        "ablation": ablation,
    },
}
TABLES[ZOO] = {
    "export_zoo_short": zoo_tables.short,
    **{f"export_zoo_{each}": partial(zoo_tables.full, each) for each in zoo_tables.PRECISIONS},
}
TABLES[NPUS] = {"npu_models": npu_tables.models, "npu_forms": npu_tables.forms}
TABLES[REWRITE] = {"int8_steps": int8_table.steps, "strips": strip_table.strips}
if GUIDE.is_file():
    TABLES[GUIDE] = {"few_images": few_images_table}
if (RESULTS / runtime_tables.FIGURES).is_file():  # Once `make runtimes` has written it.
    TABLES[TFLITE_README] = {"runtimes": runtime_tables.runtimes}


def filled(text: str, tables: dict[str, Callable[[], str]]) -> str:
    """`text` with the part between each pair of markers made anew."""
    for name, make in tables.items():
        pattern = rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"
        table = make() + "\n"
        text, count = re.subn(pattern, lambda _, t=table: t, text, flags=re.DOTALL)
        assert count == 1, f"expected the markers <!-- {name} --> and <!-- /{name} --> once"
    return text


def package_page(readme: str) -> str:
    """README as a package index shows it: what points into the repository is named, not linked."""
    page = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]+\)\n*", "", readme)
    return re.sub(
        r"\[([^\]]+)\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)",
        lambda link: link[1] if link[1] == link[2] else f"{link[1]} (`{link[2]}`)",
        page,
    )


if __name__ == "__main__":
    pages = {page: filled(page.read_text(), tables) for page, tables in TABLES.items()}
    pages[ROOT / "PACKAGE.md"] = package_page(pages[README])
    for page, new in pages.items():
        old = page.read_text() if page.exists() else ""
        if "--check" not in sys.argv:
            page.write_text(new)
        elif new != old:
            sys.exit(f"{page.relative_to(ROOT)} is not up to date: run `make readme`.")
