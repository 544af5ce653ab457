"""All of the paper that this package can make anew, in one folder; a stopped run goes on."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from experiments.paper.ablation import run_ablations, summary
from experiments.paper.figures import ablation_figure, results_figure
from experiments.paper.rows import ABLATIONS, MODELS, SCORES, Ablation, Model
from experiments.paper.tables import key_of, size_of, table1, table2, table3
from keras_parc.support.files import add_rows, read_rows, replacing

QUICK_ROWS = (6, 7)
_NOTES = {
    1: "Size and cost are counted here; the accuracies are the paper's, not measured again.",
    2: "Trained here on digit scenes, as the demonstrations are, by models of one narrow block a "
    "stage: minutes instead of days. Mean and standard deviation over seeds, on the test scenes. "
    "The paper's claim, that the whole does better, counts as supported or contradicted from two "
    "standard errors on.",
    3: "Times of `.tflite` files here, instructions on emulated ARM; the paper's times are its own "
    "machines', for other runtimes.",
}


def chosen_rows(numbers: Sequence[int]) -> list[Ablation]:
    """Rows of Table 2 by their numbers.

    Raises:
        ValueError: There is no such row.

    Example:
        >>> [row.task for row in chosen_rows([8, 13])]
        ['detection', 'segmentation']
    """
    found = [row for row in ABLATIONS if row.number in numbers]
    if len(found) != len(set(numbers)) or not found:
        got = ", ".join(map(str, numbers))
        raise ValueError(f"Expected numbers of rows from 1 to {len(ABLATIONS)}, got {got}.")
    return found


def run_paper(
    out: str | os.PathLike,
    *,
    rows: Sequence[int] = tuple(row.number for row in ABLATIONS),
    seeds: int = 3,
    quick: bool = False,
    speed: str | os.PathLike = "tflite/results",
    console: Console | None = None,
) -> Path:
    """Count, train and draw what the paper's Tables 1 to 3 and Figures 5 to 7 show.

    Args:
        out: Folder: `tables.md`, `figure_5.png` to `figure_7.png`, `ablation.png`, the data they
            are made from (`costs.csv`, `ablation.csv`), the training runs and their data set. What
            is there already is kept, and a run that was stopped goes on.
        rows: Rows of Table 2 to train, from 1.
        seeds: Runs of each, at least 1.
        quick: To see in minutes that everything runs: one seed, few scenes, nothing learnt, costs
            of the rows trained only.
        speed: Folder with what `make benchmark` wrote; without it there is no Table 3.
        console: Where to print.

    Returns:
        The path of `tables.md`.

    Raises:
        OSError: A file cannot be written.
        ValueError: An argument out of its range.

    Example:
        >>> run_paper("paper", rows=[9, 10], seeds=1, quick=True)  # doctest: +SKIP
    """
    trained = chosen_rows(rows)
    if seeds < 1:
        raise ValueError(f"`seeds` must be at least 1, got {seeds}.")
    out, console = Path(out), console or Console()
    counted = trained if quick else [*MODELS, *ABLATIONS]
    costs = _costs(counted, out / "costs.csv", console)
    results = run_ablations(
        trained,
        range(1 if quick else seeds),
        out / "runs",
        out / "ablation.csv",
        data_dir=out / "data",
        quick=quick,
        console=console,
    )
    return write_report(out, costs, results, speed)


def write_report(
    out: str | os.PathLike,
    costs: dict[str, tuple[int, int]],
    results: Sequence[dict[str, str]],
    speed: str | os.PathLike,
) -> Path:
    """Write tables and figures from data; see `run_paper`."""
    out, measured = Path(out), summary(results)
    tables = {1: table1(costs), 2: table2(costs, measured)}
    if (Path(speed) / "latency_1.csv").is_file():
        tables[3] = table3(speed)
    with replacing(out / "tables.md") as temporary:
        parts = (f"## Table {n}\n\n{_NOTES[n]}\n\n{table}\n" for n, table in tables.items())
        temporary.write_text("\n".join(parts))
    figures = {f"figure_{n}": results_figure(task, measured) for n, task in enumerate(SCORES, 5)}
    figures["ablation"] = ablation_figure(measured)
    for name, figure in figures.items():
        with replacing(out / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=100)
    return out / "tables.md"


def read_costs(path: str | os.PathLike) -> dict[str, tuple[int, int]]:
    """Parameters and multiply-adds by row, from `costs.csv`; none if there is no file."""
    if not Path(path).exists():
        return {}
    return {
        row["row"]: (int(row["parameters"]), int(row["multiply_adds"])) for row in read_rows(path)
    }


def _costs(rows: Sequence[Model | Ablation], path: Path, console: Console):
    """Count what `path` does not have yet, and add it there."""
    known = read_costs(path)
    missing = [row for row in rows if key_of(row) not in known]
    for row in track(missing, "counting", console=console, disable=not missing):
        parameters, macs = size_of(row)
        add_rows(path, [{"row": key_of(row), "parameters": parameters, "multiply_adds": macs}])
    return read_costs(path)
