"""Folders to copy to a device: the model and all that runs it there."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from keras_parc import device
from keras_parc.device.libraries import PAGE, libraries
from keras_parc.device.models import tflite_files
from keras_parc.device.tools.web import serve
from keras_parc.lite.file.inspection import inspect
from keras_parc.lite.file.metadata import read_metadata, recorded_scale
from keras_parc.report.exporting import export_run
from keras_parc.report.run import Run, is_run
from keras_parc.support.checks import unknown_name
from keras_parc.support.files import new_folder
from keras_parc.training.train import open_data

TOOLS = Path(device.__file__).parent / "tools"
SCRIPTS = ("run.py", "model_file.py", "paint.py", "benchmark.py")
# Of the folder with Python and the runtime.
SETUP = ("setup.sh", "python.sh", "run_arm", "icount.c")
ARMV7 = "2.12.0"  # of tflite-runtime: the last with XNNPACK there

WEB = """\
# {name} in the browser

Camera, pictures and videos; the model runs in the browser, and no image leaves the device.

    python3 serve.py        # http://127.0.0.1:8000/, for this computer
    adb reverse tcp:8000 tcp:8000    # and the same address on a phone on a cable

Any web server does that sends `Cross-Origin-Opener-Policy: same-origin` and
`Cross-Origin-Embedder-Policy: require-corp`; without them there are no threads. Other machines get
the camera by HTTPS alone. The page can be installed and then works offline. `models.json` lists the
files in `models/`. LiteRT.js, in `node_modules/`, is Google's, Apache-2.0.
"""
PI = """\
# {name} on a Raspberry Pi

For 64-bit systems with glibc 2.34 (Raspberry Pi OS 12, Debian 12, Ubuntu 22.04) or newer:

    python3 -m venv venv
    venv/bin/pip install ai-edge-litert pillow
    venv/bin/python run.py photo.jpg {model} --threads 4
    venv/bin/python benchmark.py {models} --threads 4

Files: {models}; labels are in them. `run.py --help` has what else it does.
The same works on any Linux PC. On a 32-bit system take the folder that is made with `--for rk3288`.
"""
RK3288 = """\
# {name} on an RK3288, or other 32-bit ARM

Python, numpy, Pillow and tflite-runtime {version} come in a folder of their own, which a Debian or
Ubuntu PC (x86-64) makes, without root; the board's own system does not matter:

    sh setup/setup.sh arm armv7x
    tar -C arm --exclude=armv7x/proc --exclude=armv7x/sys -czf armv7x.tar.gz armv7x

Copy this folder with `armv7x.tar.gz` in it to the board, and there:

    tar -xzf armv7x.tar.gz
    ./armv7x/python run.py photo.jpg {model} --threads 4    # `benchmark.py` times {models}
