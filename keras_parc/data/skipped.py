"""Image files of a training set that cannot be used as they are: counted, named, limited."""

import logging
import threading

from keras_parc.support.images import read_rgb

_LOG = logging.getLogger(__name__)


class SkippedImages:
    """What a data pipeline skipped and what it converted.

    Give one object to all epochs of a run, so that a file counts once.

    Args:
        limit: Different files that may be skipped, at least 0. One more fails the run.

    Attributes:
        skipped: Name of each skipped file, with the reason.
        converted: Name of each file converted to 8-bit RGB, with what it is: greyscale, CMYK or
            16-bit.
        failure: The message with which the run failed; None as long as the limit holds. TensorFlow
            wraps an error of its input pipeline in one of its own: this is the readable part.

    Example:
        >>> images = SkippedImages(limit=1)
        >>> images.skip("a.jpg", b"")
        >>> images.skipped
        {'a.jpg': 'empty'}
    """

    def __init__(self, limit: int = 100):
        if limit < 0:
            raise ValueError(f"`limit` must be at least 0, got {limit}.")
        self.limit = limit
        self.skipped: dict[str, str] = {}
        self.converted: dict[str, str] = {}
        self.failure: str | None = None
        self._lock = threading.Lock()

    def skip(self, name: str, data: bytes, reason: str | None = None) -> None:
        """Count and log a file that is skipped.

        Args:
            name: Of the file.
            data: Its content.
            reason: Why; None: what is wrong with the content.

        Raises:
            ValueError: There are more than the limit.
        """
        with self._lock:
            if self.failure:
                raise ValueError(self.failure)
            if name in self.skipped:
                return
            reason = self.skipped[name] = reason or _reason(data)
            _LOG.warning("Image skipped, number %d: %s: %s", len(self.skipped), name, reason)
            if len(self.skipped) > self.limit:
                names = ", ".join(f"{key} ({value})" for key, value in self.skipped.items())
                self.failure = (
                    f"{len(self.skipped)} images of the data set cannot be used, and the limit is "
                    f"{self.limit}: {_shortened(names)}. Mend or remove these files, or raise the "
                    "limit."
                )
                raise ValueError(self.failure)

    def convert(self, name: str, kind: str) -> None:
        """Count and log a file that is converted to 8-bit RGB."""
        with self._lock:
            if name not in self.converted:
                self.converted[name] = kind
                _LOG.info("Image converted to 8-bit RGB: %s: %s", name, kind)

    def figures(self) -> dict[str, int]:
        """How many were skipped, for the results of a measurement; nothing if none was."""
        return {"skipped": len(self.skipped)} if self.skipped else {}

    def __str__(self) -> str:
        kinds = list(self.converted.values())
        parts = [f"{len(self.skipped)} skipped"]
        parts += [f"{kinds.count(kind)} {kind} converted" for kind in sorted(set(kinds))]
        return ", ".join(parts)


def _shortened(text: str, length: int = 1000) -> str:
    return text if len(text) <= length else text[:length] + " ..."


def _reason(data: bytes) -> str:
    """Why a file is skipped, in words."""
    if not data:
        return "empty"
    try:
        read_rgb(data)
    except ValueError as error:
        return str(error)
    return "of a kind that is not wanted"
