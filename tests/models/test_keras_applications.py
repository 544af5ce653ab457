"""Networks of `keras.applications` in the registry: as Keras has them, and all that we add."""

import functools
import http.server
import threading

import keras
import numpy as np
import pytest
from keras.src.applications import mobilenet_v2  # whose address the tests change

import keras_parc
from keras_parc.models.inputs import INPUT_RANGES
from keras_parc.models.keras_applications import APPLICATIONS
from keras_parc.models.registry import find_model
from reference import error

SHAPE = (64, 64, 3)


def rows(*fast):
    return pytest.mark.parametrize(
        "row",
        [pytest.param(r, marks=[] if r.name in fast else pytest.mark.slow) for r in APPLICATIONS],
        ids=lambda row: row.key,
    )


def images(side=64):
    return np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype("float32")


def lively(model):
    """Weights that tell every layer's input from another's, and statistics that fit no noise."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        shapes = [each.shape for each in layer.weights]
        spread = [np.sqrt(2 / max(1, np.prod(shape[:-1]))) for shape in shapes]
        layer.set_weights(
            [
                rng.normal(0, each, shape) if len(shape) > 1 else rng.uniform(0.5, 1, shape)
                for shape, each in zip(shapes, spread, strict=True)
            ]
        )
    return model


@rows("MobileNetV3Small")
def test_the_network_is_that_of_keras(row, monkeypatch):
    """Also its head, and the pixels are scaled as it wants them."""
    theirs = lively(row.build(weights=None, input_shape=SHAPE))
    arguments = {"weights": "imagenet", "input_shape": SHAPE}
    monkeypatch.setattr(type(row), "build", _not_downloaded(theirs, type(row).build))
    ours = find_model(row.key).build(**arguments)
    expected = theirs(INPUT_RANGES[row.takes].of(images()), training=False)
    assert error(ours(images(), training=False), expected) <= 1e-4
    assert ours.name == row.key


def _not_downloaded(theirs, build):
    """`Application.build`, that gives `theirs` for a model with ImageNet weights."""

    def instead(row, **arguments):
        return theirs if arguments["weights"] == "imagenet" else build(row, **arguments)

    return instead


@rows("MobileNetV3Small")
def test_heads_build_on_it(row):
    backbone = find_model(row.key).build(include_top=False, input_shape=SHAPE)
    assert keras_parc.SSDLite(backbone, classes=2).output["scores"].shape[-1] == 3
    for dilated in (False, True):
        model = keras_parc.DeepLabV3(backbone, classes=3, output_stride=8, dilated=dilated)
        assert keras_parc.low_resolution(model).output_shape == (None, 8, 8, 3)


@rows()
def test_it_is_exported(row, tmp_path):
    model = lively(find_model(row.key).build(input_shape=SHAPE, classes=5))
    expected = np.asarray(model(images(), training=False))
    path = keras_parc.to_tflite(model, tmp_path / "float.tflite")
    assert error(keras_parc.TFLiteModel(path)(images()), expected) <= 1e-3
    options = {"quantize": "int8", "calibration": images()}
    path = keras_parc.to_tflite(model, tmp_path / "int8.tflite", **options)
    assert keras_parc.TFLiteModel(path)(images()).shape == (2, 5)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serves the files of a folder at the address of Keras' MobileNetV2."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{serving.server_port}/"
        monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", address)
        yield tmp_path
        serving.shutdown()


def _published(folder, alpha, top):
    """A file as Keras publishes it: of the whole model in HDF5."""
    model = lively(keras.applications.MobileNetV2(weights=None, alpha=alpha, include_top=top))
    ending = "" if top else "_no_top"
    name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224{ending}.h5"
    model.save(folder / name)
    return model


def test_imagenet_weights_are_downloaded_and_kept(server, caplog):
    theirs = _published(server, 0.35, top=True)
    build = functools.partial(find_model("mobilenet_v2").build, alpha=0.35, weights="imagenet")
    expected = theirs(images(224) / 127.5 - 1, training=False)
    assert error(build(input_shape=(224, 224, 3))(images(224), training=False), expected) <= 1e-4
    assert "keep their random values" not in caplog.text
    for path in server.iterdir():
        path.unlink()
    other = build(input_shape=SHAPE, classes=3)  # out of the cache
    assert "everything but predictions is loaded" in caplog.text
    np.testing.assert_array_equal(
        other.get_layer("Conv_1").kernel, theirs.get_layer("Conv_1").kernel
    )
    assert other.output_shape == (None, 3)


def test_weights_that_cannot_be_had_end_in_one_line(server, capfd):
    with pytest.raises(
        OSError, match=r"MobileNetV2 cannot be had: .*404.*EfficientNetLite0"
    ) as caught:
        find_model("mobilenet_v2").build(alpha=0.5, weights="imagenet")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"has no pretrained weights of this name"):
        find_model("mobilenet_v2").build(weights="coco")


def test_what_the_registry_says():
    entry = find_model("MobileNetV2")
    assert entry.weight_names == ("imagenet",)
    assert find_model("ParCNetS").weight_names[0] == "imagenet"
    narrow = entry.build(include_top=False, input_shape=SHAPE, alpha=0.35)
    assert narrow.output_shape == (None, 2, 2, 1280)
    with pytest.raises(TypeError, match="MobileNetV2 has no argument 'minimalistic'"):
        entry.build(minimalistic=True)
