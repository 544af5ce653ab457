"""Building models aside, without an effect on the random numbers of the caller."""

import contextlib
import random
from collections.abc import Iterator


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put Python's random state back at the end: Keras seeds each initializer from it.

    Example:
        >>> random.seed(0)
        >>> with undisturbed():
        ...     first = random.random()
        >>> random.random() == first
        True
    """
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
