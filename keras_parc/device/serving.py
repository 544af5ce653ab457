"""The page on this computer's own addresses, and how a phone comes to it."""

import ipaddress
import os
import socket
from pathlib import Path

from rich.console import Console

from keras_parc.device.libraries import libraries
from keras_parc.device.models import tflite_files
from keras_parc.device.tools.web import serve
from keras_parc.support.text import printable


def serve_page(
    path: str | os.PathLike, *, port: int = 8000, lan: bool = False, console: Console | None = None
) -> None:
    """Serve the page with the models of a run, until Ctrl-C.

    Args:
        path: What `tflite_files` takes.
        port: 0 to 65535; 0: a free one.
        lan: Also to other machines of the network; else to this one alone.
        console: Where to print.

    Raises:
        FileNotFoundError: There is no such file or folder, or no model in it.
        ValueError: A file is not a `.tflite`, or is damaged.
        RuntimeError: The page's libraries cannot be had.
        OSError: The port cannot be had, or this machine is in no network.
    """
    console = console or Console(highlight=False)
    files = tflite_files(path)
    here = lan_address() if lan else None
    hosts = (*serve.HOSTS, here) if here else serve.HOSTS
    server = serve.open_server(
        port,
        serve.by_name(files),
        libraries(console),
        hosts,
        "0.0.0.0" if lan else "127.0.0.1",
    )
    with server:
        port = server.server_port
        for line in directions(port, files, here):
            console.print(printable(line), soft_wrap=True, markup=False)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("\nstopped")


def directions(port: int, files: list[Path], lan: str | None) -> list[str]:
    """The lines that say where the page is, on this computer and on a phone.

    Args:
        port: Of the server.
        files: What is served.
        lan: The address of this machine in its network, if the page is served there too.

    Example:
        >>> print(*directions(8000, [Path("pets.tflite")], None), sep="\\n")
        pets.tflite at http://localhost:8000/
        A phone on a cable, USB debugging on: adb reverse tcp:8000 tcp:8000
        then http://localhost:8000/ in its browser, with the camera.
        Ctrl-C stops it.
    """
    url = f"http://localhost:{port}/"
    lines = [
        f"{', '.join(file.name for file in files)} at {url}",
        f"A phone on a cable, USB debugging on: adb reverse tcp:{port} tcp:{port}",
        f"then {url} in its browser, with the camera.",
    ]
    if lan:
        there = f"http://{lan}:{port}/"
        lines += [
            f"Any phone of this network: {there}",
            "There browsers give no camera, since it is not HTTPS: only pictures and video files.",
            qr_code(there),
        ]
    return [*lines, "Ctrl-C stops it."]


def qr_code(address: str) -> str:
    """The address as a QR code of characters; how to get one where segno is not installed.

    Example:
        >>> print(qr_code("http://192.168.1.7:8000/"))  # doctest: +SKIP
    """
    try:
        import segno
    except ModuleNotFoundError:
        return "For a QR code of it: pip install 'keras_parc[serve]'"
    rows = [list(row) for row in segno.make(address, error="l").matrix_iter(border=2)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    # Two rows a line. Light is drawn, so that it is right on dark terminals, and inverted on light
    # ones, which phones read as well.
    blocks = {(1, 1): " ", (0, 1): "▀", (1, 0): "▄", (0, 0): "█"}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(blocks[pair] for pair in zip(*two, strict=True)) for two in pairs)


def lan_address() -> str:
    """The address by which other machines of the network reach this one.

    Raises:
        OSError: It is in no network.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the system chooses the interface
        except OSError as error:
            raise OSError("--lan: this machine is in no network.") from error
        address = probe.getsockname()[0]
    if ipaddress.ip_address(address).is_loopback:
        raise OSError("--lan: this machine is in no network.")
    return address
