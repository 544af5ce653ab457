"""Images of a class each, named in a table: a CSV file of file, label and perhaps split."""

import csv
from pathlib import Path

from keras_parc.data.sets.found import Found, Item, new_notes
from keras_parc.data.sets.label_files import read_text
from keras_parc.support.images import image_files
from keras_parc.support.text import one_line

_FILE = ("file", "filename", "file_name", "image", "image_path", "path")
_LABEL = ("label", "class", "class_name", "category")
_SPLIT = ("split", "set", "subset")


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.csv") if not path.name.startswith("."))


def _columns(header: list[str]) -> dict[str, int]:
    """The places of the columns known, by their names in small letters."""
    header = [name.strip().lower() for name in header]
    kinds = {"file": _FILE, "label": _LABEL, "split": _SPLIT}
    return {
        kind: header.index(name)
        for kind, names in kinds.items()
        for name in names[::-1]
        if name in header
    }


def _rows(path: Path) -> csv.reader:
    text = read_text(path)
    first = text.partition("\n")[0]
    between = next((each for each in ",;\t" if each in first), ",")
    return csv.reader(text.splitlines(), delimiter=between, strict=True)


def fits(folder: Path) -> bool:
    """Whether there is a CSV file whose header names a file and a label."""
    for path in _tables(folder):
        try:
            columns = _columns(next(_rows(path), []))
        except (csv.Error, ValueError):
            return True  # a CSV file that nobody can read: reading it says why
        if {"file", "label"} <= columns.keys():
            return True
    return False


def read(folder: Path, task: str) -> Found:
    """Read the CSV files of a folder, one or one for each split.

    Args:
        folder: With CSV files whose header names a column of files, as paths in the folder, one of
            labels, and perhaps one of splits. Comma, semicolon or tab separate them.
        task: Classification.

    Raises:
        ValueError: A row has no label or two different ones, or a file is no such table.
    """
    notes = new_notes()
    rows: dict[str, tuple[str | None, str]] = {}
    for path in _tables(folder):
        _read_table(path, rows, notes)
    present = {image.relative_to(folder).as_posix(): good for image, good in image_files(folder)}
    for name in sorted(set(rows) - set(present)):
        notes["images named that do not exist"].append(name)
    for name, good in present.items():
        if name not in rows and good:
            notes["images without a label"].append(name)
    names = sorted({label for _, label in rows.values()})
    numbers = {name: number for number, name in enumerate(names)}
    items = [
        Item(str(folder / name), split, numbers[label])
        for name, (split, label) in sorted(rows.items())
        if name in present
    ]
    return Found(task, "table", names, items, notes)


def _read_table(path, rows, notes):
    reader = _rows(path)
    try:
        columns = _columns(next(reader, []))
        if not {"file", "label"} <= columns.keys():
            notes["tables without a column of files and one of labels"].append(path.name)
            return
        for row in reader:
            if row:
                _read_row(path, reader.line_num, row, columns, rows, notes)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV: {error}.") from error


def _read_row(path, line, row, columns, rows, notes):
    fields = {
        kind: row[place].strip() if place < len(row) else "" for kind, place in columns.items()
    }
    for kind in ("file", "label"):
        if not fields[kind]:
            raise ValueError(f"{path}, line {line}: there is no {kind}.")
    name = Path(fields["file"].replace("\\", "/")).as_posix()
    entry = fields.get("split") or None, fields["label"]
    if name in rows:
        if rows[name] != entry:
            raise ValueError(
                f"{path}, line {line}: {one_line(name)!r} is there twice, as "
                f"{one_line(rows[name][1])!r} and {one_line(entry[1])!r}."
            )
        notes["rows there twice"].append(f"{path.name}, line {line}")
    rows[name] = entry
