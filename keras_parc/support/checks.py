"""Checks of arguments that name the argument, what was expected and what came."""

import difflib
from collections.abc import Iterable


def at_least_one(**values: int) -> None:
    """Refuse numbers below 1, with their names.

    Raises:
        ValueError: A number is below 1.

    Example:
        >>> at_least_one(batch=0)
        Traceback (most recent call last):
        ValueError: `batch` must be at least 1, got 0.
    """
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")


def require(owner: object, name: str, fits: bool, expected: str) -> None:
    """Refuse a field of a dataclass.

    Args:
        owner: The object.
        name: The field.
        fits: Whether its value is good.
        expected: What was expected, after "must be".

    Raises:
        ValueError: It is not.
    """
    if not fits:
        raise ValueError(f"`{name}` must be {expected}, got {getattr(owner, name)!r}.")


def unknown_name(
    kind: str, name: str, known: Iterable[str], other_spellings: Iterable[str] = ()
) -> str:
    """A message for a name that is none of those known, with the nearest one.

    Args:
        kind: What it should be the name of, such as "recipe".
        name: What came.
        known: The names there are.
        other_spellings: Names that are understood too, but not listed.

    Example:
        >>> unknown_name("task", "detect", ["classification", "detection"])
        "There is no task 'detect'. Did you mean 'detection'? There are classification, detection."
    """
    known = list(known)
    close = difflib.get_close_matches(str(name), [*known, *other_spellings], 1, 0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"There is no {kind} {name!r}.{hint} There are {', '.join(known)}."
