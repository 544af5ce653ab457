"""Text of others: on a terminal, and as a list of names."""

import re
from collections.abc import Sequence

_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def printable(text: str) -> str:
    """The text without what would move the cursor or change the terminal.

    Names in files and answers of servers may be anybody's.

    Args:
        text: Any text; ends of lines stay.

    Returns:
        The same length; "?" in the place of every character that is not to be seen.

    Example:
        >>> printable("\\x1b[31mcat")
        '?[31mcat'
    """
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def first_of(names: Sequence[str], count: int = 5) -> str:
    """The first few names, and how many more there are.

    Example:
        >>> first_of(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")


def without_colours(text: str) -> str:
    """The text without the colours and bold letters of a terminal, as Keras' messages have them.

    Example:
        >>> without_colours("\\x1b[1mbold\\x1b[0m")
        'bold'
    """
    return _COLOUR.sub("", text)


def one_line(text: str, longest: int = 500) -> str:
    """The text for a message: printable, in one line and of a length that one reads.

    Args:
        text: Any text.
        longest: The most characters of it.

    Example:
        >>> one_line("two\\n lines", 5)
        'two l...'
    """
    line = " ".join(printable(text).split())
    return line if len(line) <= longest else f"{line[:longest]}..."


def lines_of(text: str) -> list[str]:
    """The lines of a file of names, one a line.

    Unlike `str.splitlines`, which also splits where Unicode sees a line's end in the middle of a
    name. `tflite/model_file.py`, which knows nothing of this package, follows this too.

    Args:
        text: The file's content. A byte order mark at the beginning is left out.

    Returns:
        At least one line; lines may be empty.

    Example:
        >>> lines_of("cat\\r\\ndog\\n")
        ['cat', 'dog']
    """
    return text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n").split("\n")
