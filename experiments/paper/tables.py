"""Tables 1 to 3 of the paper as Markdown: what was counted and measured, and what it gives."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import keras

import keras_parc
from experiments.paper.rows import (
    ABLATIONS,
    DP2000,
    MODELS,
    SCORES,
    SIZES,
    TITLES,
    Ablation,
    Model,
)
from keras_parc.models.registry import find_model
from keras_parc.support.files import read_rows

# What was counted and trained so far: `costs.csv` and `ablation.csv`.
RESULTS = Path(__file__).parents[1] / "results"
_HEADS = {"detection": keras_parc.SSDLite, "segmentation": keras_parc.DeepLabV3}


def size_of(row: Model | Ablation) -> tuple[int, int]:
    """Parameters and multiply-adds of a row's model, counted, at the size the paper gives.

    Args:
        row: A row of Table 1 or 2.

    Example:
        >>> from experiments.paper.rows import MODELS
        >>> size_of(MODELS[1])
        (5037088, 1657347584)
    """
    keras.backend.clear_session()
    model = _build(row)
    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return parameters, keras_parc.count_macs(model)


def _build(row: Model | Ablation) -> keras.Model:
    if isinstance(row, Model):
        plain = {"parc": False} if row.plain else {}
        return find_model(row.function).build(input_shape=(row.side, row.side, 3), **plain)
    side, classes = SIZES[row.task]
    entry = find_model(row.model)
    options = dict(entry.variants[row.variant] if row.variant else {}, input_shape=(side, side, 3))
    if row.task == "classification":
        return entry.build(classes=classes, **options)
    return _HEADS[row.task](entry.build(include_top=False, **options), classes)


def key_of(row: Model | Ablation) -> str:
    """The name of a row in `costs.csv`."""
    return f"table 1, {row.name}" if isinstance(row, Model) else f"table 2, row {row.number}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table1(costs: dict[str, tuple[int, int]]) -> str:
    """Size and cost of the models, counted, and as the paper gives them.

    Args:
        costs: What `size_of` gave, by `key_of`; rows that are not there are left out.
    """
    rows = [
        [
            row.name,
            *_counted(costs[key_of(row)]),
            f"{row.millions:g} M",
            f"{row.gigaflops:g} G" + (" (2 a multiply-add)" if row.flops_per_mac == 2 else ""),
            f"{row.top1:.1f} %",
        ]
        for row in MODELS
        if key_of(row) in costs
    ]
    head = ["model", "parameters", "multiply-adds"]
    return markdown([*head, "paper: parameters", "FLOPs", "ImageNet top-1"], rows)


def table2(costs: dict[str, tuple[int, int]], summary: Sequence[dict]) -> str:
    """The ablation: counted, trained on digit scenes, and as the paper gives it.

    Args:
        costs: As for `table1`.
        summary: What `experiments.paper.ablation.summary` returns.
    """
    measured = {each["row"]: each for each in summary}
    rows = []
    for row in ABLATIONS:
        own = measured.get(row.number, {})
        paper = f"{row.score:.1f} %" if row.score else "not at hand"
        rows.append(
            [
                str(row.number),
                row.name,
                *(_counted(costs[key_of(row)]) if key_of(row) in costs else ("", "")),
                f"{row.millions:g} M",
                f"{TITLES[SCORES[row.task]]} {paper}",
                _score(own),
                f"{-own['against']:+.1f}" if own.get("against") is not None else "",
                own.get("claim", ""),
            ]
        )
    head = ["row", "model", "parameters", "multiply-adds", "paper: parameters", "result"]
    return markdown([*head, "digit scenes", "to ParC-Net-S", "the paper's claim"], rows)


def table3(results: str | os.PathLike) -> str:
    """Time relative to the model without ParC: measured, and on the paper's machines.

    Args:
        results: Folder with what `make benchmark` wrote.

    Raises:
        OSError: The files are not there.
    """
    results = Path(results)
    x86 = _column(results / "latency_1.csv", "median_ms") | _column(
        results / "convnets.csv", "median_ms"
    )
    arm = {name: _column(results / f"{name}.csv", "instructions") for name in ("armv7x", "arm64")}
    rows = []
    for base, row in zip(MODELS[::2], MODELS[1::2], strict=True):
        cells = [f"{row.name} / {base.name}"]
        for values, form in ((x86, "rewritten"), (arm["armv7x"], "portable"), (arm["arm64"], "")):
            for dtype in ("fp32", "int8"):
                ends = f"_{row.side}_{form or 'rewritten'}_{dtype}"
                pair = values.get(row.files + ends), values.get(base.files + ends)
                cells.append(f"{pair[0] / pair[1]:.2f}" if all(pair) else "")
        paper = f"{row.milliseconds / base.milliseconds:.2f} on {row.device}"
        if row.name in DP2000:
            paper += f", {DP2000[row.name] / DP2000[base.name]:.2f} on DP2000"
        rows.append([*cells, paper])
    head = ["time / time", "x86, fp32", "int8", "ARMv7 instructions, fp32", "int8"]
    return markdown([*head, "arm64, fp32", "int8", "paper"], rows)


def _counted(cost: tuple[int, int]) -> tuple[str, str]:
    parameters, macs = cost
    return f"{parameters:,}", f"{macs / 1e6:,.0f} M"


def _score(own: dict) -> str:
    if not own:
        return ""
    spread = f" ± {own['spread']:.1f}" if own["spread"] is not None else ""
    return f"{own['mean']:.1f}{spread} % ({own['seeds']} seed{'s' * (own['seeds'] > 1)})"


def _column(path: Path, name: str) -> dict[str, float]:
    return {Path(r["model"]).stem: float(r[name]) for r in read_rows(path) if r[name]}
