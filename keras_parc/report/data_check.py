"""What a set of labelled images is and what is wrong with it, before anything is trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_parc.data.sets.advice import SMALL, warnings_of
from keras_parc.data.sets.found import TASKS, Report
from keras_parc.support.files import replacing
from keras_parc.support.text import first_of, one_line

_ROWS = 12  # of the table of classes, before the rest is counted
_EXAMPLES = 3


def print_report(report: Report, console: Console) -> None:
    """Print what was understood of a set, and what may be wrong with it.

    Args:
        report: `builder.report` of a folder, or what `report_of` returns.
        console: Where to print.

    Example:
        >>> report = Report("classification", "folders", {"train": 30}, "none", {"cat": 30}, {})
        >>> print_report(report, Console(width=60))  # doctest: +ELLIPSIS
        classification, format folders: 30 images (train 30; validation: none)
        ...
    """

    def line(text):
        console.print(one_line(text, 2000), markup=False, highlight=False, soft_wrap=True)

    splits = ", ".join(f"{split} {count}" for split, count in report.splits.items())
    line(
        f"{report.task}, format {report.format}: {sum(report.splits.values())} images "
        f"({splits}; validation: {report.validation})"
    )
    _print_classes(report, console)
    for why, all_ in report.notes.items():
        line(f"{why}: {_counted(all_)}")
    for each in warnings_of(report):
        line(f"Warning: {each}")


def _print_classes(report: Report, console: Console) -> None:
    things = "objects" if report.task == "detection" else "images"
    splits = list(report.by_split)
    table = Table(
        f"{len(report.classes)} classes", *(f"{each} {things}" for each in splits or ("all",))
    )
    names = sorted(report.classes, key=lambda name: -report.classes[name])
    half = _ROWS // 2
    shown = names if len(names) <= _ROWS + 1 else [*names[:half], None, *names[-half:]]
    for name in shown:
        if name is None:
            table.add_row(f"and {len(names) - 2 * half} more")
            continue
        counts = [report.by_split[split].get(name, 0) for split in splits]
        # Names may look like markup.
        table.add_row(Text(one_line(name, 60)), *map(str, counts or [report.classes[name]]))
    console.print(table)


def _counted(names: Iterable[str]) -> str:
    names = [one_line(name) for name in names]
    return f"{len(names)} ({first_of(names, _EXAMPLES)})"


def _between(low, high) -> str:
    return str(low) if low == high else f"{low} to {high}"


@dataclasses.dataclass(frozen=True)
class DataCheck:
    """What `check_data` found.

    Args:
        report: What was understood.
        scan: What is in the images, a `keras_parc.data.scan.Scan`; None: they were not read.
        twice: Images of the same content in two splits, in groups.
    """

    report: Report
    scan: Any
    twice: list[list[str]]

    def findings(self) -> list[str]:
        """What is wrong with or unusual in the images themselves, a sentence each."""
        found = []
        if self.twice:
            found.append(
                "Warning: the same image in two splits, so that validation looks better than it "
                f"is: {_counted(' = '.join(group) for group in self.twice)}"
            )
        if self.scan is None:
            return found
        if damaged := [f"{name}: {one_line(why, 80)}" for name, why in self.scan.damaged.items()]:
            found.append(
                f"Warning: images that cannot be read, left out in training: {_counted(damaged)}"
            )
        if self.scan.small:
            found.append(
                f"Warning: images with a side below {SMALL} pixels: {_counted(self.scan.small)}"
            )
        for kind, count in sorted(self.scan.kinds.items()):
            found.append(f"{kind} images, converted to 8-bit RGB: {count}")
        if self.scan.turned:
            found.append(f"images turned upright as EXIF says: {self.scan.turned}")
        (low, wide), (high, long) = self.scan.sizes.min(0), self.scan.sizes.max(0)
        found.append(
            f"{self.scan.images} images can be read, {_between(wide, long)} pixels wide and "
            f"{_between(low, high)} high."
        )
        return found

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs: of long lists the count and the first few."""

        def short(names):
            return {"count": len(names), "first": list(names)[:20]}

        found = dataclasses.asdict(self.report)
        found["notes"] = {why: short(each) for why, each in self.report.notes.items()}
        found["warnings"] = warnings_of(self.report)
        found["in_two_splits"] = short(self.twice)
        if self.scan is not None:
            found["images"] = {
                "readable": self.scan.images,
                "damaged": {
                    "count": len(self.scan.damaged),
                    "first": dict(list(self.scan.damaged.items())[:20]),
                },
                "small": short(self.scan.small),
                "kinds": dict(self.scan.kinds),
                "turned": self.scan.turned,
            }
        return found