"""


@dataclass(frozen=True)
class Device:
    """What a device needs beside the model.

    Args:
        fill: Puts everything but README.md into a folder; takes what the user named, the folder
            and a console, and returns the names of the models, the one to try first at the front.
        readme: How it is used; None: `fill` brings its own.
    """

    fill: Callable[[Path, Path, Console], list[str]]
    readme: str | None


def package(
    path: str | os.PathLike, name: str, out: str | os.PathLike, *, console: Console | None = None
) -> Path:
    """Make a folder that has all a device needs to run a model.

    Args:
        path: What `tflite_files` takes.
        name: One of `DEVICES`.
        out: The folder, which does not exist yet or is empty.
        console: Where to print.

    Returns:
        The folder, with a README.md.

    Raises:
        FileNotFoundError: There is no such file or folder, or no model in it.
        FileExistsError: `out` is there already.
        ValueError: There is no such device, or a file is not fit for it.
        RuntimeError: The page's libraries cannot be had.

    Example:
        >>> package("runs/pets", "pi", "pets_pi")  # doctest: +SKIP
    """
    if name not in DEVICES:
        raise ValueError(unknown_name("device", name, DEVICES))
    path, console = Path(path), console or Console()
    with new_folder(out) as folder:
        models = DEVICES[name].fill(path, folder, console)
        if (readme := DEVICES[name].readme) is not None:
            text = readme.format(
                name=path.resolve().stem, model=models[0], models=" ".join(models), version=ARMV7
            )
            (folder / "README.md").write_text(text, "utf-8")
    return Path(out)


def _web(path: Path, folder: Path, console: Console) -> list[str]:
    files = tflite_files(path)
    (folder / serve.MODELS).mkdir()
    models = serve.by_name(_copied(files, folder / serve.MODELS))
    source = libraries(console)
    for name in (*serve.PAGE, "serve.py"):
        shutil.copy(PAGE / name, folder)
    for name in serve.LIBRARIES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, folder / name)
    (folder / serve.LISTING).write_text(serve.listing(models), "utf-8")
    return list(models)


def _pi(path: Path, folder: Path, console: Console) -> list[str]:
    models = _copied(tflite_files(path), folder)
    for name in SCRIPTS:
        shutil.copy(TOOLS / name, folder)
    return list(serve.by_name(models))


def _rk3288(path: Path, folder: Path, console: Console) -> list[str]:
    """Of a run the files are made anew: the old runtime needs other operations."""
    if is_run(path):
        run = Run(path)
        source = open_data(run.recipe, out=run.folder)
        models = list(export_run(run, source, console, folder, "portable").values())
    else:
        models = _copied(tflite_files(path), folder)
    for model in models:
        needed = inspect(model).smallest_runtime
        if needed and _version(needed) > _version(ARMV7):
            raise ValueError(
                f"{model.name!r} needs TensorFlow Lite {needed}, ARMv7 has {ARMV7}: export it with "
                "--target portable."
            )
    for name in SCRIPTS:
        shutil.copy(TOOLS / name, folder)
    (folder / "setup").mkdir()
    for name in SETUP:
        shutil.copy(TOOLS / "emulation" / name, folder / "setup")
    return list(serve.by_name(models))


def _android(path: Path, folder: Path, console: Console) -> list[str]:
    """MediaPipe opens one file, which must say what it takes and gives: the smallest that does."""
    files = tflite_files(path)
    fit = [each for each in files if _is_for_mediapipe(each)]
    if not fit:
        raise ValueError(
            f"MediaPipe cannot run {', '.join(each.name for each in files)}: it needs labels in "
            "the file and an input of float32 or uint8: keras-parc export --labels FILE."
        )
    model = min(fit, key=os.path.getsize)
    shutil.copytree(TOOLS / "android", folder, dirs_exist_ok=True)
    assets = folder / "app/src/main/assets"
    assets.mkdir()
    shutil.copy(model, assets / "model.tflite")
    _, height, width, _ = inspect(model).input_shape
    facts = {
        "task": read_metadata(model).task,
        "crop": recorded_scale(model)[1],
        "aspect": width / height,
    }
    values = "".join(
        f'    <string name="{key}" translatable="false">{value}</string>\n'
        for key, value in facts.items()
    )
    (folder / "app/src/main/res/values/model.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f"<!-- Of assets/model.tflite, which was {model.name}. -->\n"
        f"<resources>\n{values}</resources>\n",
        "utf-8",
    )
    console.print(f"The model in it is {model.name}.", markup=False, highlight=False)
    return [model.name]


def _is_for_mediapipe(file: Path) -> bool:
    metadata = read_metadata(file)
    return bool(metadata and metadata.labels) and inspect(file).input_dtype in ("float32", "uint8")


def _copied(files: list[Path], folder: Path) -> list[Path]:
    return [Path(shutil.copy(file, folder)) for file in files]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


DEVICES = {
    "web": Device(_web, WEB),
    "pi": Device(_pi, PI),
    "rk3288": Device(_rk3288, RK3288),
    "android": Device(_android, None),
}
