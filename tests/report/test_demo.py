"""The demonstration end to end at toy size, and `keras-parc predict` as a user types it."""

import json

import keras
import numpy as np
import pytest
from PIL import Image
from rewritten import enliven

import keras_parc
from keras_parc.cli.demo import demo
from keras_parc.data import digit_scene
from keras_parc.data.sources import open_source
from keras_parc.models.parc_net import ParCNetTiny
from keras_parc.report import whole_run
from keras_parc.support.files import add_rows, read_rows, replacing
from keras_parc.support.images import load_image
from keras_parc.support.timing import interleaved
from keras_parc.tasks.classification.measuring import top_k_accuracy
from keras_parc.tasks.classification.predicting import classify
from keras_parc.tasks.outputs import class_scores
from keras_parc.training.fit import Interrupted
from reference import error


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What a run leaves behind for `predict` and `export`, of a model that learnt nothing."""
    folder = tmp_path_factory.mktemp("files")
    labels = [str(digit) for digit in range(10)]
    model = ParCNetTiny(input_shape=(48, 48, 3), classes=10, include_preprocessing=True)
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    images = np.stack([digit_scene(i, "train").image[8:56, 8:56] for i in range(20)])
    for name, quantize in (("fp32", None), ("int8", "int8")):
        keras_parc.to_tflite(
            model,
            folder / f"model_{name}.tflite",
            quantize=quantize,
            calibration=images.astype("float32"),
            metadata=keras_parc.Metadata(labels=labels),
        )
    return folder


@pytest.fixture(scope="module")
def report_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "report"
    demo(folder, "classification", quick=True)
    return folder


@pytest.mark.slow
def test_report(report_folder):
    """The figures are those of the files, worked out again here."""
    report = json.loads((report_folder / "report.json").read_text())
    assert report["split"] == "test"
    scenes = open_source("digit_scenes/tiny").as_dataset(split="test").as_numpy_iterator()
    scenes = list(scenes)
    images = np.stack([scene["image"] for scene in scenes])
    labels = np.array([scene["label"] for scene in scenes])
    models = {"keras": keras.models.load_model(report_folder / "model.keras")}
    for name in ("float32", "int8"):
        models[name] = keras_parc.TFLiteModel(report_folder / f"model_{name}.tflite")
    for name, model in models.items():
        guesses = class_scores(model, images).argmax(1)
        assert report["measures"][name]["top1"] == pytest.approx(np.mean(guesses == labels)), name
    assert report["images"] == len(scenes) > 50
    for name in ("float32", "int8"):
        path = report_folder / f"model_{name}.tflite"
        assert path.stat().st_size == report["bytes"][name]
        assert keras_parc.read_metadata(path).labels == tuple(map(str, range(10)))
        operators = set(keras_parc.TFLiteModel(path).operators())
        assert not {op for op in operators if op.startswith("Flex") or op == "CUSTOM"}
        assert not operators & {"VAR_HANDLE", "READ_VARIABLE"}
    assert (report["partitions"]["float32"], report["partitions"]["int8"]) == (1, 1)
    assert report["bytes"]["int8"] < report["bytes"]["float32"] / 2
    assert (report_folder / "report.html").stat().st_size > 50_000
    assert [p.name for p in report_folder.glob(".????????.*")] == []


def test_demo_of_a_task_that_is_none(tmp_path, run_cli):
    code, _, errors = run_cli("demo", "--task", "translation", "--out", tmp_path / "report")
    assert code == 2
    assert (
        "There is no task 'translation'. Did you mean 'segmentation'? There are classifica"
        in errors
    )


@pytest.mark.slow
def test_files_of_the_report_agree_with_keras(report_folder):
    """The accuracy is that of the files: the saved model gives the reported scores."""
    images = np.stack([digit_scene(i, "test").image[8:56, 8:56] for i in range(8)])
    model = keras.models.load_model(report_folder / "model.keras")
    expected = class_scores(model, images)
    fp32 = class_scores(keras_parc.TFLiteModel(report_folder / "model_float32.tflite"), images)
    np.testing.assert_allclose(fp32, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["model.keras", "model_fp32.tflite", "model_int8.tflite"])
def test_predict_command(files, kind, tmp_path, run_cli):
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for index, path in enumerate(paths):
        Image.fromarray(digit_scene(index, "test").image).save(path)
    code, output, errors = run_cli("predict", files / kind, *paths, "--json", "--top", "2")
    assert code == 0, errors
    results = json.loads(output)
    assert [each["image"] for each in results] == [str(path) for path in paths]
    assert all(len(each["guesses"]) == 2 for each in results)
    assert all(each["guesses"][0]["class"] in "0123456789" for each in results)
    assert "guess 1" in run_cli("predict", files / kind, paths[0])[1]


def test_predict_says_what_is_wrong(files, tmp_path, run_cli):
    model = files / "model_int8.tflite"
    text, truncated = tmp_path / "notes.png", tmp_path / "half.png"
    text.write_text("not an image")
    digit = tmp_path / "digit.png"
    Image.fromarray(digit_scene(0, "test").image).save(digit)
    truncated.write_bytes(digit.read_bytes()[:200])
    broken = tmp_path / "broken.keras"
    broken.write_bytes((files / "model.keras").read_bytes()[:5000])
    fake = tmp_path / "fake.tflite"
    fake.write_bytes(b"0123456789")
    short = tmp_path / "short.tflite"
    short.write_bytes(model.read_bytes()[:3000])
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n")
    (tmp_path / "empty").mkdir()
    cases = [
        ((model, tmp_path / "none.png"), "no image file"),
        ((model, text), "not an image file"),
        ((model, truncated), "damaged"),
        ((model, tmp_path / "empty"), "no image file"),
        ((tmp_path / "none.keras", digit), "no model file"),
        ((digit, digit), "expected a name ending in .keras or .tflite"),
        ((broken, digit), "not a .keras file or is damaged"),
        ((fake, digit), "not a TensorFlow Lite model"),
        ((short, digit), "the runtime refuses it"),
        ((model, digit, "--labels", labels), "has 2 lines, but the model has 10 classes"),
        ((model, digit, "--labels", tmp_path / "none.txt"), "no label file"),
    ]
    for arguments, message in cases:
        code, _, errors = run_cli("predict", *arguments)
        assert code == 2, arguments
        assert message in errors


def test_predict_feeds_a_model_without_preprocessing_bgr(tmp_path):
    arguments = {"input_shape": (64, 64, 3), "classes": 4, "classifier_activation": None}
    plain = enliven(keras_parc.ParCNetTiny(**arguments, include_preprocessing=False))
    whole = keras_parc.ParCNetTiny(**arguments)
    whole.set_weights(plain.get_weights())
    picture = digit_scene(3, "test").image // np.uint8([4, 1, 1])
    for name, colours in (("x", picture), ("reversed", picture[..., ::-1])):
        Image.fromarray(np.ascontiguousarray(colours)).save(tmp_path / f"{name}.png")
    a, b = (classify(model, [tmp_path / "x.png"]) for model in (plain, whole))
    assert error(a, b) <= 1e-4
    assert error(classify(plain, [tmp_path / "reversed.png"]), b) > 1e-2


def test_images_are_cut_from_the_centre(tmp_path):
    """A wide image with a bright centre: the centre fills the model's input."""
    picture = np.zeros((90, 200, 3), "uint8")
    picture[:, 50:150] = 255
    Image.fromarray(picture).save(tmp_path / "wide.png")
    assert load_image(tmp_path / "wide.png", (64, 64)).min() == 255
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert load_image(tmp_path / "cmyk.jpg", (64, 64)).shape == (64, 64, 3)
    Image.fromarray(picture[..., 0]).save(tmp_path / "exact.png")
    exact = load_image(tmp_path / "exact.png", (90, 200))
    np.testing.assert_array_equal(exact, picture.astype("float32"))


