"""Downloading from servers that trickle, flood, redirect or say nothing: an error, in time."""

import contextlib
import dataclasses
import os
import signal
import socket
import threading
import time
import traceback
from types import SimpleNamespace

import pytest
from weight_server import git_blob

from keras_parc.weights import fetch
from keras_parc.weights.cache import cache_folder, converted_weights
from keras_parc.weights.fetch import DownloadError
from keras_parc.weights.presets import PRESETS

GUARD = 8.0  # seconds; the servers here hang up after them, so that no test waits for ever
CONTENT = bytes(200_000)
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers each request with `first`, then `more` again and again, with `pause` s between."""

    def __init__(self, first: bytes, more: bytes | None = None, pause: float = 0.05):
        self._answer = first, more, pause
        self.requests, self.left = 0, threading.Event()  # whether a client has hung up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # closed at the end of the test
            while True:
                connection, _ = self._listener.accept()
                self.requests += 1
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        first, more, pause = self._answer
        end = time.monotonic() + GUARD
        with connection, contextlib.suppress(ConnectionError):
            connection.settimeout(GUARD)
            connection.recv(2**16)
            connection.sendall(first.replace(b"NUMBER", b"%d" % self.requests))
            if more is None:
                return
            while time.monotonic() < end:
                connection.sendall(more)
                time.sleep(pause)
                if not more and not connection.recv(1):
                    break
            else:
                return
        self.left.set()

    def close(self):
        self._listener.close()


@pytest.fixture
def serve():
    servers = []

    def start(*answer, **options):
        servers.append(Server(*answer, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def limits(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_PARC_WEIGHTS", raising=False)
    monkeypatch.setattr(fetch, "SILENCE", 2.0)
    monkeypatch.setattr(fetch, "PERIOD", 5.0)


@pytest.fixture
def hurry(monkeypatch):
    monkeypatch.setattr(fetch, "PERIOD", 0.3)


def get(server, content=CONTENT, scheme="http"):
    """Download as a model does; "converting" is copying."""
    url = f"{scheme}://{server.address}/weights.pt"
    preset = dataclasses.replace(PRESETS[0], urls=(url,), git_blob=git_blob(content))
    return converted_weights(preset, lambda source, out: out.write_bytes(source.read_bytes()), "1")


def failure(server, **options) -> str:
    """What the user reads of it; nothing may be left behind."""
    with pytest.raises(DownloadError) as caught:
        get(server, **options)
    assert [path.name for path in cache_folder().iterdir() if path.suffix != ".lock"] == []
    assert "\x1b" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("length", [b"Content-Length: 200000\r\n\r\n", b"\r\n"])
def test_what_a_good_server_sends_is_kept(serve, length):
    assert get(serve(HEAD + length + CONTENT)).read_bytes() == CONTENT


def test_a_proxy_is_used(serve, monkeypatch):
    proxy = serve(HEAD + b"\r\n" + CONTENT)
    monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert get(SimpleNamespace(address="weights.invalid")).read_bytes() == CONTENT
    assert proxy.requests == 1


TRICKLES = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "status line of a proxy": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2", b"0"),
    "header": (HEAD + b"Server: ", b"x"),
    "headers": (HEAD, b"A: b\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/", b"x"),
    "content": (HEAD + b"Content-Length: 200000\r\n\r\n", b"x"),
    "size of a chunk": (CHUNKED, b"0"),
    "extension of a chunk": (CHUNKED + b"ffff;", b"x"),
    "chunk": (CHUNKED + b"ffff\r\n", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "trailers": (CHUNKED + b"30d40\r\n" + CONTENT + b"\r\n0\r\n", b"A: b\r\n"),
}


@pytest.mark.parametrize("part", TRICKLES)
def test_a_trickle(serve, hurry, part):
    server = serve(*TRICKLES[part])
    text = failure(server)
    assert "too slow: " in text
    assert "bytes in 0.3 s; expected 2000 bytes a second" in text
    assert server.left.wait(GUARD / 2)  # no thread goes on with it


@pytest.mark.parametrize("part", ["continue", "trailers"])
def test_a_flood(serve, hurry, part):
    server = serve(*TRICKLES[part], pause=0)
    assert "too slow: " in failure(server)
    assert server.left.wait(GUARD / 2)


def test_silence(serve, monkeypatch):
    monkeypatch.setattr(fetch, "SILENCE", 0.2)
    server = serve(b"", b"")
    assert "the server fell silent for 0.2 s" in failure(server)
    assert "no connection (" in failure(server, scheme="https")  # TLS has not begun
    assert server.left.wait(GUARD / 2)


def test_tls_that_trickles(serve, hurry, monkeypatch):
    monkeypatch.setattr(fetch, "SILENCE", 2 * GUARD)
    server = serve(b"\x16\x03\x03\x40\x00", b"\x02")
    assert "too slow: 0 bytes" in failure(server, scheme="https")
    assert server.left.wait(GUARD / 2)


def test_a_name_server_that_does_not_answer(serve, hurry, monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answer.wait(GUARD) and [])
    assert "too slow: 0 bytes" in failure(serve(HEAD))
    answer.set()


REDIRECT = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "


def test_redirects_without_end(serve):
    for place in (b"/weights.pt", b"/NUMBER"):
        server = serve(REDIRECT + place + b"\r\n\r\n")
        assert "the server answers 302 " in failure(server)
        assert server.requests <= 11
    for place in (b"ftp://127.0.0.1/x", b"file:///etc/passwd", b"data:,x"):
        text = failure(serve(REDIRECT + place + b"\r\n\r\n"))
        assert any(part in text for part in ("unknown url type", "not allowed"))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 \x1b[2J" + b"x" * 50_000 + b"\r\n\r\n",
        b"HTTP/1.1 \x1b[2J" + b"x" * 50_000 + b"\r\n\r\n",
        b"\x1b[2J" + b"x" * 50_000 + b"\r\n\r\n",
        REDIRECT + b"gopher://\x1b[2J" + b"x" * 50_000 + b"\r\n line\r\n\r\n",
        HEAD + b"Content-Length: " + b"9" * 4000 + b"\r\n\r\n",
    ],
    ids=["reason", "status", "no HTTP", "redirect", "length"],
)
def test_what_a_server_says_is_one_short_line(serve, answer):
    lines = failure(serve(answer)).splitlines()
    assert len(lines) == 3
    assert len(lines[1]) < 600


def test_ctrl_c_ends_it_at_once(serve, monkeypatch):
    monkeypatch.setattr(fetch, "PERIOD", 2 * GUARD)
    server = serve(*TRICKLES["header"])
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        get(server)
    assert server.left.wait(GUARD / 2)
    assert [path.suffix for path in cache_folder().iterdir()] in ([], [".lock"])


def test_a_slow_server_is_borne_while_it_keeps_the_pace(serve, monkeypatch):
    """For three periods, in each of which enough comes."""
    monkeypatch.setattr(fetch, "PERIOD", 0.5)
    server = serve(HEAD + b"Content-Length: 200000\r\n\r\n", bytes(10_000), pause=0.06)
    assert get(server).read_bytes() == CONTENT
