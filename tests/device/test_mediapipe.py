"""Exported files in MediaPipe Tasks, against Keras."""

from pathlib import Path

import keras
import masks
import numpy as np
import pytest
import tensorflow as tf
from clients import mediapipe
from tflite_models import HALVES, SIDE, convert, detector, halves

import keras_parc
import squares
from keras_parc.lite.file.metadata import Metadata, add_metadata
from keras_parc.tasks.segmentation.measuring import class_map, segmentation_logits

LABELS = [*(f"class {i}" for i in range(8)), "Grüße", "猫"]

pytestmark = [pytest.mark.mediapipe, pytest.mark.usefixtures("mediapipe_environment")]


def pictures():
    """Eight 64 x 64 images of coloured squares, from black to white."""
    squares = np.random.default_rng(1).integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    squares[0, 0, 0], squares[0, 0, 1] = 0, 255
    return squares.repeat(16, 1).repeat(16, 2)


@pytest.fixture(scope="module")
def model():
    """Taught a class for each picture: new weights give all classes nearly the same score."""
    keras.utils.set_random_seed(0)
    model = keras_parc.ParCNetXS(input_shape=(64, 64, 3), classes=10, include_preprocessing=True)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    model.fit(pictures().astype("float32"), np.arange(8), batch_size=8, epochs=16, verbose=0)
    return model


def export(model, dtype, quantize):
    """A file with an input of float32 or uint8 and a body of float32 or int8."""
    body_takes = "float32" if quantize else dtype
    function = tf.function(
        lambda image: model(tf.cast(image, tf.float32), training=False),
        input_signature=[tf.TensorSpec((1, 64, 64, 3), body_takes, name="image")],
    )
    holder = tf.Module()
    holder.held = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], holder
    )
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        images = pictures().astype("float32")
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        converter.inference_input_type = tf.as_dtype(dtype)
    return converter.convert()


