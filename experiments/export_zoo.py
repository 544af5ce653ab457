"""The table of other people's models, exported in three ways: `make export-zoo`.

    python -m experiments.export_zoo [--only NAME ...] [--precision float32] [--again]

adds what `experiments/results/export_zoo.csv` does not have yet. "ours" is `keras_parc.to_tflite`,
"plain" TensorFlow's converter as people call it, "plain, batch 1" the same converter given a
function of one image. Stopped, it goes on. Times are of a machine that does nothing else: it may be
left to others with `--untimed --files FOLDER`; the same without `--untimed` then adds the times.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track

from experiments.zoo_models import MODELS, ZooModel
from experiments.zoo_row import PRECISIONS, TIME, WAYS
from keras_parc.lite.process import module_path
from keras_parc.support.files import add_rows, read_rows, replacing

RESULTS = Path(__file__).parent / "results" / "export_zoo.csv"
MINUTES = 20  # for one model in one precision
FIGURES = (
    *("converts", "difference", "decibels", "partitions", "outside", "megabytes"),
    *("milliseconds", "ratio"),
)


def rows(
    zoo: ZooModel,
    precision: str,
    minutes: float = MINUTES,
    timed: bool = True,
    files: Path | None = None,
) -> list[dict]:
    """Convert one model in all ways, each in a child process that may crash or never end.

    Args:
        zoo: The model.
        precision: One of `PRECISIONS`.
        minutes: How long a process may take.
        timed: Whether the files are timed.
        files: A folder that keeps them, and what was found: only what it lacks is done.

    Returns:
        A row for each way; of one that ended its process, `converts` says how.
    """
    steps = [*WAYS, TIME] if timed else [*WAYS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if files is None else files / zoo.key / precision
        folder.mkdir(parents=True, exist_ok=True)
        while missing := [step for step in steps if not (folder / f"{step}.json").exists()]:
            cause = _child([zoo.key, precision, str(folder), *missing], minutes)
            left = [step for step in missing if not (folder / f"{step}.json").exists()]
            if left:
                (folder / f"{left[0]}.tflite").unlink(missing_ok=True)
                failed = {} if left[0] == TIME else {"converts": cause}
                (folder / f"{left[0]}.json").write_text(json.dumps(failed))
        found = {step: json.loads((folder / f"{step}.json").read_text()) for step in steps}
    about = {"model": zoo.name, "source": zoo.source, "precision": precision}
    parameters = next((each["parameters"] for each in found.values() if "parameters" in each), "")
    table = []
    for way in WAYS:
        figures = found[way] | found.get(TIME, {}).get(way, {})
        figures = {name: figures.get(name, "") for name in FIGURES}
        table.append({**about, "way": way, "parameters": parameters, **figures})
    return table


def _child(arguments: list[str], minutes: float) -> str:
    """Run `experiments.zoo_row`; how it ended, in one line."""
    command = [sys.executable, "-P", "-m", "experiments.zoo_row", *arguments]
    environment = os.environ | {"PYTHONPATH": module_path(), "CUDA_VISIBLE_DEVICES": "-1"}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            code = child.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            return f"not done within {minutes:g} minutes"
        finally:
            _end(child)
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines() or ["it printed nothing"]
    if code < 0:
        return f"the process ended with {signal.Signals(-code).name}"
    return f"the process ended with exit code {code}: {lines[-1][:200]}"


def _end(child: subprocess.Popen) -> None:
    """Interrupt a child, which then ends its own, and kill it if it does not listen."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def chosen(only: list[str] | None) -> list[ZooModel]:
    """The models of these names, or of these sources; all without names.

    Raises:
        ValueError: No model has one of the names.
    """
    for name in only or []:
        if not any(name in (each.name, each.source, each.key) for each in MODELS):
            raise ValueError(
                f"No model or source is named {name!r}: see experiments/zoo_models.py."
            )
    return [each for each in MODELS if not only or {each.name, each.source, each.key} & set(only)]


def run(
    models: list[ZooModel],
    precisions: list[str],
    path: Path,
    again: bool,
    timed: bool = True,
    **how,
) -> None:
    """Add the rows that a file does not have, or lacks the times of; with `again` replace all."""
    console = Console()
    work = {(zoo.name, zoo.source, precision): zoo for zoo in models for precision in precisions}
    if not again and path.exists():
        for identity in _done(read_rows(path), timed):
            work.pop(identity, None)
    for (name, source, precision), zoo in track(work.items(), "exporting", console=console):
        if not zoo.installed:
            console.print(f"{zoo.key}: left out, {zoo.needs} is not installed: `make export-zoo`.")
            continue
        if again and how.get("files"):
            shutil.rmtree(how["files"] / zoo.key / precision, ignore_errors=True)
        new = rows(zoo, precision, timed=timed, **how)
        others = read_rows(path) if path.exists() else []
        others = [row for row in others if _id(row) != (name, source, precision)]
        with replacing(path) as temporary:
            add_rows(temporary, [*others, *new])
        for row in new:
            console.print(", ".join(str(row[k]) for k in row if row[k] != ""), highlight=False)


def _done(rows: list[dict], timed: bool) -> set[tuple[str, str, str]]:
    """What needs nothing more; where no way converts, there is nothing to time."""
    untimed = {_id(row) for row in rows if row["converts"] == "yes" and not row["milliseconds"]}
    return {_id(row) for row in rows} - (untimed if timed else set())


def _id(row: dict) -> tuple[str, str, str]:
    return row["model"], row["source"], row["precision"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="models or sources")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--again", action="store_true", help="replace the rows that are there")
    parser.add_argument("--untimed", action="store_true", help="leave the times out")
    parser.add_argument("--files", type=Path, help="folder that keeps the files")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"a model ({MINUTES})")
    parser.add_argument("--csv", type=Path, default=RESULTS, help=f"({RESULTS.name})")
    args = parser.parse_args(arguments)
    try:
        models = chosen(args.only)
    except ValueError as error:
        parser.error(str(error))
    how = {"minutes": args.minutes, "timed": not args.untimed, "files": args.files}
    run(models, args.precision, args.csv, args.again, **how)


if __name__ == "__main__":
    main()
