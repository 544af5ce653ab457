"""tflite/web/serve.py: which files it serves and to whom, and what it says of a wrong port."""

import functools
import http.client
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from clients import WEB, serve

LITERT = "node_modules/@litertjs/core/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's folder: its files, the user's beside it, and what is nobody's business."""
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    outside.write_text("secret")
    folder = tmp_path_factory.mktemp("page")
    (folder / LITERT / "wasm").mkdir(parents=True)
    (folder / "folder.png").mkdir()
    for name in (
        *("index.html", "main.js", "model.tflite", "Cat 1.JPG", "linked.png"),
        *(".hidden.png", "serve.py", "package.json", f"{LITERT}README.md"),
        *(f"{LITERT}wasm/litert_wasm_internal.wasm", "folder.png/inside.png"),
    ):
        (folder / name).write_text(name)
    (folder / "inside.png").symlink_to(folder / "linked.png")
    (folder / "outside.png").symlink_to(outside)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    class Quiet(serve.Handler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


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
    ("path", "kind", "content"),
    [
        ("/", "text/html", b"index.html"),
        ("/index.html?model=model.tflite", "text/html", b"index.html"),
        ("/main.js", "text/javascript", b"main.js"),
        ("/model.tflite", "application/octet-stream", b"model.tflite"),
        ("/Cat%201.JPG", "image/jpeg", b"Cat 1.JPG"),
        ("/inside.png", "image/png", b"linked.png"),
        (f"/{LITERT}wasm/litert_wasm_internal.wasm", "application/wasm", None),
    ],
)
def test_the_page_and_what_it_shows(server, path, kind, content):
    answer, body = ask(server, path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert content in (None, body)
    answer, body = ask(server, path, "HEAD")
    assert (answer.status, body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        *("/serve.py", "/package.json", f"/{LITERT}README.md", "/.hidden.png", "/nothing.png"),
        *(
            "/node_modules/",
            "/node_modules",
            "/folder.png",
            "/folder.png/",
            "/folder.png/inside.png",
        ),
        *("/outside.png", "/../outside/secret.png", "/..%2foutside0%2fsecret.png"),
        *(
            "/./main.js",
            "/x/../main.js",
            "//etc/passwd.png",
            "/%2fetc/passwd",
            "/a%00.png",
            "//[.png",
        ),
    ],
)
def test_nothing_else_is_served(server, path):
    answer, body = ask(server, path)
    assert answer.status == 404
    assert b"secret" not in body


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


def test_all_that_the_page_names_is_served():
    """The files of the repository, by their names in each other."""
    names = {"main.js", "image.js", "metadata.js"}
    text = "".join((WEB / name).read_text() for name in ("index.html", "main.js"))
    assert all(f'"{name}"' in text or f'"./{name}"' in text for name in names)
    libraries = {
        line.split('"./')[1].split('"')[0] for line in text.splitlines() if '"./node' in line
    }
    assert len(libraries) == 2
    assert names | libraries | {"index.html"} <= serve.FILES


def test_wrong_ports(folder, monkeypatch, capsys):
    monkeypatch.setattr(serve, "FOLDER", str(folder))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.main(["--port", str(port)]) == 2
    expected = f"error: port {port} is taken: give another (--port)\n"
    assert capsys.readouterr() == ("", expected)
    for text in ("65536", "-1", "many"):
        with pytest.raises(SystemExit) as stopped:
            serve.main([f"--port={text}"])
        assert stopped.value.code == 2
    assert "expected 1 to 65535" in capsys.readouterr().err


def test_without_litert(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(serve, "FOLDER", str(tmp_path))
    assert serve.main([]) == 2
    assert "run npm ci there" in capsys.readouterr().err


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
