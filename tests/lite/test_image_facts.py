"""What images a model takes stands in its `.tflite` file, and every reader obeys it."""

import json
import warnings

import keras
import numpy as np
import pytest
from clients import run
from keras import layers
from PIL import Image

import keras_parc
from keras_parc.layers import ImageInput
from keras_parc.lite.file import flatbuffer, image_facts
from keras_parc.lite.quantize.calibration import calibration_images
from keras_parc.lite.rewrite.signature import model_inputs
from keras_parc.models.inputs import AUTHORS, INPUT_RANGES, InputScale, known_scale
from keras_parc.support.images import load_image
from keras_parc.tasks.classification.predicting import classify
from keras_parc.tasks.model_files import load_model

SIDE, SHAPE = 32, (32, 32, 3)


def mean_colour(image):
    """A model that puts out the mean of each channel, in the scale it is given."""
    weighted = layers.Conv2D(3, 1, use_bias=False)
    x = weighted(image)
    weighted.set_weights([np.eye(3)[None, None]])
    return keras.Model(image, layers.GlobalAveragePooling2D()(x), name="mean_colour")


def recorded(scale, crop=0.8):
    facts = {"mean": scale.mean, "std": scale.std, "channels": scale.channels, "crop": crop}
    return mean_colour(ImageInput(SHAPE, **facts).output)


def nested():
    """The standard transfer-learning model: the preprocessing is inside the model inside."""
    image = keras.Input(SHAPE)
    inner = mean_colour(keras.Input(SHAPE))
    rescaled = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), inner])
    return keras.Model(image, rescaled(image), name="nested")


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """An image whose three channels and whose edge differ."""
    pixels = np.zeros((90, 120, 3), "uint8")
    pixels[:] = 200, 100, 50
    pixels[:20] = 255, 255, 255
    path = tmp_path_factory.mktemp("photo") / "a.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", INPUT_RANGES)
def test_keras_and_tflite_see_the_same(name, photo, tmp_path):
    """Of every scale, from the same picture: the authors' BGR 0..1 was pixels to the file."""
    model = recorded(INPUT_RANGES[name])
    path = keras_parc.to_tflite(model, tmp_path / "model.tflite")
    file = load_model(path)
    assert (file.input_scale, file.crop) == (INPUT_RANGES[name], 0.8)
    ours, theirs = classify(model, [photo])[0], classify(file, [photo])[0]
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)
    back = ours * INPUT_RANGES[name].std + INPUT_RANGES[name].mean
    assert np.argmax(back) == (0 if INPUT_RANGES[name].channels == "rgb" else 2)
    found = keras_parc.read_metadata(path)
    assert (found.scale, found.crop, found.labels) == (INPUT_RANGES[name], 0.8, ())
    # And run.py, which knows nothing of this package.
    found = run.read_metadata(path)
    pixels = run.resize(run.read_image(photo), SIDE, SIDE, found.crop)
    values = run.encode(pixels[None], {"dtype": np.float32}, found)
    expected = INPUT_RANGES[name].of(load_image(photo, (SIDE, SIDE), 40))
    np.testing.assert_allclose(values[0], expected, rtol=1e-6, atol=1e-6)


def test_the_crop_is_the_models(photo):
    """More of the white edge is seen, the larger the crop."""
    pixels = INPUT_RANGES["0..255"]
    light = [classify(recorded(pixels, crop), [photo]).mean() for crop in (0.5, 0.75, 1.0)]
    assert light == sorted(light)
    assert light[2] > light[1] + 5 > light[0] + 5


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_of_a_nested_model(quantize, photo, tmp_path):
    noise = np.random.default_rng(0).uniform(0, 255, (8, *SHAPE))
    noise[0], noise[1] = 0, 255
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # the calibration fits
        path = keras_parc.to_tflite(
            nested(), tmp_path / "m.tflite", quantize=quantize, calibration=noise
        )
    assert keras_parc.TFLiteModel(path).input_scale.is_pixels
    expected = classify(nested(), [photo])
    assert np.abs(classify(load_model(path), [photo]) - expected).max() < 0.02


def test_a_file_that_does_not_say(photo, tmp_path, run_cli):
    """No guess: the user is asked, and what she states is obeyed."""
    model = mean_colour(keras.Input(SHAPE))
    model.save(tmp_path / "model.keras")
    keras_parc.to_tflite(model, tmp_path / "model.tflite")
    assert keras_parc.TFLiteModel(tmp_path / "model.tflite").input_scale is None
    for name in ("model.keras", "model.tflite"):
        code, _, errors = run_cli("predict", tmp_path / name, photo)
        assert code == 2
        assert "state it (--input-range" in errors
        assert errors.count("\n") == 1
        code, printed, _ = run_cli(
            "predict", tmp_path / name, photo, "--json", "--input-range", "-1..1"
        )
        (answer,) = json.loads(printed)
        scores = {guess["class"]: guess["score"] for guess in answer["guesses"]}
        assert -1 <= scores["2"] < 0.4 < scores["0"] <= 1
    # Labels say nothing of it either.
    labels = keras_parc.Metadata(labels=["r", "g", "b"])
    path = keras_parc.to_tflite(model, tmp_path / "labelled.tflite", metadata=labels)
    assert keras_parc.TFLiteModel(path).input_scale is None
    path = keras_parc.to_tflite(model, tmp_path / "stated.tflite", input_range="-1..1")
    assert keras_parc.TFLiteModel(path).input_scale == INPUT_RANGES["-1..1"]


