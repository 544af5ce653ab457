"""tflite/web in a headless Chromium: the same numbers as Python."""

import numpy as np
import pytest
import tensorflow as tf
from clients import python_says, shown
from PIL import Image
from tflite_models import attach_metadata, conv_net, convert, halves

from image_files import one_scene_in_many_files
from keras_parc.lite.file.image_facts import record
from keras_parc.models.inputs import InputScale

pytestmark = pytest.mark.web


@pytest.fixture(scope="session")
def image(server):
    """A photograph's stand-in: smooth, coloured, larger than the input, not square."""
    coarse = np.random.default_rng(3).integers(0, 256, (7, 9, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((211, 157), Image.BICUBIC)
    picture.save(server.folder / "image.png")
    return server.folder / "image.png"


def test_int8_body_with_metadata(browse, server, image):
    """Digit for digit: the same crop, the same integers, the same labels."""
    net = conv_net()
    calibration = np.random.default_rng(0).uniform(-1, 1, (8, 1, 32, 32, 3)).astype(np.float32)
    path = convert(
        server.folder / "int8.tflite",
        lambda image: tf.nn.softmax(net(image * 127.5 + 127.5)),
        io=tf.float32,
        images=calibration,
    )
    attach_metadata(path, [127.5], [127.5], ["probability"], [f"digit {i}" for i in range(10)])
    expected = python_says(path, image)
    assert len(set(expected)) == 5
    assert shown(browse("int8.tflite", "image.png")) == expected


def test_float_logits_without_metadata(browse, server, image):
    path = convert(server.folder / "logits.tflite", conv_net())
    found = [line.split("  ") for line in shown(browse("logits.tflite", "image.png"))]
    expected = [line.split("  ") for line in python_says(path, image)]
    assert [name for _, name in found] == [name for _, name in expected]
    assert len({score for score, _ in expected}) == 5
    difference = [float(a) - float(b) for (a, _), (b, _) in zip(found, expected, strict=True)]
    np.testing.assert_allclose(difference, 0, atol=1e-4)  # the last digit shown


@pytest.mark.parametrize("crop", [0.5, 1.0])
def test_what_a_file_records_of_its_images(browse, server, image, crop):
    """Order of channels, mean, deviation and crop, by which the scores differ."""
    path = convert(server.folder / "plain.tflite", conv_net())
    plain = python_says(path, image)
    path = server.folder / f"recorded_{crop}.tflite"
    scale = InputScale((50.0, 10.0, 100.0), (2.0, 1.0, 0.5), "bgr")
    path.write_bytes(record((server.folder / "plain.tflite").read_bytes(), scale, crop))
    found = [line.split("  ") for line in shown(browse(path.name, "image.png"))]
    expected = python_says(path, image)
    assert expected != plain
    scores = {label: float(score) for score, label in found}
    for line in expected:
        score, label = line.split("  ")
        assert scores[label] == pytest.approx(float(score), abs=2e-4)


def test_the_colours_of_transparent_pixels(browse, server, image):
    """As in the file, by which all other readers go: a canvas would make them black."""
    convert(server.folder / "logits.tflite", conv_net())
    with Image.open(image) as picture:
        opaque = python_says(server.folder / "logits.tflite", image)
        alpha = np.tile(np.uint8([0, 1, 128, 255]), (picture.height, picture.width))
        picture.putalpha(Image.fromarray(alpha[:, : picture.width]))
        picture.save(server.folder / "alpha.png")
    assert python_says(server.folder / "logits.tflite", server.folder / "alpha.png") == opaque
    found = [line.split("  ") for line in shown(browse("logits.tflite", "alpha.png"))]
    scores = {label: float(score) for score, label in found}
    for line in opaque:
        score, label = line.split("  ")
        assert scores[label] == pytest.approx(float(score), abs=2e-4)


@pytest.mark.parametrize("name", ["turned6.jpg", "turned5.png", "plain.webp", "grey16.png"])
def test_the_page_reads_a_file_as_run_py_does(browse, server, name):
    """Upright and in 8 bits: what it then shows differs by less than a grey level does."""
    convert(server.folder / "logits.tflite", conv_net())
    (content,) = (data for each, data, _ in one_scene_in_many_files() if each == name)
    (server.folder / name).write_bytes(content)
    found = [line.split("  ") for line in shown(browse("logits.tflite", name))]
    expected = python_says(server.folder / "logits.tflite", server.folder / name)
    scores = {label: float(score) for score, label in found}
    for line in expected:
        score, label = line.split("  ")
        assert scores[label] == pytest.approx(float(score), abs=2e-3)


def test_what_the_page_refuses(browse, server, image):
    convert(server.folder / "uint8.tflite", halves, io=tf.uint8)
    answer = browse("uint8.tflite", "image.png")
    assert answer["failed"]
    assert answer["status"].startswith("expected one image, float32 (1, height, width, 3)")
    assert "takes uint8 (1, 32, 32, 3)" in answer["status"]
    assert "not a .tflite" in browse("image.png", "image.png")["status"]
    missing = browse("nothing.tflite", "image.png")
    assert missing["status"] == "There is no model nothing.tflite here."