@pytest.mark.parametrize("quantize", [False, True], ids=["fp32", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_classifier_as_keras(model, tmp_path, dtype, quantize):
    metadata = Metadata(labels=LABELS, name="ParC-Net-XS", licence="Apache-2.0")
    content = add_metadata(export(model, dtype, quantize), metadata)
    answer = mediapipe("classify", content, pictures(), tmp_path)
    images = pictures().astype("float32")
    expected = model.predict(images, verbose=0)
    scores = np.zeros_like(expected)
    for row, categories in zip(scores, answer["results"], strict=True):
        for index, label, score in categories:
            assert label == LABELS[index]
            row[index] = score
    np.testing.assert_array_equal(scores.argmax(1), expected.argmax(1))
    # int8: what the quantization of this model costs, whichever client runs it.
    np.testing.assert_allclose(scores, expected, rtol=0, atol=0.05 if quantize else 1e-3)
    if quantize:  # two steps of the scores, which are multiples of 1/256
        file = keras_parc.TFLiteModel(tmp_path / "model.tflite")
        np.testing.assert_allclose(scores, file(images), rtol=0, atol=2 / 256)
    assert answer["files"] == {"labels.txt": "\n".join(LABELS) + "\n"}
    assert answer["metadata"]["name"] == "ParC-Net-XS"
    assert answer["metadata"]["license"] == "Apache-2.0"
    (image,) = answer["metadata"]["subgraph_metadata"][0]["input_tensor_metadata"]
    assert image["content"]["content_properties"] == {"color_space": "RGB"}
    assert image["process_units"][0]["options"] == {"mean": [0.0], "std": [1.0]}


def test_normalization_is_applied(tmp_path):
    """The file takes what the metadata says, not the pixels."""
    path = convert(tmp_path / "plain.tflite", lambda x: halves(x * 64 + 128))
    metadata = Metadata(labels=HALVES, mean=128, std=64)
    images = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    images[0, : SIDE // 2] = images[1, :, SIDE // 2 :] = 200
    content = add_metadata(Path(path).read_bytes(), metadata)
    answer = mediapipe("classify", content, images, tmp_path)
    assert [result[0][1] for result in answer["results"]] == ["top", "right"]
    expected = halves(tf.constant(images[:1], tf.float32)).numpy().max()
    assert answer["results"][0][0][2] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("quantize", [None, "int8"], ids=["fp32", "int8"])
def test_features_of_a_model_without_a_head(model, tmp_path, quantize):
    features = keras.Model(model.input, model.layers[-2].output)
    images = pictures().astype("float32")
    path = keras_parc.to_tflite(
        features,
        tmp_path / "m.tflite",
        quantize=quantize,
        calibration=images,
        metadata=Metadata(task="embed", name="features"),
    )
    assert keras_parc.inspect(path).names == (("image",), ("embedding",))
    answer = mediapipe("embed", path.read_bytes(), pictures(), tmp_path)
    found, expected = np.array(answer["results"]), keras_parc.TFLiteModel(path)(images)
    assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()
    if quantize is None:
        expected = features.predict(images, verbose=0)
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_detector(tmp_path):
    content = Path(convert(tmp_path / "plain.tflite", detector)).read_bytes()
    content = add_metadata(content, Metadata(labels=["cat", "dog"], task="detection"))
    answer = mediapipe("detect", content, np.zeros((1, 40, 80, 3), np.uint8), tmp_path)
    # The boxes are 0..1 of an image of 80 x 40 pixels: left, top, width, height.
    found = [["cat", 0.25, [0, 0, 20, 20]], ["dog", 0.75, [40, 20, 40, 20]]]
    assert answer["results"] == [found]


@pytest.mark.parametrize("raw", [False, True], ids=["finished", "raw"])
@pytest.mark.parametrize("quantize", [None, "int8"], ids=["fp32", "int8"])
def test_our_detector(detector_files, found_by_keras, tmp_path, quantize, raw):
    """A trained SSDLite: the boxes that Keras finds, whoever decodes and suppresses."""
    images, expected = found_by_keras
    content = detector_files[quantize, raw].read_bytes()
    answer = mediapipe("detect", content, images.astype("uint8"), tmp_path)
    seen = 0
    # It cuts left, top, width and height down to whole pixels.
    slack = 1.0 if quantize else 0.01
    for result, theirs in zip(answer["results"], expected, strict=True):
        sure = theirs["scores"] > 0.6
        for box, score, label in zip(
            theirs["boxes"][sure], theirs["scores"][sure], theirs["labels"][sure], strict=True
        ):
            top, left, bottom, right = box * squares.SIDE
            wanted = np.array([left, top, right - left, bottom - top])
            distances = [
                (np.abs(np.array(corner) + 0.5 - wanted).max(), abs(value - score))
                for name, value, corner in result
                if name == squares.LABELS[label]
            ]
            pixels, difference = min(distances)
            assert pixels <= 0.5 + slack
            assert difference <= (0.1 if quantize else 1e-3)
            seen += 1
    assert seen >= 24
    assert answer["files"] == {"labels.txt": "dark\nbright\n"}


@pytest.mark.parametrize(
    "kind",
    [(None, "float32"), ("int8", "float32"), ("int8", "uint8")],
    ids=["fp32", "int8", "uint8"],
)
def test_our_segmenter(segmenter_files, tmp_path, kind):
    """A trained DeepLabV3: the masks that Keras finds, brought to the size of the image."""
    images, _ = masks.images_and_masks(4, seed=2)
    content = segmenter_files[kind].read_bytes()
    answer = mediapipe("segment", content, images.astype("uint8"), tmp_path)
    scores = np.exp(segmentation_logits(masks.segmenter(), images))
    scores /= scores.sum(-1, keepdims=True)  # MediaPipe brings these to the image's size
    for result, low in zip(answer["results"], scores, strict=True):
        assert result["labels"] == masks.LABELS
        found = np.argmax(result["masks"], 0)
        assert (found == class_map(low, found.shape)).mean() >= (0.97 if kind[0] else 0.995)
        np.testing.assert_allclose(np.sum(result["masks"], 0), 1, atol=1e-2)
    (custom,) = answer["metadata"]["subgraph_metadata"][0]["custom_metadata"]
    assert custom == {"name": "SEGMENTER_METADATA", "data": {"activation": "SOFTMAX"}}


def test_segmenter(tmp_path):
    def logits(image):
        bright = tf.reduce_mean(image, -1, keepdims=True) / 255
        return tf.concat([8 * bright, 8 - 8 * bright], -1)

    content = Path(convert(tmp_path / "plain.tflite", logits)).read_bytes()
    metadata = Metadata(labels=["light", "dark"], task="segmentation", activation="softmax")
    images = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    images[:, :, : SIDE // 2] = 255
    answer = mediapipe("segment", add_metadata(content, metadata), images, tmp_path)
    (result,) = answer["results"]
    assert result["labels"] == ["light", "dark"]
    light = np.array(result["masks"][0])
    np.testing.assert_allclose(light[:, 0], 1 / (1 + np.exp(-8)), atol=1e-3)
    np.testing.assert_allclose(light[:, -1], 1 / (1 + np.exp(8)), atol=1e-3)
    (custom,) = answer["metadata"]["subgraph_metadata"][0]["custom_metadata"]
    assert custom == {"name": "SEGMENTER_METADATA", "data": {"activation": "SOFTMAX"}}