def check_data(
    builder,
    task: str,
    *,
    quick: bool = False,
    advance: Callable[[int], None] = lambda images: None,
) -> DataCheck:
    """Look at every image of a set, and for images that are in two splits.

    Args:
        builder: What `keras_parc.data.sources.open_source` returns.
        task: What its labels are read for.
        quick: Whether to leave the images undecoded.
        advance: Called with the number of images done since the last call.

    Raises:
        ValueError: No image can be read.
    """
    from keras_parc.data.scan import scan
    from keras_parc.data.sets.splits import by_content
    from keras_parc.data.sources import is_folder

    found = None
    if not (quick and is_folder(builder)):  # what a folder's labels say is known
        found = scan(builder, task, advance, pixels=not quick)
    if found is not None and not found.images:
        name, why = next(iter(found.damaged.items()))
        raise ValueError(
            f"None of the {len(found.damaged)} images can be read, such as {one_line(name)}: "
            f"{one_line(why)}."
        )
    if not is_folder(builder):
        return DataCheck(report_of(builder, task, found.labels), None if quick else found, [])
    split_of = {path: split for split, paths in builder.paths.items() for path in paths}
    paths = list(split_of)
    groups = [[paths[number] for number in group] for group in by_content(paths)]
    twice = [group for group in groups if len({split_of[path] for path in group}) > 1]
    return DataCheck(builder.report, found, twice)


def report_of(builder, task: str, labels: Mapping[str, Mapping[int, int]]) -> Report:
    """What is known of a set of TensorFlow Datasets.

    Args:
        builder: Of the set.
        task: What its labels are read for.
        labels: For each split how often each class number is there.
    """
    from keras_parc.tasks.task import find_task

    names = find_task(task).data.class_names(builder)
    by_split = {
        split: {name: counts[number] for number, name in enumerate(names)}
        for split, counts in labels.items()
    }
    splits = {split: info.num_examples for split, info in builder.info.splits.items()}
    counts = {name: sum(each[name] for each in by_split.values()) for name in names}
    made = "its own" if "validation" in splits else "none"
    return Report(task, "tfds", splits, made, counts, {}, by_split)


def task_of_set(builder, task: str | None) -> str:
    """What the labels of a set are for.

    Raises:
        ValueError: It has labels for several tasks and none is stated, or for none.
    """
    from keras_parc.data.scan import LABELS
    from keras_parc.data.sources import is_folder

    if is_folder(builder):
        return builder.report.task
    fitting = [each for each in TASKS if LABELS[each].features[0] in builder.info.features]
    fitting = [each for each in fitting if task in (None, each)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ValueError(f"{builder.name!r} has no labels for {task or 'any task known'}.")
    raise ValueError(f"{builder.name!r} has labels for {' and '.join(fitting)}: say --task.")


def write_check(found: DataCheck, builder, out: Path) -> None:
    """Write `check.json`, `samples.png` and `histograms.png` into a folder.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: A file cannot be written.
    """
    from keras_parc.report.data_pictures import histograms, samples

    with replacing(out / "samples.png") as temporary:
        samples(builder, found.report.task, list(found.report.classes)).save(temporary, "PNG")
    with replacing(out / "histograms.png") as temporary:
        histograms(found.report, found.scan).savefig(temporary, dpi=100)
    with replacing(out / "check.json") as temporary:
        temporary.write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
