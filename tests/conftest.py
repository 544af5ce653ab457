"""What tests share.

Nothing here imports Keras before a test asks for it: pytest-xdist's own process never does.
"""

import gc
import io
import signal
import sys
import tarfile

import pytest

# A shell that starts tests in the background ignores Ctrl-C, and so would what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ("session_folders", "order")


def pytest_addoption(parser):
    parser.addoption(
        "--runtimes-csv", metavar="FILE", help="test_runtimes.py: at 256x256, and write figures"
    )


def pytest_collection_finish():
    """Modules and tests stay to the end: garbage collection need not look through them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_conversion_process():
    """The conversions of all tests in one process: each of its own imports TensorFlow for 4 s."""
    from keras_parc.lite import process

    with pytest.MonkeyPatch.context() as patch, process.conversion_process():
        patch.setattr(process, "MAX_TASKS", 60)  # Small models leave less memory behind.
        yield


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Call the command in this process; returns its status, standard output and error output."""

    from keras_parc.cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-parc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def found_by_keras():
    """Test images and what Keras finds in them, unsure things too."""
    import keras_parc
    import squares

    model, _ = squares.detector()
    images, _, _ = squares.scenes(32, seed=2)
    found = model.predict(images, verbose=0)
    return images, keras_parc.detections(
        found, keras_parc.ssd_anchors(model), score_threshold=0.3, max_boxes=10
    )


@pytest.fixture(scope="session")
def detector_files():
    """The trained detector as a float and an int8 file, finished and raw."""
    from shared import made_once

    import keras_parc
    import squares

    def export(folder):
        model, _ = squares.detector()
        images, _, _ = squares.scenes(64, seed=0)
        for quantize, raw in kinds:
            keras_parc.to_tflite(
                model,
                folder / f"{quantize}_{raw}.tflite",
                quantize=quantize,
                calibration=images if quantize else None,
                postprocess=keras_parc.Postprocess(raw=raw, score_threshold=0.5, max_boxes=10),
                metadata=squares.METADATA,
            )

    kinds = [(quantize, raw) for quantize in (None, "int8") for raw in (False, True)]
    folder = made_once("detector_files", export)
    return {(quantize, raw): folder / f"{quantize}_{raw}.tflite" for quantize, raw in kinds}


@pytest.fixture(scope="session")
def tiny_scenes():
    """Folder of prepared TFDS sets with `digit_scenes/tiny`."""
    from shared import made_once

    from keras_parc.data.sources import open_source

    return made_once("scenes", lambda folder: open_source("digit_scenes/tiny", folder))


@pytest.fixture(scope="session")
def segmenter_files():
    """The trained segmenter as files: float, int8, and int8 with an input of uint8."""
    import masks
    from shared import made_once

    import keras_parc

    def export(folder):
        images, _ = masks.images_and_masks(64, seed=0)
        for quantize, io_type in kinds:
            keras_parc.to_tflite(
                masks.segmenter(),
                folder / f"{quantize}_{io_type}.tflite",
                quantize=quantize,
                calibration=images if quantize else None,
                io=io_type,
                metadata=masks.METADATA,
            )

    kinds = [(None, "float32"), ("int8", "float32"), ("int8", "uint8")]
    folder = made_once("segmenter_files", export)
    return {(quantize, io): folder / f"{quantize}_{io}.tflite" for quantize, io in kinds}


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory):
    """`imagenet2012` prepared by TFDS from archives like those of the ImageNet site."""
    import tensorflow_datasets as tfds

    from image_files import encoded, odd_files, picture

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
