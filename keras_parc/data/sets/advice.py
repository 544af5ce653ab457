"""What a folder of labelled images lacks to learn from, told by what was understood of it."""

from keras_parc.data.sets.found import Report
from keras_parc.support.text import first_of, one_line

SMALL = 32  # pixels of the shorter side, the least that models take
FEW = 10  # images, or objects, of a class
UNEVEN = 10  # times as many of the most frequent class as of the rarest


def warnings_of(report: Report) -> list[str]:
    """What will make learning or measuring hard, a sentence each.

    Args:
        report: Of the set.

    Example:
        >>> report = Report("classification", "folders", {"train": 30}, "none", {"cat": 30}, {})
        >>> for each in warnings_of(report): print(each)
        There is one class only, 'cat': nothing to tell apart.
        There is no validation split: nothing tells how good a model is.
    """
    classes = dict(report.classes)
    if report.task == "segmentation":
        classes.pop("background", None)
    things = "objects" if report.task == "detection" else "images"
    found = []
    if len(report.classes) == 1 and report.task != "detection":
        name = one_line(next(iter(report.classes)))
        found.append(f"There is one class only, {name!r}: nothing to tell apart.")
    if none := [name for name, count in classes.items() if not count]:
        found.append(f"Classes without {things}: {_named(none)}.")
    if few := [f"{one_line(k)} ({n})" for k, n in classes.items() if 0 < n < FEW]:
        found.append(f"Classes of fewer than {FEW} {things}: {first_of(few)}.")
    if "validation" not in report.splits:
        found.append("There is no validation split: nothing tells how good a model is.")
    elif report.by_split:
        seen = report.by_split["validation"]
        if unseen := [name for name, n in classes.items() if n and not seen.get(name)]:
            found.append(f"Classes without {things} in validation: {_named(unseen)}.")
    if counts := {name: count for name, count in classes.items() if count}:
        most, least = max(counts, key=counts.get), min(counts, key=counts.get)
        if counts[most] >= UNEVEN * counts[least]:
            found.append(
                f"The classes are uneven: {counts[most]} {things} of {one_line(most)!r}, "
                f"{counts[least]} of {one_line(least)!r}; rare classes are learnt last."
            )
    return found


def _named(names) -> str:
    return first_of([one_line(name) for name in names])
