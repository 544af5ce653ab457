"""Classes by name: a model and a data set that number them differently, or have other ones."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_parc
from keras_parc.models.imagenet import decode_predictions
from keras_parc.tasks.classification.measuring import evaluate_classifier
from keras_parc.tasks.detection.data import evaluation_dataset
from keras_parc.tasks.detection.measuring import evaluate_detector
from keras_parc.tasks.labels import class_order, read_labels, recorded_labels
from keras_parc.tasks.segmentation.data import class_names
from keras_parc.tasks.segmentation.measuring import evaluate_segmenter


def test_the_order_is_by_name(caplog):
    assert class_order(["b", "c", "a"], ["a", "b", "c"], "x").tolist() == [1, 2, 0]
    assert "in another order" in caplog.text
    caplog.clear()
    for labels in (None, ["a", "b", "c"]):
        assert class_order(labels, ["a", "b", "c"], "x").tolist() == [0, 1, 2]
    assert caplog.text == ""


def test_other_names_are_refused():
    with pytest.raises(ValueError, match=r"only the model has 'bird'; only the data has 'zebra'"):
        class_order(["bird", "cat"], ["cat", "zebra"], "pets")
    with pytest.raises(ValueError, match="not the model's"):
        class_order(["cat", "cat"], ["cat", "dog"], "pets")
    many = [str(number) for number in range(20)]
    with pytest.raises(ValueError, match="and 15 more"):
        class_order(many, [f"c{each}" for each in many], "pets")


def test_imagenet_has_two_kinds_of_names():
    guesses = [decode_predictions(np.eye(1000)[[number]], top=1)[0][0] for number in range(1000)]
    ids, names = ([each[place] for each in guesses] for place in (0, 1))
    assert class_order(names, ids, "imagenet2012").tolist() == list(range(1000))
    with pytest.raises(ValueError, match="not the model's"):
        class_order(names[::-1], ids, "imagenet2012")


def test_lines_of_a_label_file(tmp_path):
    """A name may hold what Unicode calls a line's end; an editor may begin the file with a mark."""
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat\u2028dog\r\nbird\n".encode())
    assert read_labels(path) == ["cat\u2028dog", "bird"]
    path.write_text(" \n")
    with pytest.raises(ValueError, match="is empty"):
        read_labels(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colours")
    for name in ("black", "white"):
        for number in range(3):
            path = folder / "validation" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), name).save(path)
    return folder


def classifier(first):
    """Black from white, of which `first` is class 0; a model called as a file in the folder is."""
    image = keras.Input((32, 32, 3))
    grey = keras.layers.Rescaling(1 / 255)(image)
    grey = keras.layers.GlobalAveragePooling2D()(grey)[:, :1]
    parts = [1 - grey, grey] if first == "black" else [grey, 1 - grey]
    return keras.Model(image, keras.layers.Concatenate()(parts), name="model")


def test_a_classifier_of_another_order(folder, tmp_path, run_cli):
    model, path = classifier("white"), tmp_path / "model.keras"
    model.save(path)
    assert evaluate_classifier(path, folder)["top1"] == 0.0  # names unknown, numbers compared
    (tmp_path / "labels.txt").write_text("white\nblack\n")
    assert recorded_labels(path, 2) == ["white", "black"]
    assert evaluate_classifier(path, folder)["top1"] == 1.0
    assert evaluate_classifier(model, folder, labels=["white", "black"])["top1"] == 1.0
    metadata = keras_parc.Metadata(labels=["white", "black"])
    file = keras_parc.to_tflite(model, tmp_path / "other/model.tflite", metadata=metadata)
    assert evaluate_classifier(file, folder)["top1"] == 1.0
    assert evaluate_classifier(keras_parc.TFLiteModel(file), folder)["top1"] == 1.0
    (tmp_path / "labels.txt").write_text("white\ngrey\n")
    code, _, errors = run_cli("evaluate", path, "--dataset", folder)
    assert code == 2
    assert "only the model has 'grey'; only the data has 'black'" in errors
    (tmp_path / "mine.txt").write_text("white\nblack\n")
    arguments = ("evaluate", path, "--dataset", folder, "--labels", tmp_path / "mine.txt")
    code, printed, errors = run_cli(*arguments)
    assert (code, "100.00 %" in printed) == (0, True), errors


def test_labels_of_the_working_folder_are_not_taken(folder, tmp_path, monkeypatch):
    """A Keras model in memory has no file, though Keras calls its name a path."""
    (tmp_path / "labels.txt").write_text("white\nblack\n")
    monkeypatch.chdir(tmp_path)
    assert recorded_labels(classifier("black"), 2) is None
    assert evaluate_classifier(classifier("black"), folder)["top1"] == 1.0


@pytest.mark.slow
def test_a_detector_and_a_segmenter_of_another_order(tiny_scenes):
    """A detector that finds all digits, and numbers them from 9 to 0: by name it is perfect."""
    names = class_names("digit_scenes/tiny", tiny_scenes)
    source = ("digit_scenes/tiny", "test[:30]")
    (truth,) = (
        targets
        for _, targets in evaluation_dataset(*source, batch=30, size=48, data_dir=tiny_scenes)
    )
    objects = list(zip(truth["boxes"], truth["labels"], strict=True))

    def turned():
        rest = iter(objects)
        return lambda images: [
            {"boxes": boxes.numpy(), "scores": np.ones(len(labels)), "labels": 9 - labels.numpy()}
            for (boxes, labels), _ in zip(rest, images, strict=False)
        ]

    options = {"size": 48, "batch_size": 30, "data_dir": tiny_scenes}
    assert evaluate_detector(turned(), *source, **options)["map"] < 0.5
    found = evaluate_detector(turned(), *source, **options, labels=names[:0:-1])
    assert found["map"] == pytest.approx(1.0)

    image = keras.Input((48, 48, 3))
    bias = keras.initializers.Constant(np.eye(11)[3])
    layer = keras.layers.Conv2D(11, 1, kernel_initializer="zeros", bias_initializer=bias)
    model = keras.Model(image, layer(keras.layers.Rescaling(1 / 255)(image)))
    options = {"data_dir": tiny_scenes}
    plain = evaluate_segmenter(model, *source, **options)
    labels = [*names[1:4], names[0], *names[4:]]  # class 3 of the model is the background
    assert evaluate_segmenter(model, *source, **options, labels=labels)["iou"]["background"] > 0.5
    assert plain["iou"]["background"] == 0
