#!/usr/bin/env python3
"""Serve the page to the browsers of this machine: python serve.py [--port 8000].

Serves the page's own files, and models and images that lie beside it. Sets what `python -m
http.server` does not: the headers that allow threads in WebAssembly, and the types of JavaScript
modules and WebAssembly on systems that have them wrong.
"""

import argparse
import errno
import functools
import http.server
import os
import sys
import urllib.parse
from typing import ClassVar

FOLDER = os.path.dirname(os.path.abspath(__file__))
LITERT = "node_modules/@litertjs"
FILES = {
    *("index.html", "main.js", "image.js", "metadata.js"),
    *(f"{LITERT}/core/dist/index.js", f"{LITERT}/wasm-utils/dist/index.js"),
    *(
        f"{LITERT}/core/wasm/litert_wasm_{kind}internal.{ending}"
        for kind in ("", "compat_", "jspi_", "threaded_")
        for ending in ("js", "wasm")
    ),
}
# What the page may be asked to show, if it lies beside it.
SHOWN = (".tflite", ".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
HOSTS = ("localhost", "127.0.0.1", "[::1]")


class Handler(http.server.SimpleHTTPRequestHandler):
    """The files of a cross-origin isolated page, to browsers that ask this machine for them."""

    extensions_map: ClassVar = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def parse_request(self):
        """Refuse another host's name: a page of that host would read what is served here."""
        if not super().parse_request():
            return False
        name, _, port = self.headers.get("Host", "").lower().rpartition(":")
        if name in HOSTS and port == str(self.server.server_port):
            return True
        self.send_error(421, "expected the address that serve.py printed")
        return False

    def translate_path(self, path):
        """The file of an address; "", which is no file, for what is not served."""
        name = urllib.parse.unquote(path.partition("?")[0])[1:] or "index.html"
        file = os.path.join(self.directory, name)
        if name in FILES:
            return file
        if name.startswith(".") or not name.isprintable() or not name.lower().endswith(SHOWN):
            return ""
        # The names of folders in the address and links lead elsewhere.
        folder = os.path.join(os.path.realpath(self.directory), "")
        is_beside = os.path.dirname(name) == "" and os.path.realpath(file).startswith(folder)
        return file if is_beside and os.path.isfile(file) else ""

    def end_headers(self):
        """Add the isolation headers to every answer."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


def port(text):
    """A number of a port, for argparse."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected 1 to 65535, or 0 for a free one, got {number}")
    return number


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=port, default=8000, help="(8000)")
    args = parser.parse_args(arguments)
    if not os.path.isdir(os.path.join(FOLDER, LITERT, "core")):
        print(f"error: expected node_modules in {FOLDER}: run npm ci there", file=sys.stderr)
        return 2
    handler = functools.partial(Handler, directory=FOLDER)
    try:
        with http.server.ThreadingHTTPServer(("127.0.0.1", args.port), handler) as server:
            print(f"http://127.0.0.1:{server.server_port}/", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        print("stopped")
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        problem = "is taken" if taken else f"cannot be had ({error.strerror})"
        print(f"error: port {args.port} {problem}: give another (--port)", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
