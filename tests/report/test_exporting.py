"""The images that an int8 file is calibrated on: those of the run, without the damaged ones."""

from test_report import write_run

from image_files import encoded, picture
from keras_parc.report.exporting import calibration_of
from keras_parc.report.run import Run
from keras_parc.training.train import open_data


def test_a_damaged_training_image_does_not_end_the_export(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            place = tmp_path / "data" / split / name
            place.mkdir(parents=True)
            for number in range(3):
                (place / f"{number}.jpg").write_bytes(encoded(picture(number)))
    (tmp_path / "data/train/cat/1.jpg").write_bytes(b"\xff\xd8\xff no image")
    write_run(tmp_path / "run", "classification", tmp_path / "data", ["cat", "dog"])
    run = Run(tmp_path / "run")
    images = calibration_of(run, open_data(run.recipe))
    assert [image.shape for image in images] == 5 * [(32, 32, 3)]
