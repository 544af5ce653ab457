"""The cache of converted weights: complete and verified files only, whatever is interrupted."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import filelock

from keras_parc.support.files import replacing
from keras_parc.weights.download import download, verify
from keras_parc.weights.fetch import DownloadError
from keras_parc.weights.presets import Preset

log = logging.getLogger(__name__)

PATIENCE = 900.0  # seconds to wait for another process that is busy with the same weights


def cache_folder() -> Path:
    """Where converted weights are kept: `models/keras_parc` in KERAS_HOME (default `~/.keras`)."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models" / "keras_parc"


def converted_weights(preset: Preset, convert: Callable[[Path, Path], None], version: str) -> Path:
    """Find the converted weights of a preset, or get and convert them.

    Args:
        preset: Which weights.
        convert: Reads the PyTorch file (first argument) and writes `.weights.h5` (second).
        version: Of the converter; files of other versions are not used.

    Returns:
        A complete `.weights.h5` file whose SHA-256 is the recorded one.

    Raises:
        DownloadError: The file can be neither found nor downloaded, or is not the published one.
        OSError: The cache cannot be written.
        ValueError: The published file does not fit the model.
    """
    folder = cache_folder()
    stem = f"{preset.name}-{preset.git_blob[:12]}"
    target = folder / f"{stem}-{version}.weights.h5"
    if _intact(target):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f"{preset.name}.lock"):
            if _intact(target):  # made by another process meanwhile
                return target
            for leftover in folder.glob(f".*.{stem}*"):  # of a process that was killed
                leftover.unlink()
            source = _source(preset, folder / f"{stem}.pt")
            _store(target, lambda path: convert(source, path))
    except DownloadError:
        raise
    except filelock.Timeout as error:
        raise OSError(
            f"Another process has been busy with {target.name!r} in {str(folder)!r} for "
            f"{PATIENCE:g} s. End it, or set KERAS_HOME to another folder."
        ) from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise OSError(
            f"The weights {preset.weights!r} of {preset.model} cannot be cached in "
            f"{str(folder)!r}: {reason}. Make room or set KERAS_HOME to another folder."
        ) from error
    return target


def _alone(path: Path) -> filelock.BaseFileLock:
    lock = filelock.FileLock(path, timeout=PATIENCE)
    try:
        lock.acquire(timeout=0)
        lock.release()
    except filelock.Timeout:
        log.warning("Waiting for another process that gets the same weights (%s).", path)
    return lock


def _source(preset: Preset, cached: Path) -> Path:
    """The published file: in the user's folder, in the cache, or downloaded; always verified."""
    by_hand = os.environ.get("KERAS_PARC_WEIGHTS")
    if by_hand:
        path = Path(by_hand) / f"{preset.name}.pt"
        if not path.is_file():
            raise DownloadError(
                f"KERAS_PARC_WEIGHTS is set, but there is no {str(path)!r}. Save "
                f"{preset.urls[0]} under this name, or unset the variable to download it."
            )
        try:
            verify(path, preset)
        except DownloadError as error:
            raise DownloadError(f"{str(path)!r}: {error}. It comes from {preset.urls[0]}") from None
        return path
    if cached.is_file():
        try:
            verify(cached, preset)
            return cached
        except DownloadError as error:
            log.warning("Downloading %s again: %s.", cached, error)
    _store(cached, lambda path: download(preset, path))
    return cached


def _store(target: Path, write: Callable[[Path], None]) -> None:
    """Write a file and its SHA-256 beside it, in the format of `sha256sum`."""
    with replacing(target) as temporary:
        write(temporary)
        digest = _sha256(temporary)
    with replacing(_beside(target)) as temporary:
        temporary.write_text(f"{digest}  {target.name}\n")


def _intact(path: Path) -> bool:
    record = _beside(path)
    if not (path.is_file() and record.is_file()):
        return False
    if record.read_text(errors="replace").split()[:1] == [_sha256(path)]:
        return True
    log.warning("%s is damaged and made anew.", path)
    return False


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
