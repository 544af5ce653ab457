"""tflite/web in a headless Chromium: the same numbers as Python."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tflite_models import attach_metadata, conv_net, convert, halves

WEB = Path(__file__).parents[1] / "tflite" / "web"
sys.path[:0] = [str(WEB), str(WEB.parent)]
import run  # noqa: E402
import serve  # noqa: E402

pytestmark = pytest.mark.web

# A page around the page: waits for its answer and hands it to the test's server.
WATCHER = """<!doctype html><iframe src="/index.html?{query}"></iframe><script>
const page = document.querySelector("iframe");
const timer = setInterval(() => {{
  const inside = page.contentDocument;
  const status = inside.getElementById("status")?.textContent ?? "";
  if (!/ms|error/.test(status)) return;
  clearInterval(timer);
  const cells = [...inside.querySelectorAll("#result tr")].map(
    (row) => [...row.cells].map((cell) => cell.textContent));
  const isolated = page.contentWindow.crossOriginIsolated;
  fetch("/report", {{method: "POST", body: JSON.stringify({{status, cells, isolated}})}});
}}, 50);
</script>"""


class Handler(serve.Handler):
    """The project's server, plus the test's own files, the page around the page, and its report."""

    def translate_path(self, path):
        name = urllib.parse.unquote(path.split("?")[0]).lstrip("/")
        own = self.server.folder / name
        return str(own) if name and own.is_file() else super().translate_path(path)

    def do_GET(self):
        if not self.path.startswith("/watch?"):
            return super().do_GET()
        page = WATCHER.format(query=self.path.partition("?")[2]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self.server.report.append(json.loads(body))
        self.server.answered.set()

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.skip("no Chromium here: sudo apt-get install chromium")
    if not (WEB / "node_modules").is_dir():
        if not shutil.which("npm"):
            pytest.skip("no npm here: sudo apt-get install npm")
        done = subprocess.run(["npm", "ci"], cwd=WEB, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install LiteRT.js: {done.stderr.strip().splitlines()[-1]}")
    return found


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    handler = functools.partial(Handler, directory=str(WEB))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.folder = tmp_path_factory.mktemp("web")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def browse(chromium, server, tmp_path):
    """Open the page with a model and an image; return what it shows."""

    def open_page(model, image):
        server.report, server.answered = [], threading.Event()
        query = urllib.parse.urlencode({"model": model, "image": image})
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        flags.append("--disable-dev-shm-usage")
        address = f"http://127.0.0.1:{server.server_port}/watch?{query}"
        browser = subprocess.Popen(
            [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert server.answered.wait(90), "the page gave no answer in 90 s"
        finally:
            browser.terminate()
            browser.wait(20)
        return server.report[0]

    return open_page


@pytest.fixture(scope="session")
def image(server):
    """A photograph's stand-in: smooth, coloured, larger than the input, not square."""
    coarse = np.random.default_rng(3).integers(0, 256, (7, 9, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((211, 157), Image.BICUBIC)
    picture.save(server.folder / "image.png")
    return server.folder / "image.png"


def python_says(model, image):
    metadata = run.read_metadata(model)
    return run.run(run.open_model(model), run.read_image(image), metadata, metadata.labels, 5)


def shown(report):
    assert re.fullmatch(r"[\d.]+ ms, median of 10", report["status"]), report["status"]
    assert report["isolated"]  # else no threads
    return ["  ".join(cells) for cells in report["cells"]]


def test_int8_body_with_metadata(browse, server, image):
    """Digit for digit: the same crop, the same integers, the same labels."""
    net = conv_net()
    calibration = np.random.default_rng(0).uniform(-1, 1, (8, 1, 32, 32, 3)).astype(np.float32)
    path = convert(
        server.folder / "int8.tflite",
        lambda image: tf.nn.softmax(net(image * 127.5 + 127.5)),
        io=tf.float32,
        images=calibration,
    )
    attach_metadata(path, [127.5], [127.5], ["probability"], [f"digit {i}" for i in range(10)])
    expected = python_says(path, image)
    assert len(set(expected)) == 5
    assert shown(browse("int8.tflite", "image.png")) == expected


def test_float_logits_without_metadata(browse, server, image):
    path = convert(server.folder / "logits.tflite", conv_net())
    found = [line.split("  ") for line in shown(browse("logits.tflite", "image.png"))]
    expected = [line.split("  ") for line in python_says(path, image)]
    assert [name for _, name in found] == [name for _, name in expected]
    assert len({score for score, _ in expected}) == 5
    difference = [float(a) - float(b) for (a, _), (b, _) in zip(found, expected, strict=True)]
    np.testing.assert_allclose(difference, 0, atol=1e-4)  # the last digit shown


def test_what_the_page_refuses(browse, server, image):
    convert(server.folder / "uint8.tflite", halves, io=tf.uint8)
    assert "expected float32" in browse("uint8.tflite", "image.png")["status"]
    assert "expected a .tflite" in browse("image.png", "image.png")["status"]
    missing = browse("nothing.tflite", "image.png")
    assert missing["status"] == "error: no model at nothing.tflite"


def test_serve_sets_headers_and_types(server):
    base = f"http://127.0.0.1:{server.server_port}"
    for name, kind in [("main.js", "text/javascript"), ("index.html", "text/html")]:
        with urllib.request.urlopen(f"{base}/{name}") as answer:
            assert answer.headers["Content-Type"].startswith(kind)
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
