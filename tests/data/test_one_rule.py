"""Training, measuring, predicting and the clients see the same pixels of the same file."""

import io
import logging
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
import tensorflow as tf
from clients import run
from PIL import Image

from image_files import encoded, one_scene_in_many_files, scene
from keras_parc.data.images import decode, evaluation_image, training_image
from keras_parc.data.images import resize as tensor_resize
from keras_parc.data.sources import open_source
from keras_parc.support.images import (
    centre,
    image_files,
    load_image,
    open_image,
    read_rgb,
    resize,
)

FILES = {name: (data, coloured) for name, data, coloured in one_scene_in_many_files()}


@pytest.mark.parametrize("name", FILES)
def test_every_reader_sees_the_scene(name, tmp_path):
    """Upright, in 8 bits, at squares and rectangles, larger and smaller than the file."""
    data, coloured = FILES[name]
    (tmp_path / name).write_bytes(data)
    truth = scene() if coloured else np.asarray(Image.fromarray(scene()).convert("L"))[..., None]
    pixels = np.asarray(read_rgb(data)).astype(int)
    assert pixels.shape == (80, 120, 3)
    assert np.abs(pixels - truth).mean() < 3  # JPEG blurs the square
    assert np.abs(decode(data).numpy() - pixels).max() <= 1
    for size in ((48, 48), (64, 64), (224, 224), (256, 256), (64, 96), (96, 64), (80, 120)):
        expected = centre(pixels.astype("uint8"), size).astype(int)
        ours = (
            load_image(tmp_path / name, size),
            run.resize(run.read_image(tmp_path / name), *size, crop=256 / 288),
            evaluation_image(data, size).numpy(),
        )
        for found, tolerance in zip(ours, (0, 0, 1), strict=True):
            assert np.abs(found - expected).max() <= tolerance, size
        stretched = run.resize(run.read_image(tmp_path / name), *size)
        np.testing.assert_array_equal(stretched, resize(pixels.astype("uint8"), size))


@pytest.mark.parametrize("name", ["turned6.jpg", "turned5.png", "grey16.png", "plain.webp"])
def test_training_cuts_its_windows_from_the_same_pixels(name):
    """What Pillow reads gives the crops of the upright scene, as a file without a turn would."""
    data, _ = FILES[name]
    plain = encoded(read_rgb(data), "PNG")
    for number in range(5):
        expected = training_image(plain, (32, 48), (3, number)).numpy()
        np.testing.assert_array_equal(training_image(data, (32, 48), (3, number)), expected)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((50, 70), (48, 48)), ((48, 48), (224, 96)), ((301, 203), (64, 61)), ((1, 9), (5, 2))],
)
def test_numpy_and_tensorflow_resize_alike(shape, size):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype("uint8")
    expected = tensor_resize(image, size).numpy()
    np.testing.assert_array_equal(resize(image, size), expected)
    window = (1, 0, size[0] - 2, size[1])
    np.testing.assert_array_equal(resize(image, size, window), expected[1:-1])


def test_the_centre_is_as_in_the_evaluation_of_the_authors():
    """At 256: the short side to 288, then the middle; a picture of just the size is not touched."""
    image = np.random.default_rng(1).integers(0, 256, (375, 500, 3)).astype("uint8")
    whole = resize(image, (288, 384))
    np.testing.assert_array_equal(centre(image, (256, 256)), whole[16:272, 64:320])
    cut = resize(image, (256, 341))[:, 42:298]
    np.testing.assert_array_equal(centre(image, (256, 256), 256), cut)
    np.testing.assert_array_equal(centre(image, (375, 500)), image)


def test_a_narrow_strip_takes_no_more_than_its_own_pixels(tmp_path):
    """82 bytes; to enlarge the whole of it would take gigabytes."""
    path = tmp_path / "strip.png"
    Image.new("L", (20000, 1), 77).save(path)
    data = tf.constant(path.read_bytes())
    tracemalloc.start()
    try:
        for found in (
            load_image(path, (256, 256)),
            run.resize(run.read_image(path), 256, 256, crop=256 / 288),
            evaluation_image(data, (256, 256)).numpy(),
        ):
            assert np.all(found == 77)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "values",
    [np.full((4, 4), 0.5, "float32"), np.full((4, 4), 70000, "int32")],
    ids=["fractions", "32 bits"],
)
def test_values_that_are_no_colours_are_refused(values, tmp_path):
    Image.fromarray(values).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match="not of 8 or 16 bits"):
        load_image(tmp_path / "deep.tif", (4, 4))
    with pytest.raises(run.ToolError, match="not of 8 or 16 bits"):
        run.read_image(tmp_path / "deep.tif")


def test_a_folder_is_read_as_a_user_sees_it(tmp_path, caplog):
    """Every ending, deeper folders; nothing hidden, no empty class; the rest is named."""
    content = FILES["plain.png"][0]
    for name in ("a.jpg", "b.WEBP", "deep/er/c.tif", "d.bmp"):
        (tmp_path / "train/cat" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train/cat" / name).write_bytes(content)
    for name in (
        *("train/cat/._a.jpg", "train/.ipynb_checkpoints/x.jpg", ".git/y/z.jpg"),
        *("train/cat/Thumbs.db", "train/dog/notes.txt", "train/loose.jpg", "top.png"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with caplog.at_level(logging.WARNING, "keras_parc"):
        builder = open_source(tmp_path)
    assert builder.info.features["label"].names == ["cat"]
    paths = builder.paths["train"]
    assert {path.rpartition("/")[2] for path in paths} == {"a.jpg", "b.WEBP", "c.tif", "d.bmp"}
    assert builder.report.classes == {"cat": 4}
    assert "files that are no images of a class: 3" in caplog.text
    for name in ("notes.txt", "loose.jpg", "top.png"):
        assert name in caplog.text


def test_a_link_to_a_folder_above_ends(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert [path.name for path, _ in image_files(tmp_path)] == ["x.png"]


def bomb(kind):
    """A file of few bytes that says it has 3.6 thousand million pixels."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, kind)
    content = bytearray(file.getvalue())
    if kind == "PNG":
        content[16:24] = struct.pack(">II", 60_000, 60_000)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    else:
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", 60_000, 60_000)
    return bytes(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_of_too_many_pixels_is_not_decoded(kind, tmp_path):
    """By no reader, and each says so: decoded it would take 10 GB."""
    path = tmp_path / "bomb.img"
    path.write_bytes(bomb(kind))
    with pytest.raises(ValueError, match=r"too large: .*3600000000 pixels"):
        open_image(path)
    for read in (
        lambda: evaluation_image(path.read_bytes(), (48, 48)),
        lambda: training_image(path.read_bytes(), (48, 48), (0, 1)),
    ):
        with pytest.raises(tf.errors.OpError, match="too large"):
            read()
    with pytest.raises(run.ToolError, match="3600000000 pixels"):
        run.read_image(path)


READ = "import sys; from keras_parc.support.images import open_image; open_image(sys.argv[1])"


def test_a_large_image_is_read_without_a_word(tmp_path):
    """Of 100 million pixels, where Pillow warns."""
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000)).save(path)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
