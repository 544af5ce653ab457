"""Files and folders of which a half-written one never bears the final name; CSV files by rows."""

import contextlib
import csv
import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well.

    Args:
        path: The file wanted. Its folder is made if need be.

    Yields:
        A path of the same ending in the same folder, to be written in the block. After an error
        it is removed and `path` stays as it was.

    Raises:
        OSError: The folder cannot be made or written, or `path` is a folder.

    Example:
        >>> import tempfile, pathlib
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"The folder cannot be made: {error.strerror}"
        raise OSError(error.errno, problem, str(path.parent)) from error
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "The folder cannot be written", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "There is a folder of that name", str(path))
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary folder beside `path`; rename it to `path` when the block ends well.

    Args:
        path: The folder wanted. The one it is in is made if need be.

    Yields:
        An empty folder, to be filled in the block. After an error it is removed.

    Raises:
        FileExistsError: There is something of that name that is not an empty folder.
        OSError: The folder cannot be made.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "photos"
        >>> with new_folder(target) as temporary:
        ...     _ = (temporary / "notes.txt").write_text("done")
        >>> [each.name for each in target.iterdir()]
        ['notes.txt']
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"There is something in {str(path)!r} already: give another folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A free name; the ending is kept, by which writers choose the format (".weights.h5")."""
    return path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")


def read_rows(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of a CSV file, by the names in its first line.

    Raises:
        OSError: The file is not there or cannot be read.
    """
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def add_rows(path: str | os.PathLike, rows: Sequence[dict]) -> None:
    """Add rows to a CSV file, which is made if it is not there.

    Raises:
        OSError: The file cannot be read or written.
        ValueError: The file has other columns.
    """
    path, head, old = Path(path), list(rows[0]), []
    if path.exists():
        with path.open(newline="") as file:
            found = next(csv.reader(file), None)
        if found != head:
            raise ValueError(f"{str(path)!r} has other columns, {found}, than {head}.")
        old = read_rows(path)
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        table = csv.DictWriter(file, head)
        table.writeheader()
        table.writerows([*old, *rows])
