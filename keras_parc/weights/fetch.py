"""Fetching a URL into a file, from a server that may be slow, broken or hostile.

A socket's timeout starts anew with each byte, and a status line, headers, sizes of chunks and what
follows the content may come byte by byte or without end. So the request runs in a thread of its
own, and the caller gives up when too little of the content comes, whatever the reason is.
"""

import contextlib
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import BinaryIO

SILENCE = 10.0  # seconds without a byte until a server counts as dead
PERIOD = 30.0  # seconds; in each of these periods, SLOWEST * PERIOD bytes of content must come
SLOWEST = 2_000  # bytes a second
CHUNK = 2**16


class DownloadError(OSError):
    """Weights that cannot be had; the message says why and how to get them by hand."""


def fetch(url: str, file: BinaryIO, limit: int, report: Callable[[int, int | None], None]) -> None:
    """Write the content of a URL to a file, in at most `PERIOD + limit / SLOWEST` seconds.

    Args:
        url: An address of http or https.
        file: Where to write.
        limit: The most bytes to accept.
        report: Called several times a second with the bytes that came, and the whole size or None.

    Raises:
        DownloadError: The content cannot be had, is too large or comes too slowly.
        OSError: The file cannot be written.
    """
    request = _Request(url, file, limit)
    request.start()
    end, before = time.monotonic() + PERIOD, 0
    try:
        while request.is_alive():
            request.join(0.1)
            report(request.received, request.total)
            if time.monotonic() < end or not request.is_alive():
                continue
            came = request.received - before
            if came < SLOWEST * PERIOD:
                raise DownloadError(
                    f"too slow: {came} bytes in {PERIOD:g} s; expected {SLOWEST} bytes a second"
                )
            end, before = end + PERIOD, request.received
    finally:
        request.end()
    if request.error:
        raise request.error


class _Request(threading.Thread):
    def __init__(self, url: str, file: BinaryIO, limit: int):
        super().__init__(daemon=True)
        self.received, self.total = 0, None
        self.error: Exception | None = None
        self._url, self._file, self._limit = url, file, limit
        self._sockets: list[socket.socket] = []
        self._ended = False

    def run(self) -> None:
        try:
            for chunk in self._chunks():
                self._file.write(chunk)
        except Exception as error:
            self.error = error

    def end(self) -> None:
        """Break the connections, so that the thread ends soon, whatever it waits for."""
        self._ended = True
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _opened(self, connection: socket.socket) -> None:
        self._sockets.append(connection.dup())  # TLS takes the original over
        if self._ended:
            self.end()

    def _chunks(self) -> Iterator[bytes]:
        opener = urllib.request.OpenerDirector()  # without handlers of files, FTP and data
        for handler in (
            *(_Handler(self._opened), urllib.request.ProxyHandler()),
            *(urllib.request.HTTPRedirectHandler(), urllib.request.HTTPErrorProcessor()),
            *(urllib.request.HTTPDefaultErrorHandler(), urllib.request.UnknownHandler()),
        ):
            opener.add_handler(handler)
        try:
            with opener.open(self._url, timeout=SILENCE) as response:
                length = response.headers.get("Content-Length", "")
                self.total = int(length) if length.isdecimal() else None
                if (self.total or 0) > self._limit:
                    raise DownloadError(
                        f"the server offers {self.total} bytes, expected {self._limit} at most"
                    )
                while chunk := response.read1(CHUNK):
                    self.received += len(chunk)
                    if self.received > self._limit:
                        raise DownloadError(f"more than {self._limit} bytes came")
                    yield chunk
        except DownloadError:
            raise
        except urllib.error.HTTPError as error:
            raise DownloadError(f"the server answers {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise DownloadError(f"no connection ({error.reason})") from error
        except TimeoutError as error:
            raise DownloadError(f"the server fell silent for {SILENCE:g} s") from error
        except (http.client.HTTPException, OSError, ValueError) as error:
            kind = type(error).__name__
            raise DownloadError(f"the connection broke ({kind}: {error})") from error
        if self.total is not None and self.received != self.total:
            raise DownloadError(f"the connection ended after {self.received} of {self.total} bytes")


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.opened(self.sock)


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    """Its `connect` calls the one above, then begins TLS."""


class _Handler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens http and https, and tells `opened` of each socket before anything is read from it."""

    def __init__(self, opened: Callable[[socket.socket], None]):
        super().__init__()
        self._opened = opened

    def do_open(self, kind, request, **arguments):
        secure = kind is http.client.HTTPSConnection

        def connection(*address, **more):
            made = (_SecureConnection if secure else _Connection)(*address, **more)
            made.opened = self._opened
            return made

        return super().do_open(connection, request, **arguments)
