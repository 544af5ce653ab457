"""Table 2 trained on digit scenes: every row, several seeds, a result in a CSV file as it comes."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from rich.console import Console

from experiments.paper.rows import ABLATIONS, SCORES, Ablation, whole
from keras_parc.models.registry import find_model
from keras_parc.support.files import add_rows, read_rows
from keras_parc.support.machine import device_name
from keras_parc.training.recipes import Recipe, find_recipe, override
from keras_parc.training.train import train

# Recipes of the demonstrations, and what is changed in them.
_DENSE = {"epochs": 2, "train_split": "train", "batch": 16}
_RECIPES = {
    "classification": ("digit_scenes", {}),
    "detection": ("digit_scenes_detection", _DENSE),
    "segmentation": ("digit_scenes_segmentation", _DENSE),
}
_QUICK = {"classification": "tiny", "detection": "detect_tiny", "segmentation": "detect_tiny"}


def row_recipe(row: Ablation, seed: int, quick: bool = False) -> Recipe:
    """How a row is trained: as the demonstration of its task, measured on the test scenes.

    The tiny models stand for S, which learns too slowly for runs of minutes.

    Args:
        row: The row.
        seed: Seed of weights, order and crops.
        quick: One epoch of a handful of scenes, to see that everything runs.

    Example:
        >>> from experiments.paper.rows import ABLATIONS
        >>> row_recipe(ABLATIONS[7], seed=1).model
        'mobilevit_tiny'
    """
    base, changes = _RECIPES[row.task]
    model = find_model(row.model.replace("_s", "_tiny", 1))
    recipe = dataclasses.replace(
        find_recipe(base),
        name=f"table2_row{row.number}_seed{seed}",
        model=model.key,
        model_arguments=model.variants[row.variant] if row.variant else {},
        validation_split="test",
        seed=seed,
        **changes,
    )
    if quick:
        few = {"data": f"digit_scenes/{_QUICK[row.task]}", "train_split": "train"}
        few |= {"epochs": 1, "warm_up_steps": 1}
        recipe = override(recipe, [f"{name}={value}" for name, value in few.items()])
    return recipe


def run_ablations(
    rows: Sequence[Ablation],
    seeds: Sequence[int],
    runs: str | os.PathLike,
    results: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    quick: bool = False,
    console: Console | None = None,
) -> list[dict[str, str]]:
    """Train what `results` does not have yet, and add it there; a run that was stopped goes on.

    The score is that of the last epoch's moving average on the test scenes: nothing is chosen by
    it.

    Args:
        rows: Rows of Table 2.
        seeds: Seeds, one run each.
        runs: Folder for the training runs.
        results: CSV file of results.
        data_dir: Folder of the prepared data sets; default: TFDS' own.
        quick: See `row_recipe`.
        console: Where to print.

    Returns:
        All rows of `results`.

    Raises:
        OSError: A file cannot be written.
        ValueError: `results` holds something else.

    Example:
        >>> from experiments.paper.rows import ABLATIONS
        >>> run_ablations(ABLATIONS[5:7], [0, 1, 2], "runs", "table2.csv")  # doctest: +SKIP
    """
    import tensorflow_datasets as tfds

    import keras_parc.data.sets.digit_scenes  # noqa: F401 (registers digit scenes)

    console, results = console or Console(), Path(results)
    done = {(r["row"], r["seed"]) for r in (read_rows(results) if results.exists() else [])}
    wanted = [(row, seed) for seed in seeds for row in rows]
    for number, (row, seed) in enumerate(wanted, 1):
        if (str(row.number), str(seed)) in done:
            continue
        console.print(f"[{number}/{len(wanted)}] row {row.number}: {row.task}, {row.name}, {seed=}")
        recipe = row_recipe(row, seed, quick)
        tfds.builder(recipe.data, data_dir=data_dir).download_and_prepare()
        out = Path(runs) / recipe.name
        train(recipe, out, data_dir=data_dir, console=console)
        history = json.loads((out / "result.json").read_text())["history"]
        score = SCORES[row.task]
        result = {"row": row.number, "task": row.task, "model": recipe.model}
        result |= {"variant": row.variant, "seed": seed}
        result |= {"score": score, "value": round(history[-1][f"val_{score}"], 5)}
        result |= {"data": recipe.data, "train_split": recipe.train_split}
        result |= {"side": recipe.size, "batch": recipe.batch, "epochs": recipe.epochs}
        result |= {"backend": keras.config.backend(), "device": device_name()}
        add_rows(results, [result])
        keras.backend.clear_session()
    return read_rows(results)


def summary(results: Sequence[dict[str, str]]) -> list[dict]:
    """Mean and spread of every row of Table 2 that has results, and what they say of its claim.

    The paper claims of each row that the whole ParC-Net-S does better. That counts as supported
    where the means are at least two standard errors apart in that direction, as contradicted in the
    other, and as open in between or with fewer than two seeds.

    Args:
        results: What `run_ablations` returned.

    Returns:
        For each row its `row`, `task`, `name`, `seeds`, `mean` and `spread` (standard deviation)
        in percent, `against` (the whole's mean less this one's) and `claim`.

    Example:
        >>> rows = [("7", 90.0), ("7", 92.0), ("6", 80.0), ("6", 81.0)]
        >>> results = [{"row": row, "value": str(value / 100)} for row, value in rows]
        >>> [(each["mean"], each["claim"]) for each in summary(results)]
        [(80.5, 'supported'), (91.0, '')]
    """
    values = {
        row.number: np.array(
            [100 * float(r["value"]) for r in results if r["row"] == str(row.number)]
        )
        for row in ABLATIONS
    }
    table = []
    for row in ABLATIONS:
        own, best = values[row.number], values[whole(row).number]
        if not len(own):
            continue
        against, claim = None, ""
        if row != whole(row) and len(best):
            against = float(best.mean() - own.mean())
            claim = _claim(against, own, best)
        table.append(
            {
                "row": row.number,
                "task": row.task,
                "name": row.name,
                "seeds": len(own),
                "mean": float(own.mean()),
                "spread": float(own.std(ddof=1)) if len(own) > 1 else None,
                "against": against,
                "claim": claim,
            }
        )
    return table


def _claim(difference: float, own: np.ndarray, best: np.ndarray) -> str:
    if min(len(own), len(best)) < 2:
        return "open"
    error = np.sqrt(own.var(ddof=1) / len(own) + best.var(ddof=1) / len(best))
    if abs(difference) < 2 * error:
        return "open"
    return "supported" if difference > 0 else "contradicted"