def test_calibration_from_a_folder_obeys_it(photo):
    found = calibration_images(
        photo.parent, model_inputs(recorded(AUTHORS, 1.0)), recorded(AUTHORS, 1.0)
    )[0]
    assert found[-1, 0] == pytest.approx([50 / 255, 100 / 255, 200 / 255])
    bare = mean_colour(keras.Input(SHAPE))
    with pytest.raises(ValueError, match="is not recorded"):
        calibration_images(photo.parent, model_inputs(bare), bare)
    found = calibration_images(photo.parent, model_inputs(bare), bare, input_range="caffe")[0]
    assert found[-1, 0] == pytest.approx([50 - 103.939, 100 - 116.779, 200 - 123.68])


PIXELS = np.random.default_rng(0).uniform(0, 255, (4, *SHAPE))


def preprocessing(layer):
    image = keras.Input(SHAPE)
    return keras.Model(image, layers.Conv2D(4, 1)(layer(image)), name="m")


@pytest.mark.parametrize(
    ("model", "images"),
    [
        (nested, PIXELS),
        (lambda: preprocessing(lambda x: x / 255), PIXELS),
        (lambda: preprocessing(lambda x: x / 127.5 - 1), PIXELS),
        (lambda: preprocessing(layers.Normalization(mean=120.0, variance=3600.0)), PIXELS),
        (lambda: preprocessing(layers.Normalization(mean=0.45, variance=0.05)), PIXELS / 255),
        (lambda: preprocessing(layers.Normalization(mean=2000.0, variance=9e6)), PIXELS * 40),
        (lambda: preprocessing(layers.Rescaling(2.0, offset=-1)), PIXELS / 255),
        (lambda: mean_colour(keras.Input(SHAPE)), PIXELS),
        (lambda: recorded(AUTHORS), PIXELS / 255),
    ],
)
def test_calibration_that_fits_is_not_questioned(model, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert len(calibration_images(images, model_inputs(model()), model())) == 4


@pytest.mark.parametrize(
    ("scale", "images", "said"),
    [
        ("0..255", PIXELS / 255, r"takes images of 0 to 255, .* lie in .* to 1\."),
        ("0..255", PIXELS - 128, "takes images of 0 to 255"),
        ("bgr-0..1", PIXELS, "takes images of 0 to 1, .* to 255"),
        ("-1..1", PIXELS, "takes images of -1 to 1"),
    ],
)
def test_calibration_that_does_not_fit_is_warned_of(scale, images, said):
    model = recorded(INPUT_RANGES[scale])
    with pytest.warns(UserWarning, match=said):
        assert len(calibration_images(images, model_inputs(model), model)) == 4
    other = {"0..255": "0..1", "bgr-0..1": "0..255", "-1..1": "0..255"}[scale]
    if images.min() >= 0:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            calibration_images(
                images, model_inputs(model), model, input_range=other
            )  # the user's word


def test_images_for_a_file_are_looked_at(tmp_path):
    path = keras_parc.to_tflite(recorded(InputScale()), tmp_path / "m.tflite")
    model = keras_parc.TFLiteModel(path)
    with pytest.warns(UserWarning, match="do not divide by 255"):
        model(PIXELS / 255)
    with pytest.raises(ValueError, match="NaN or infinity"):
        model(np.where(PIXELS > 250, np.nan, PIXELS))


def test_metadata_and_the_model_say_the_same(tmp_path):
    """What the user does not say comes from the model; what she says stays, and is questioned."""
    labels = ["red", "green", "blue"]
    path = tmp_path / "m.tflite"
    signed = recorded(INPUT_RANGES["-1..1"])
    keras_parc.to_tflite(signed, path, metadata=keras_parc.Metadata(labels=labels))
    found = keras_parc.read_metadata(path)
    assert (found.mean, found.std, list(found.labels)) == ((127.5,), (127.5,), labels)
    with pytest.warns(UserWarning, match="the file says what the metadata say"):
        keras_parc.to_tflite(signed, path, metadata=keras_parc.Metadata(mean=100, std=50))
    assert keras_parc.TFLiteModel(path).input_scale == InputScale((100.0,) * 3, (50.0,) * 3)
    with pytest.warns(UserWarning, match="clients that read metadata feed RGB"):
        keras_parc.to_tflite(recorded(AUTHORS), path, metadata=keras_parc.Metadata(labels=labels))
    assert keras_parc.TFLiteModel(path).input_scale == AUTHORS


def test_normalization_that_others_recorded(tmp_path):
    """A file with metadata but without our record, as MediaPipe's writers make it."""
    model = recorded(INPUT_RANGES["imagenet"])
    metadata = keras_parc.Metadata(labels=["r", "g", "b"])
    path = keras_parc.to_tflite(model, tmp_path / "m.tflite", metadata=metadata)
    file = flatbuffer.read(path.read_bytes())
    file.metadata = [each for each in file.metadata if each.name != image_facts.ENTRY.encode()]
    path.write_bytes(flatbuffer.write(file))
    assert keras_parc.TFLiteModel(path).input_scale == INPUT_RANGES["imagenet"]
    assert keras_parc.TFLiteModel(path).crop == 256 / 288


@pytest.mark.parametrize(
    "facts",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b'{"crop": 2}',
        b'{"crop": "a"}',
        b'{"crop": 1, "mean": [0, 0, 0]}',
        b'{"crop": 1, "mean": [0, 0], "std": [1, 1], "channels": "rgb"}',
        b'{"crop": 1, "mean": [0, 0, NaN], "std": [1, 1, 1], "channels": "rgb"}',
        b'{"crop": 1, "mean": [0, 0, 0], "std": [1, 0, 1], "channels": "rgb"}',
        b'{"crop": 1, "mean": [0, 0, 0], "std": [1, 1, 1], "channels": "gbr"}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_record_is_told(facts):
    with pytest.raises(ValueError, match="record of the images it takes is damaged"):
        image_facts.understood(facts)


def test_uint8_files_take_pixels(tmp_path):
    """Whatever the numbers stand for inside: 0 to 255 are the ends of the range."""
    noise = PIXELS / 127.5 - 1
    noise[0], noise[1] = -1, 1
    model = recorded(INPUT_RANGES["-1..1"])
    path = keras_parc.to_tflite(
        model, tmp_path / "m.tflite", quantize="int8", io="uint8", calibration=noise
    )
    file = flatbuffer.read(path.read_bytes())
    file.metadata = []
    path.write_bytes(flatbuffer.write(file))
    found = keras_parc.TFLiteModel(path).input_scale
    np.testing.assert_allclose(found.mean, 127.5, atol=0.6)
    np.testing.assert_allclose(found.std, 127.5, rtol=0.01)


def test_known_scale_of_a_file_is_the_models(tmp_path):
    path = keras_parc.to_tflite(nested(), tmp_path / "m.tflite")
    assert known_scale(load_model(path)) == known_scale(nested())


def test_the_device_says_what_it_assumes(photo, tmp_path, capsys):
    """Of a file that does not say what it takes; of one that does, not a word."""
    bare = mean_colour(keras.Input(SHAPE))
    labels = keras_parc.Metadata(labels=["r", "g", "b"])
    for model, metadata, notes in (
        (bare, None, 1),
        (bare, labels, 1),
        (recorded(AUTHORS), None, 0),
        (recorded(InputScale()), labels, 0),
    ):
        path = keras_parc.to_tflite(model, tmp_path / "m.tflite", metadata=metadata)
        assert run.main([str(photo), str(path)]) == 0
        assert capsys.readouterr().err.count("note: ") == notes
        assert run.main([str(photo), str(path), "--std", "255"]) == 0
        assert "note: " not in capsys.readouterr().err


def test_a_model_of_uint8_is_exported(photo, tmp_path):
    """Its file takes float32, or what `io` says."""
    image = keras.Input(SHAPE, dtype="uint8")
    rescaled = layers.Rescaling(1 / 255)(image)
    model = keras.Model(image, mean_colour(keras.Input(SHAPE))(rescaled))
    path = keras_parc.to_tflite(model, tmp_path / "m.tflite")
    np.testing.assert_allclose(
        classify(load_model(path), [photo]), classify(model, [photo]), rtol=1e-5
    )
    assert keras_parc.deploy(model)(PIXELS).shape == (4, 3)


def test_one_scale_of_uint8_is_not_three(tmp_path):
    model = recorded(INPUT_RANGES["imagenet"])
    noise = INPUT_RANGES["imagenet"].of(PIXELS)
    with pytest.raises(ValueError, match=r"has one scale for all channels.*io='float32'"):
        keras_parc.to_tflite(
            *(model, tmp_path / "m.tflite"),
            **{"quantize": "int8", "io": "uint8", "calibration": noise},
            metadata=keras_parc.Metadata(labels=["r", "g", "b"]),
        )
