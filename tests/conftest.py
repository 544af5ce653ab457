"""What tests share.

The other runtimes are set up where they are not yet; where one cannot be had, its tests skip and
say why.
"""

import functools
import http.server
import io
import shutil
import subprocess
import sys
import tarfile
import threading
import urllib.parse

import masks
import pytest
from clients import (
    ARM,
    CANNOT_BE_HAD,
    EMULATION,
    ENVIRONMENTS,
    MEDIAPIPE,
    TARGETS,
    WEB,
    Handler,
    command,
)

import keras_parc
import squares
from image_files import encoded, odd_files, picture
from keras_parc.cli.main import main


def pytest_addoption(parser):
    parser.addoption(
        "--runtimes-csv", metavar="FILE", help="test_runtimes.py: at 256x256, and write figures"
    )


# Files of minutes: first, so that two processes that take a file each end together.
LONG = ("test_notebooks.py", "test_export.py", "test_training.py", "test_docs.py", "test_models.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def one_conversion_process():
    """The conversions of all tests in one process: each of its own imports TensorFlow for 4 s."""
    from keras_parc.lite.process import conversion_process

    with conversion_process():
        yield


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Call the command in this process; returns its status, standard output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-parc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def found_by_keras():
    """Test images and what Keras finds in them, unsure things too."""
    model, _ = squares.detector()
    images, _, _ = squares.scenes(32, seed=2)
    found = model.predict(images, verbose=0)
    return images, keras_parc.detections(
        found, keras_parc.ssd_anchors(model), score_threshold=0.3, max_boxes=10
    )


@pytest.fixture(scope="session")
def detector_files(tmp_path_factory):
    """The trained detector as a float and an int8 file, finished and raw."""
    folder, (model, _) = tmp_path_factory.mktemp("detectors"), squares.detector()
    images, _, _ = squares.scenes(64, seed=0)
    return {
        (quantize, raw): keras_parc.to_tflite(
            model,
            folder / f"{quantize}_{raw}.tflite",
            quantize=quantize,
            calibration=images if quantize else None,
            postprocess=keras_parc.Postprocess(raw=raw, score_threshold=0.5, max_boxes=10),
            metadata=squares.METADATA,
        )
        for quantize in (None, "int8")
        for raw in (False, True)
    }


@pytest.fixture(scope="session")
def tiny_scenes(tmp_path_factory):
    """Folder of prepared TFDS sets with `digit_scenes/tiny`."""
    from keras_parc.data.sources import open_source

    folder = tmp_path_factory.mktemp("scenes")
    open_source("digit_scenes/tiny", folder)
    return folder


@pytest.fixture(scope="session")
def segmenter_files(tmp_path_factory):
    """The trained segmenter as files: float, int8, and int8 with an input of uint8."""
    folder, (images, _) = tmp_path_factory.mktemp("segmenters"), masks.images_and_masks(64, seed=0)
    return {
        (quantize, io): keras_parc.to_tflite(
            masks.segmenter(),
            folder / f"{quantize}_{io}.tflite",
            quantize=quantize,
            calibration=images if quantize else None,
            io=io,
            metadata=masks.METADATA,
        )
        for quantize, io in ((None, "float32"), ("int8", "float32"), ("int8", "uint8"))
    }


def set_up(*arguments, **env):
    done = command(*arguments, timeout=600, **env)
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
def imagenet(tmp_path_factory):
    """`imagenet2012` prepared by TFDS from archives like those of the ImageNet site."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("tfds")
    manual = root / "downloads" / "manual"
    manual.mkdir(parents=True)

    def add(archive, name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))

    odd = odd_files()
    with tarfile.open(manual / "ILSVRC2012_img_train.tar", "w") as archive:
        for number, synset in enumerate(("n01440764", "n01443537", "n15075141")):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                for index in range(14):
                    name = f"{synset}_{index}.JPEG"
                    add(images, name, encoded(picture(20 * number + index)))
                if number == 1:
                    add(images, f"{synset}_100.JPEG", odd["truncated.jpg"])
                    add(images, f"{synset}_101.JPEG", odd["corrupt.jpg"])
            add(archive, f"{synset}.tar", inner.getvalue())
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as archive:
        for index in range(6):
            add(archive, f"ILSVRC2012_val_{index + 1:08d}.JPEG", encoded(picture(index)))
    builder = tfds.builder("imagenet2012", data_dir=root)
    builder.download_and_prepare()
    return root


@pytest.fixture
def mocked_imagenet(imagenet):
    """TFDS' mock data for imagenet2012, with the sizes of the set prepared above."""
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=44, data_dir=str(imagenet)):
        yield