@pytest.mark.slow
def test_export_command(files, tmp_path, run_cli):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(12):
        Image.fromarray(digit_scene(index, "train").image).save(photos / f"{index}.png")
    out, noise = tmp_path / "small.tflite", tmp_path / "noise.csv"
    code, output, errors = run_cli(
        *("export", files / "model.keras", out, "--quantize", "int8"),
        *("--calibration", photos, "--labels", files / "labels.txt", "--explain", noise),
        *("--description", "Digits", "--author", "me", "--licence", "MIT", "--model-version", "2"),
    )
    assert code == 0, errors
    assert "XNNPACK partitions" in output
    assert "TensorFlow Lite 1." in output or "TensorFlow Lite 2." in output
    assert len(noise.read_text().splitlines()) > 100
    found = keras_parc.read_metadata(out)
    assert list(found.labels) == [str(digit) for digit in range(10)]
    about = found.description, found.author, found.licence, found.version
    assert about == ("Digits", "me", "MIT", "2")
    model = tmp_path / "model.keras"  # soon loaded
    image = keras.Input((48, 48, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    keras.Model(image, keras.layers.Dense(10)(pooled)).save(model)
    before = out.read_bytes()
    broken, empty = tmp_path / "broken.keras", tmp_path / "empty"
    broken.write_bytes(model.read_bytes()[:1000])
    empty.mkdir()
    left = sorted(tmp_path.rglob("*"))
    int8 = ("--quantize", "int8", "--calibration")
    cases = [
        (
            (model, out, "--quantize", "int4"),
            "There is no number format 'int4'. Did you mean 'int8'?",
        ),
        ((model, out, "--quantize", "int8"), "needs `calibration` images"),
        ((model, out, "--explain", noise), "pass `quantize='int8'` too"),
        ((model, tmp_path / "x.onnx"), "must end in .tflite"),
        ((model, out, "--input-size", "64", "64"), "is built for 48"),
        ((out, out), "Only a Keras model can be exported"),
        ((tmp_path / "none.keras", out), "There is no model file"),
        ((broken, out), "is not a .keras file or is damaged"),
        ((model, out, *int8, empty), "holds no image files"),
        ((model, out, *int8, tmp_path / "none"), "no folder of calibration images"),
        ((model, broken / "m.tflite"), "The folder cannot be made"),
        ((model, out, "--labels", tmp_path / "none.txt"), "There is no label file"),
        ((model, out, "--labels", photos / "0.png"), "is not UTF-8 text"),
        ((model, out, "--labels", noise), "lines, but the model has"),
    ]
    for arguments, message in cases:
        code, _, errors = run_cli("export", *arguments)
        assert code == 2, arguments
        assert message in errors
    assert sorted(tmp_path.rglob("*")) == left
    assert out.read_bytes() == before
    # The author alone is told too.
    code, _, errors = run_cli("export", model, out, "--author", "me")
    assert code == 0, errors
    assert keras_parc.read_metadata(out).author == "me"


def test_top_k_accuracy():
    scores = np.array([[0.1, 0.7, 0.2], [0.6, 0.1, 0.3], [0.2, 0.3, 0.5]])
    labels = np.array([1, 2, 0])
    assert [top_k_accuracy(scores, labels, k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1.0]
    best, worst = np.array([1, 0, 2]), np.array([0, 1, 0])
    assert [top_k_accuracy(scores, each) for each in (best, worst)] == [1, 0]
    assert top_k_accuracy(scores, worst, 2) == 0
    with pytest.raises(ValueError, match="must be 1 to 3, got 4"):
        top_k_accuracy(scores, labels, 4)
    with pytest.raises(ValueError, match="one label per row"):
        top_k_accuracy(scores, labels[:2])
    with pytest.raises(ValueError, match="no images"):
        class_scores(
            keras_parc.ParCNetTiny(input_shape=(32, 32, 3), include_preprocessing=False),
            np.zeros((0, 32, 32, 3)),
        )


def test_interleaved_takes_turns():
    calls = []
    result = interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warm_up=1
    )
    assert calls == ["a", "b"] * 4
    assert result["a"]["ratio"] == 1.0
    assert result["b"]["p10_ms"] <= result["b"]["median_ms"] <= result["b"]["p90_ms"]


def test_replacing_leaves_nothing_half_written(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with replacing(target) as temporary:
        temporary.write_text("old")
    with pytest.raises(OSError, match="disk"), replacing(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "a,b\n", "a line of text", ""])
def test_rows_are_not_added_to_what_is_no_such_table(content, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match="has other columns"):
        add_rows(path, [{"a": 1}])
    assert path.read_text() == content
    path.unlink()
    for value in (1, 2):
        add_rows(path, [{"a": value}])
    assert read_rows(path) == [{"a": "1"}, {"a": "2"}]


def test_sigterm_is_no_mistake(run_cli, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise Interrupted("stopped after step 1")

    monkeypatch.setattr(whole_run, "train", stopped)
    code, _, error = run_cli("demo", "--out", tmp_path)
    assert (code, error) == (
        75,
        "keras-parc: stopped after step 1; the same command goes on from there\n",
    )
