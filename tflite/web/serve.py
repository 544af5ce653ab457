#!/usr/bin/env python3
"""Serve the page to the browsers of this machine: python serve.py [MODEL...] [--port 8000].

Serves the page's own files and the models, by default those of the folder models beside it, and
nothing else. Sets what `python -m http.server` does not: the headers that allow threads in
WebAssembly, and the types of JavaScript modules and WebAssembly on systems that have them wrong.
"""

import argparse
import errno
import glob
import http.server
import json
import os
import sys
import urllib.parse
from typing import ClassVar

FOLDER = os.path.dirname(os.path.abspath(__file__))
PAGE = (
    *("index.html", "style.css", "icon.svg", "manifest.webmanifest", "sw.js", "main.js"),
    *("model.js", "metadata.js", "image.js", "detection.js", "overlay.js", "sources.js"),
)
LITERT = "node_modules/@litertjs"
LIBRARIES = (
    *(f"{LITERT}/core/dist/index.js", f"{LITERT}/wasm-utils/dist/index.js"),
    *(
        f"{LITERT}/core/wasm/litert_wasm_{kind}internal.{ending}"
        for kind in ("", "compat_", "jspi_", "threaded_")
        for ending in ("js", "wasm")
    ),
)
HOSTS = ("localhost", "127.0.0.1", "[::1]")
LISTING = "models.json"
MODELS = "models/"


class Server(http.server.ThreadingHTTPServer):
    """The page and models.

    `models`: paths of files by the names that they are served under. `libraries`: the folder that
    holds node_modules. `hosts`: names that a browser may call this server by.
    """

    daemon_threads = True

    def __init__(self, address, models, libraries=FOLDER, hosts=HOSTS, handler=None):
        self.models, self.libraries, self.hosts = models, libraries, hosts
        super().__init__(address, handler or Handler)


class Handler(http.server.SimpleHTTPRequestHandler):
    """The files of a cross-origin isolated page, to browsers that ask this machine for them."""

    extensions_map: ClassVar = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
    }

    def parse_request(self):
        """Refuse another host's name: a page of that host would read what is served here."""
        if not super().parse_request():
            return False
        name, _, port = self.headers.get("Host", "").lower().rpartition(":")
        if name in self.server.hosts and port == str(self.server.server_port):
            return True
        self.send_error(421, "expected the address that was printed")
        return False

    def send_head(self):
        """Answer with the list of models, or with a file."""
        if self.path.partition("?")[0] != "/" + LISTING:
            return super().send_head()
        content = listing(self.server.models).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    def translate_path(self, path):
        """The file of an address; "", which is no file, for what is not served."""
        name = urllib.parse.unquote(path.partition("?")[0])[1:] or "index.html"
        if name in PAGE:
            return os.path.join(FOLDER, name)
        if name in LIBRARIES:
            return os.path.join(self.server.libraries, name)
        if name.startswith(MODELS):
            return str(self.server.models.get(name[len(MODELS) :], ""))
        return ""

    def end_headers(self):
        """Add the isolation headers to every answer, and that a browser asks whether it is new."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *arguments):
        """Nothing: the page says what goes wrong."""


def listing(models):
    """What the page asks for first: the models that it can choose from, as JSON."""
    sizes = ((name, os.path.getsize(path)) for name, path in models.items())
    return json.dumps([{"name": name, "megabytes": round(size / 1e6, 1)} for name, size in sizes])


def by_name(paths):
    """Models by the names they are served under, the smallest first, which the page opens with."""
    return {os.path.basename(path): path for path in sorted(map(str, paths), key=os.path.getsize)}


def open_server(port, models, libraries=FOLDER, hosts=HOSTS, address="127.0.0.1"):
    """A `Server` at a port, 0: a free one; OSError says in one line why it cannot be had."""
    try:
        return Server((address, port), models, libraries, hosts)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        problem = "is taken" if taken else f"cannot be had ({error.strerror})"
        raise OSError(f"port {port} {problem}: give another (--port)") from error


def port_number(text):
    """A number of a port, for argparse."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected 1 to 65535, or 0 for a free one, got {number}")
    return number


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="*", help="(those in the folder models)")
    parser.add_argument("--port", type=port_number, default=8000, help="(8000)")
    args = parser.parse_args(arguments)
    problem = None
    for path in args.model:
        if not (path.endswith(".tflite") and os.path.isfile(path)):
            problem = f"expected a .tflite file, got {path}"
    if not os.path.isdir(os.path.join(FOLDER, LITERT, "core")):
        problem = f"expected node_modules in {FOLDER}: run npm ci there"
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    models = by_name(args.model or glob.glob(os.path.join(FOLDER, MODELS, "*.tflite")))
    try:
        with open_server(args.port, models) as server:
            print(f"http://127.0.0.1:{server.server_port}/", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        print("stopped")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
