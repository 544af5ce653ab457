"""What native libraries print for information while they load."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Of absl, which writes before it reads TF_CPP_MIN_LOG_LEVEL, TensorFlow and LiteRT.
NOTICES = re.compile(
    r"WARNING: All log messages before absl"
    r"|I\d{4} \d\d:\d\d"
    r"|To enable the following instructions"
    r"|INFO: (Created TensorFlow Lite|Initialized TensorFlow Lite|Applying)"
)
_shown = False


def show_notices(shown: bool = True) -> None:
    """Let `without_notices` hide nothing from now on."""
    global _shown
    _shown = shown


def notices_shown() -> bool:
    """Whether nothing is hidden."""
    return _shown


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """Leave out the lines of `NOTICES` that are written to standard error meanwhile.

    They come from C++, past `sys.stderr`, so the file descriptor itself is redirected. All other
    lines are printed when the block ends.

    Example:
        >>> with without_notices():
        ...     _ = os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
    """
    if _shown:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        terminal = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(terminal, 2)
            written.seek(0)
            for line in written:
                if not NOTICES.match(line.decode(errors="replace")):
                    os.write(terminal, line)
            os.close(terminal)
