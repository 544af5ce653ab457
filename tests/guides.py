"""The blocks of a guide: what they hold, and whether they run.

A block after `<!-- not run: REASON -->` does not; its commands are still checked.
"""

import pkgutil
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs/guides"
GUIDES = sorted(path.stem for path in FOLDER.glob("*.md"))
REASONS = {
    "installs packages",
    "minutes or more",
    "needs a data set that is not here",
    "needs a download",
    "needs another machine",
    "leaves something out",
}
_BLOCK = re.compile(
    r"(?:^<!-- not run: ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    language: str  # "python", "sh" or another, which is only shown
    code: str
    not_run: str | None  # why

    @property
    def commands(self) -> list[list[str]]:
        """The command lines of an "sh" block as words, without comments and line ends."""
        lines = self.code.replace("\\\n", " ").splitlines() if self.language == "sh" else []
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(guide: str) -> list[Block]:
    found = _BLOCK.findall((FOLDER / f"{guide}.md").read_text())
    return [Block(language, code, reason or None) for reason, language, code in found]


def missing_names(code):
    """The names that code imports or reads from keras_parc, and that are not there."""
    names = re.findall(r"\bkeras_parc(?:\.\w+)+", code)
    for module, imported in re.findall(
        r"^\s*from (keras_parc[\w.]*) import ([^\n(]+)$", code, re.M
    ):
        names += [f"{module}.{name.split()[0]}" for name in imported.split(",")]
    return [name for name in names if not _there(name)]


def _there(name):
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True
