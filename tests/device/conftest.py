"""The other runtimes: set up where they are not yet.

Where one cannot be had, its tests skip and say why.
"""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
import urllib.parse

import pytest
from clients import (
    ARM,
    CANNOT_BE_HAD,
    EMULATION,
    ENVIRONMENTS,
    MEDIAPIPE,
    NPU,
    TARGETS,
    WEB,
    Handler,
    command,
)
from session_folders import user_environment


def set_up(*arguments, **env):
    # Installed once and kept, by the user's own settings of pip and npm.
    done = command(*arguments, timeout=600, **{**user_environment(), **env})
    if done.returncode == CANNOT_BE_HAD:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def emulation():
    set_up(EMULATION / "setup.sh", ARM, *TARGETS, "x86", PYTHON=sys.executable)


@pytest.fixture(scope="session")
def mediapipe_environment():
    set_up(ENVIRONMENTS / "mediapipe.sh", MEDIAPIPE)


@pytest.fixture(scope="session")
def npu_environment():
    set_up(ENVIRONMENTS / "npu.sh", NPU)


@pytest.fixture(scope="session")
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.skip("no Chromium here: sudo apt-get install chromium")
    if not (WEB / "node_modules").is_dir():
        if not shutil.which("npm"):
            pytest.skip("no npm here: sudo apt-get install npm")
        done = subprocess.run(
            ["npm", "ci"],
            cwd=WEB,
            capture_output=True,
            text=True,
            check=False,
            env=user_environment(),
        )
        if done.returncode:
            pytest.skip(f"npm cannot install LiteRT.js: {done.stderr.strip().splitlines()[-1]}")
    return found


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    handler = functools.partial(Handler, directory=str(WEB))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.folder = tmp_path_factory.mktemp("web")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
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
