"""The files of a run: calibrated on its own images, without damaged ones; for another runtime."""

import pytest
from rich.console import Console
from test_report import write_run

import keras_parc
from image_files import encoded, picture
from keras_parc.device.packing import package
from keras_parc.report import exporting
from keras_parc.report.run import Run
from keras_parc.training.train import open_data


@pytest.fixture
def run(tmp_path):
    """A run with three images of each class."""
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            place = tmp_path / "data" / split / name
            place.mkdir(parents=True)
            for number in range(3):
                (place / f"{number}.jpg").write_bytes(encoded(picture(number)))
    write_run(tmp_path / "run", "classification", tmp_path / "data", ["cat", "dog"])
    return Run(tmp_path / "run")


def test_a_damaged_training_image_does_not_end_the_export(run, tmp_path):
    (tmp_path / "data/train/cat/1.jpg").write_bytes(b"\xff\xd8\xff no image")
    images = exporting.calibration_of(run, open_data(run.recipe))
    assert [image.shape for image in images] == 5 * [(32, 32, 3)]


def test_a_package_for_the_rk3288_has_files_for_its_runtime(run, tmp_path, monkeypatch):
    """Which takes other operations than those that a run is exported with; the run stays."""
    model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
    model.save(run.folder / "model.keras")
    before = sorted(run.folder.rglob("*"))
    asked = []

    def to_tflite(*arguments, target, **options):
        asked.append(target)
        return keras_parc.to_tflite(*arguments, target=target, **options)

    monkeypatch.setattr(exporting, "to_tflite", to_tflite)
    board = package(run.folder, "rk3288", tmp_path / "board", console=Console(quiet=True))
    assert asked == ["portable", "portable"]
    assert sorted(run.folder.rglob("*")) == before
    for name in ("float32", "int8"):
        assert keras_parc.read_metadata(board / f"model_{name}.tflite").labels == ("cat", "dog")
