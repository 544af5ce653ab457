"""tflite/web/serve.py: which files it serves and to whom, and what it says of a wrong port."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from clients import WEB, serve

LITERT = "node_modules/@litertjs/core/"


@contextlib.contextmanager
def running(models, libraries=serve.FOLDER, **options):
    with serve.open_server(0, models, libraries, **options) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models and the page's libraries, and what is nobody's business."""
    folder = tmp_path_factory.mktemp("served")
    for name in ("large.tflite", "Small 1.tflite", "other.tflite", "cat.png"):
        (folder / name).write_text(name)
    for name in (*serve.LIBRARIES, f"{LITERT}README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "large.tflite").write_bytes(bytes(2_000_000))
    return folder


@pytest.fixture(scope="module")
def server(folder):
    models = serve.by_name([folder / "large.tflite", folder / "Small 1.tflite"])
    with running(models, str(folder)) as server:
        yield server


def ask(server, path, method="GET", host=None):
    """The answer and its body; the path goes out as it is, which no browser would do."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    if host is None:
        host = f"127.0.0.1:{server.server_port}"
    if host:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/index.html?model=large.tflite", "text/html"),
        ("/main.js", "text/javascript"),
        ("/style.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
        ("/manifest.webmanifest", "application/manifest+json"),
        ("/models.json", "application/json"),
        ("/models/Small%201.tflite", "application/octet-stream"),
        (f"/{LITERT}wasm/litert_wasm_internal.wasm", "application/wasm"),
    ],
)
def test_the_page_and_its_models(server, path, kind):
    answer, body = ask(server, path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert len(body) == int(answer.headers["Content-Length"]) > 0
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert answer.headers["Cache-Control"] == "no-cache"  # a model made anew is seen
    answer, body = ask(server, path, "HEAD")
    assert (answer.status, body) == (200, b"")


def test_the_smallest_model_is_the_first(server):
    assert json.loads(ask(server, "/models.json")[1]) == [
        {"name": "Small 1.tflite", "megabytes": 0.0},
        {"name": "large.tflite", "megabytes": 2.0},
    ]
    assert ask(server, "/models/Small%201.tflite")[1] == b"Small 1.tflite"


@pytest.mark.parametrize(
    "path",
    [
        *("/serve.py", "/package.json", f"/{LITERT}README.md", "/cat.png", "/other.tflite"),
        *("/node_modules/", "/node_modules", "/models/", "/models", "/models/other.tflite"),
        *("/models/../large.tflite", "/large.tflite", "/models/%2fetc/passwd"),
        *("/./main.js", "/x/../main.js", "//etc/passwd", "/%2fetc/passwd", "/a%00.png", "//[.png"),
    ],
)
def test_nothing_else_is_served(server, path):
    answer, body = ask(server, path)
    assert answer.status == 404
    assert b"tflite" not in body


def test_other_methods_are_not_known(server):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, "/main.js", method)[0].status == 501


def test_a_page_of_another_host_reads_nothing(server):
    """Its name may lead to 127.0.0.1 (DNS rebinding); the browser still sends it as the host."""
    port = server.server_port
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert ask(server, "/main.js", host=host)[0].status == 200
    for host in (
        "",
        "localhost",
        f"localhost:{port + 1}",
        f"evil.example:{port}",
        f"127.0.0.2:{port}",
    ):
        answer, body = ask(server, "/main.js", host=host)
        assert (answer.status, b"main.js" in body) == (421, False)


def test_the_name_of_this_machine_in_its_network(folder):
    with running({}, str(folder), hosts=(*serve.HOSTS, "192.0.2.7")) as server:
        port = server.server_port
        assert ask(server, "/main.js", host=f"192.0.2.7:{port}")[0].status == 200
        assert ask(server, "/main.js", host=f"192.0.2.8:{port}")[0].status == 421


def test_all_that_the_page_names_is_served():
    """The files of the repository, by their names in each other; and none that nobody names."""
    named = {"index.html"}
    for name in serve.PAGE:
        text = (WEB / name).read_text()
        named |= set(re.findall(r"""["'](?:\./)?([\w.]+\.(?:js|css|svg|webmanifest))["']""", text))
        named |= set(re.findall(r'"\./(node_modules[\w/@.-]+\.js)"', text))
    assert named - set(serve.LIBRARIES) == set(serve.PAGE)
    assert len(named & set(serve.LIBRARIES)) == 2
    assert {path.name for path in WEB.iterdir() if path.suffix not in (".json", ".py")} - {
        ".gitignore",
        "node_modules",
        "__pycache__",
    } == set(serve.PAGE)


def test_wrong_arguments(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"^port {port} is taken: give another \(--port\)$"):
            serve.open_server(port, {})
    for text in ("65536", "-1", "many"):
        with pytest.raises(SystemExit) as stopped:
            serve.main([f"--port={text}"])
        assert stopped.value.code == 2
    assert "expected 1 to 65535" in capsys.readouterr().err


def test_alone_without_models_or_litert(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(serve, "FOLDER", str(folder))
    assert serve.main([str(folder / "cat.png")]) == 2
    assert capsys.readouterr().err == f"error: expected a .tflite file, got {folder / 'cat.png'}\n"
    monkeypatch.setattr(serve, "FOLDER", str(tmp_path))
    assert serve.main([]) == 2
    assert "run npm ci there" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(serve, "FOLDER", str(folder))
        assert serve.main(["--port", str(taken.getsockname()[1])]) == 2
    assert "is taken: give another (--port)" in capsys.readouterr().err


def test_ctrl_c(folder):
    code = "import sys, serve; serve.FOLDER = sys.argv[1]; sys.exit(serve.main(['--port=0']))"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(WEB)},
    ) as process:
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=30)
    assert (process.returncode, printed, errors) == (0, "stopped\n", "")
