#!/usr/bin/env python3
"""Serve this folder to the browsers of this machine: python serve.py [--port 8000].

Sets what `python -m http.server` does not: the headers that allow threads in WebAssembly, and the
types of JavaScript modules and WebAssembly on systems that have them wrong.
"""

import argparse
import functools
import http.server
import os
import sys
from typing import ClassVar

FOLDER = os.path.dirname(os.path.abspath(__file__))


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files with the headers of a cross-origin isolated page."""

    extensions_map: ClassVar = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self):
        """Add the isolation headers to every answer."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args(arguments)
    if not os.path.isdir(os.path.join(FOLDER, "node_modules", "@litertjs", "core")):
        print(f"error: expected node_modules in {FOLDER}: run npm ci there", file=sys.stderr)
        return 2
    handler = functools.partial(Handler, directory=FOLDER)
    with http.server.ThreadingHTTPServer(("127.0.0.1", args.port), handler) as server:
        print(f"http://127.0.0.1:{args.port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
