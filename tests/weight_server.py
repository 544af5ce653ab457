"""A local server of weight files, well behaved or not, and presets that point at it."""

import contextlib
import dataclasses
import hashlib
import http.server
import socket
import struct
import threading
import time

from torch_files import state_dict_bytes

from keras_parc.weights.presets import PRESETS, Preset
from reference import state_dict

SMALL = dataclasses.replace(
    PRESETS[0], name="parc_net_xs_small", model="ParCNetXS", weights="small"
)
GOLDEN = {
    "small": "parcnet_xs",
    "imagenet": "parcnet_s",
    "coco": "ssd_parcnet_s",
    "voc": "deeplabv3_parcnet_s",
}


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def golden_file(name: str, legacy: bool = False) -> bytes:
    return state_dict_bytes(state_dict(name), legacy)


class WeightServer:
    """Serves `files[name]` at `/<behaviour>/<name>`; `requests` lists the paths asked for."""

    def __init__(self, files: dict[str, bytes]):
        self.files, self.requests = files, []
        self._open = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                _, behaviour, name = self.path.split("/")
                # A client that has had enough closes the connection.
                with contextlib.suppress(ConnectionError):
                    getattr(outer, behaviour)(self, outer.files.get(name, b""))

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self._open.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, behaviour: str, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{behaviour}/{name}"

    def presets(self, *behaviours: str) -> tuple[Preset, ...]:
        """The published presets and `SMALL`, with the files here, a URL for each behaviour."""
        return tuple(
            dataclasses.replace(
                preset,
                urls=tuple(self.url(behaviour, preset.weights) for behaviour in behaviours),
                git_blob=git_blob(self.files[preset.weights]),
            )
            for preset in (*PRESETS, SMALL)
        )

    @staticmethod
    def _head(handler, length: int | None) -> None:
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()

    def good(self, handler, content):
        self._head(handler, len(content))
        handler.wfile.write(content)

    def wrong(self, handler, content):
        self.good(handler, content[:-1] + b"x")

    def short(self, handler, content):
        self.good(handler, content[: len(content) // 2])

    def page(self, handler, content):
        self.good(handler, b"<html>Please log in to this network.</html>")

    def missing(self, handler, content):
        handler.send_error(404)

    def drops(self, handler, content):
        """Closes after half of the content."""
        self._head(handler, len(content))
        handler.wfile.write(content[: len(content) // 2])

    def resets(self, handler, content):
        self.drops(handler, content)
        handler.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.connection.close()

    def silent(self, handler, content):
        """Accepts and never answers."""
        self._open.wait()

    def stalls(self, handler, content):
        """Falls silent after half of the content."""
        self.drops(handler, content)
        self._open.wait()

    def trickles(self, handler, content):
        self._head(handler, len(content))
        while not self._open.is_set():
            handler.wfile.write(b"x")
            time.sleep(0.1)

    def endless(self, handler, content):
        self._head(handler, None)
        while not self._open.is_set():
            handler.wfile.write(bytes(2**20))
