"""Text of others on a terminal."""


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
