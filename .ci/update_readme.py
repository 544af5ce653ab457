"""Write the generated tables of README.md and tflite/README.md: `make readme`.

The models are built and counted; the demonstration's figures come from `tflite/results/demo.json`,
a copy of the `report.json` of a real `make demo`, those of the runtimes from what `make runtimes`
wrote.
"""

import csv
import json
import math
import re
import sys
from pathlib import Path

import keras_parc

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
# Accuracy as published: ParC-Net's paper, Table 1; no XS and H there.
MODELS = {
    "ParCNetXS": "",
    "ParCNetS": "78.6",
    "ParCNetH": "",
    "MobileViTS": "78.4",
}


def models() -> str:
    lines = [
        "| model | parameters | multiply-adds, 256x256 | ImageNet top-1 in the paper |",
        "|---|---|---|---|",
    ]
    for name, accuracy in MODELS.items():
        model = getattr(keras_parc, name)()
        count = sum(math.prod(v.shape) for v in model.trainable_variables)
        macs = keras_parc.count_macs(model) / 1e6
        lines.append(f"| `{name}` | {count:,} | {macs:,.0f} M | {accuracy} |")
    return "\n".join(lines)


def demo() -> str:
    report = json.loads((ROOT / "tflite/results/demo.json").read_text())
    lines = [
        "| | test accuracy | agrees with Keras | size | time of one image, relative |",
        "|---|---|---|---|---|",
    ]
    for name, accuracy in report["accuracy"].items():
        agreement = 100 * report["agreement_with_keras"][name]
        size = f"{report['bytes'][name] / 1e6:.2f} MB" if name in report["bytes"] else ""
        ratio = report["time_one_image_one_thread"][name]["ratio"]
        lines.append(
            f"| {name} | {100 * accuracy:.1f} % | {agreement:.1f} % | {size} | {ratio:.3f} |"
        )
    settings = report["settings"]
    lines.append(
        f"\n{report['seconds']:.0f} s in all on {report['machine']}: "
        f"{settings['train_scenes']} training scenes, {settings['epochs']} epochs."
    )
    return "\n".join(lines)


def runtimes() -> str:
    with open(ROOT / "tflite/results/runtimes.csv") as file:
        rows = list(csv.DictReader(file))
    files: dict[tuple[str, ...], dict[str, dict]] = {}
    versions = {}
    for row in rows:
        key = (row["model"], row["size"], row["dtype"], row["target"])
        files.setdefault(key, {})[row["runtime"]] = row
        versions[row["runtime"]] = row["version"]
    counted = [name for name in versions if rows_of(files, name)[0]["partitions"]]
    lines = []
    for title, names, cell in [
        ("partitions, and operations outside", counted, partitions),
        ("largest difference", versions, difference),
    ]:
        lines.append(f"| {title} | " + " | ".join(f"{n}: {versions[n]}" for n in names) + " |")
        lines.append("|---|" + "---|" * len(names))
        for key, found in files.items():
            name = "{} {} {} {}".format(*key)
            lines.append(f"| {name} | " + " | ".join(cell(found[n]) for n in names) + " |")
        lines.append("")
    return "\n".join(lines[:-1])


def rows_of(files: dict, runtime: str) -> list[dict]:
    return [found[runtime] for found in files.values()]


def partitions(row: dict) -> str:
    outside = sum(int(each.split()[0]) for each in row["outside"].split(", ") if each)
    return row["partitions"] + (f" + {outside}" if outside else "")


def difference(row: dict) -> str:
    return f"{row['difference']} {row['unit']}" + ("" if row["top1_same"] == "True" else ", other")


def filled(text: str, tables: dict[str, str]) -> str:
    """`text` with the part between each pair of markers made anew."""
    for name, table in tables.items():
        pattern = rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"
        text, count = re.subn(pattern, lambda _, t=table: t + "\n", text, flags=re.DOTALL)
        assert count == 1, f"expected the markers <!-- {name} --> and <!-- /{name} --> once"
    return text


if __name__ == "__main__":
    pages = {
        README: {"models": models(), "demo": demo()},
        ROOT / "tflite/README.md": {"runtimes": runtimes()},
    }
    for page, tables in pages.items():
        old = page.read_text()
        new = filled(old, tables)
        if "--check" not in sys.argv:
            page.write_text(new)
        elif new != old:
            sys.exit(f"{page.relative_to(ROOT)} is not up to date: run `make readme`.")
