"""The other runtimes: set up where they are not yet.

Where one cannot be had, its tests skip and say why.
"""

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
    LOOK,
    MEDIAPIPE,
    NPU,
    TARGETS,
    WEB,
    Handler,
    command,
    serve,
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
    with serve.Server(("127.0.0.1", 0), {}, handler=Handler) as server:
        server.folder = tmp_path_factory.mktemp("web")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def browse(chromium, server, tmp_path):
    """Open the page with a model and an image, let a script act; return what it returns.

    `script`: see `around.html`. `prelude`: runs before the page. `flags`: of the browser.
    """

    def open_page(model=None, image=None, script=LOOK, prelude="", flags=()):
        server.report, server.answered = [], threading.Event()
        query = {"model": model, "image": image}
        server.query = urllib.parse.urlencode({k: v for k, v in query.items() if v})
        server.script, server.prelude, server.is_down = script, prelude, False
        address = f"http://127.0.0.1:{server.server_port}/watch"
        browser = subprocess.Popen(
            [
                *(chromium, "--headless", "--no-sandbox", "--no-first-run"),
                *("--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}"),
                *(flags or ["--disable-gpu"]),
                address,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert server.answered.wait(90), "the page gave no answer in 90 s"
        finally:
            browser.terminate()
            browser.wait(20)
        (report,) = server.report
        assert "problem" not in report, report["problem"]
        return report

    return open_page
