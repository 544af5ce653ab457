"""The page's JavaScript libraries: got with npm, once, and kept."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from rich.console import Console

from keras_parc.device.tools.web import serve
from keras_parc.support.files import new_folder
from keras_parc.support.text import one_line
from keras_parc.weights.cache import cache_folder

PAGE = Path(serve.FOLDER)
# What npm reads: the exact versions, with their digests.
LISTS = ("package.json", "package-lock.json")


def libraries(console: Console) -> Path:
    """The folder that holds `node_modules` with all files the page needs.

    That is the page's own, in a checkout where `npm ci` was run; else one in the cache, by the
    digest of the list of versions.

    Args:
        console: Where to say what is done.

    Raises:
        RuntimeError: npm is not there, or cannot get them.
        OSError: The cache cannot be written.
    """
    digest = hashlib.sha256((PAGE / LISTS[1]).read_bytes()).hexdigest()
    kept = cache_folder() / f"page-{digest[:12]}"
    for folder in (PAGE, kept):
        if _complete(folder):
            return folder
    if shutil.which("npm") is None:
        raise RuntimeError(
            "The page needs LiteRT.js, which npm gets once: install npm (sudo apt-get install npm, "
            "or https://nodejs.org), then run this again."
        )
    shutil.rmtree(kept, ignore_errors=True)
    with console.status("Getting LiteRT.js with npm, once"), new_folder(kept) as folder:
        for name in LISTS:
            shutil.copy(PAGE / name, folder)
        command = ["npm", "ci", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode or not _complete(folder):
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            first = next((line for line in said if "error" in line.lower()), "no reason given")
            raise RuntimeError(f"npm cannot get LiteRT.js, which the page needs: {one_line(first)}")
    return kept


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in serve.LIBRARIES)
