"""Downloading a published file: verified before it gets its name, and never hanging."""

import hashlib
import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from keras_parc.weights.presets import Preset

log = logging.getLogger(__name__)

SILENCE = 10.0  # seconds without a byte until a server counts as dead
SLOWEST = 2_000  # bytes a second, on average after the first SILENCE
CHUNK = 2**16


class DownloadError(OSError):
    """Weights that cannot be had; the message says why and how to get them by hand."""


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
            _fetch(url, path, int(1.5 * preset.mebibytes * 2**20))
            verify(path, preset)
            return
        except DownloadError as error:
            failures.append(f"  {url}: {error}")
    raise DownloadError(
        f"The weights {preset.weights!r} of {preset.model} could not be downloaded:\n"
        + "\n".join(failures)
        + f"\nTry again, or fetch the file by other means, save it as {preset.name}.pt in a folder "
        "and set KERAS_PARC_WEIGHTS to the folder."
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
        for chunk, total in _chunks(url, limit):
            file.write(chunk)
            progress.update(task, advance=len(chunk), total=total)


def _chunks(url: str, limit: int) -> Iterator[tuple[bytes, int | None]]:
    """Yield the content of a URL in parts, with the whole size where the server tells it."""
    start, received = time.monotonic(), 0
    try:
        with urllib.request.urlopen(url, timeout=SILENCE) as response:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            if (total or 0) > limit:
                raise DownloadError(f"the server offers {total} bytes, expected {limit} at most")
            while chunk := response.read1(CHUNK):
                received += len(chunk)
                if received > limit:
                    raise DownloadError(f"more than {limit} bytes came")
                seconds = time.monotonic() - start
                if seconds > SILENCE and received < SLOWEST * seconds:
                    raise DownloadError(f"too slow: {received} bytes in {seconds:.0f} s")
                yield chunk, total
    except urllib.error.HTTPError as error:
        raise DownloadError(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"no connection ({error.reason})") from error
    except TimeoutError as error:
        raise DownloadError(f"the server fell silent for {SILENCE:g} s") from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"the connection broke ({type(error).__name__}: {error})") from error
    if total is not None and received != total:
        raise DownloadError(f"the connection ended after {received} of {total} bytes")
