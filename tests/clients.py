"""Where the tests' other runtimes lie, and how a file is run there."""

import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tflite"
EMULATION = TOOLS / "emulation"
WEB = TOOLS / "web"
ENVIRONMENTS = ROOT / "tests" / "environments"
ARM = Path(os.environ.get("KERAS_PARC_ARM", ROOT / ".arm")).resolve()
MEDIAPIPE = Path(os.environ.get("KERAS_PARC_MEDIAPIPE", ROOT / ".mediapipe")).resolve()
NPU = Path(os.environ.get("KERAS_PARC_NPU", ROOT / ".npu")).resolve()
TARGETS = {"armv7x": "3.9", "armv7": "3.11", "arm64": "3.11"}  # emulated, and their Python
CANNOT_BE_HAD = 3  # exit code of the set-ups

sys.path[:0] = [str(TOOLS), str(EMULATION), str(WEB)]
import compare  # noqa: E402, F401
import run  # noqa: E402
import serve  # noqa: E402


def command(*arguments, timeout=300, **env):
    env = {**os.environ, "KERAS_PARC_ARM": str(ARM), **env}
    arguments = list(map(str, arguments))
    return subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, env=env)


def mediapipe(task, content, images, folder):
    """Run a task in a process of its own: some of MediaPipe's errors hang."""
    (folder / "model.tflite").write_bytes(content)
    np.save(folder / "images.npy", images)
    arguments = [MEDIAPIPE / "venv/bin/python", ENVIRONMENTS / "mediapipe_client.py", task]
    done = command(*arguments, folder / "model.tflite", folder / "images.npy", timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def micro(path, inputs, folder):
    """Run a file in TensorFlow Lite for microcontrollers: its outputs, raw."""
    np.save(folder / "inputs.npy", inputs)
    arguments = [NPU / "venv/bin/python", ENVIRONMENTS / "micro_client.py", path]
    done = command(*arguments, folder / "inputs.npy", folder / "outputs.npy")
    assert done.returncode == 0, done.stderr
    return np.load(folder / "outputs.npy")


def python_says(model, image):
    """The lines of run.py for an image file."""
    metadata = run.read_metadata(model)
    return run.run(run.open_model(model), run.read_image(image), metadata, metadata.labels, 5)


def shown(report):
    """The lines that run.py would print, of what the page found; see the `browse` fixture."""
    assert report["isolated"]  # else no threads
    scores = np.float32(report["found"]["scores"])
    order = np.argsort(-scores, kind="stable")[:5]
    return [f"{scores[i]:.4f}  {run.label_of(report['labels'], i)}" for i in order]


# A page around the page: a script of the test acts on it, and its answer goes to the test's server.
AROUND = ROOT / "tests" / "device" / "around.html"
LOOK = "return await next();"


class Handler(serve.Handler):
    """The project's server, plus the test's own files, the page around the page, and its report."""

    def translate_path(self, path):
        name = urllib.parse.unquote(path.partition("?")[0]).lstrip("/")
        own = self.server.folder / name.removeprefix("models/")
        return str(own) if name and own.is_file() else super().translate_path(path)

    def do_GET(self):
        if self.server.is_down and self.path != "/watch":
            self.close_connection = True
        elif self.path == "/watch":
            page = AROUND.read_text().replace("QUERY", self.server.query)
            self.answer(page.replace("SCRIPT", self.server.script))
        elif self.path.startswith("/index.html") and self.server.prelude:
            page = (WEB / "index.html").read_text()
            self.answer(page.replace("<head>", f"<head><script>{self.server.prelude}</script>"))
        else:
            super().do_GET()

    def answer(self, page):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page.encode())))
        self.end_headers()
        self.wfile.write(page.encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        if self.path == "/down":
            self.server.is_down = True
            return
        self.server.report.append(json.loads(body))
        self.server.answered.set()
