"""From image files to pixels: the evaluation rule, random crops, decoding."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from image_files import UNREADABLE, UNUSUAL, encoded, exif_of, odd_files, picture
from keras_parc.data import images
from keras_parc.data.images import crop_window, decode, resize, training_image
from keras_parc.support.images import centre
from reference import FOLDER


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("cls_val", lambda image, size: centre(image, size, size[0] + 32)),
        ("resize_square", lambda image, size: resize(image, size).numpy()),
    ],
    ids=["cls_val", "resize_square"],
)
@pytest.mark.parametrize(
    ("number", "height", "width", "size"),
    [(0, 120, 90, 64), (1, 90, 131, 64), (2, 97, 97, 64), (3, 40, 200, 64), (4, 300, 260, 192)],
)
def test_evaluation_rules_are_the_authors(name, rule, number, height, width, size):
    rng = np.random.RandomState(3 + number)
    small = rng.randint(0, 256, (height // 4 + 1, width // 4 + 1, 3)).astype("uint8")
    image = small.repeat(4, 0).repeat(4, 1)[:height, :width]
    ours = rule(image, (size, size)).astype(int)
    golden = np.load(FOLDER / "preprocess.npz")[f"{name}/{height}x{width}_to_{size}"]
    theirs = np.rint(255 * golden).astype(int).transpose(1, 2, 0)
    difference = np.abs((ours[::8, ::8] if size == 192 else ours) - theirs)
    # OpenCV computes in fixed point, up to 0.78 of a grey level away before rounding.
    assert difference.max() <= 1
    assert difference.mean() < 0.1


def test_crop_windows_are_as_specified():
    rng = np.random.default_rng(0)
    height, width = 90, 160
    crop = tf.function(crop_window)
    windows = np.array(
        [crop([height, width], draws) for draws in rng.random((2000, 22), "float32")]
    )
    top, left, tall, wide = windows.T
    assert (windows[:, :2] >= 0).all()
    assert (top + tall <= height).all()
    assert (left + wide <= width).all()
    area, ratio = tall * wide / (height * width), wide / tall
    assert area.min() > 0.07  # 0.08, but for whole pixels
    assert area.min() < 0.1
    assert 0.7 < area.max() <= 0.75  # the stretch 1.333 in an image of 1.78
    # Small windows fit with every stretch, which is even in its logarithm.
    small = np.log(ratio[area < 0.3])
    assert abs(small.mean()) < 0.02
    assert abs(small.std() - np.log(16 / 9) / np.sqrt(12)) < 0.02
    assert (left == 0).any()
    assert (left + wide == width).any()


@pytest.mark.parametrize(
    ("size", "window"), [((20, 400), (0, 186, 20, 27)), ((400, 20), (186, 0, 27, 20))]
)
def test_where_no_window_fits_the_largest_centred_one_is_taken(size, window):
    draws = np.full(22, 0.999, "float32")
    assert tuple(crop_window(tf.constant(size), draws).numpy()) == window


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_training_image_is_the_decoded_window(kind):
    data, seen = encoded(picture(), kind), set()
    whole = decode(data).numpy()
    for number in range(8):
        image = training_image(data, (24, 40), (5, number)).numpy()
        draws = tf.random.stateless_uniform([23], (5, number))
        top, left, height, width = crop_window(tf.constant(whole.shape[:2]), draws[:-1]).numpy()
        cut = whole[top : top + height, left : left + width]
        expected = np.rint(tf.image.resize(cut, (24, 40)))
        flipped = bool(draws[-1] < 0.5)
        difference = np.abs(image - (expected[:, ::-1] if flipped else expected))
        if kind == "PNG":
            assert difference.max() == 0
        # At the border of its window libjpeg interpolates colour without what lies outside.
        assert np.mean(difference > 0) < 0.1
        assert difference.max() <= 8
        seen.add(flipped)
    assert seen == {True, False}


@pytest.mark.parametrize("name", [*UNREADABLE, *UNUSUAL])
def test_files_are_decoded_as_pillow_does_or_refused(name):
    data = odd_files()[name]
    if name in UNREADABLE:
        for number in range(5):  # wherever the window lies
            with pytest.raises(tf.errors.InvalidArgumentError):
                training_image(data, (32, 32), (0, number))
        return
    with Image.open(io.BytesIO(data)) as file:
        deep = np.asarray(file)[..., None] // 256 if name == "sixteen.png" else None
        expected = np.asarray(file.convert("RGB")) if deep is None else deep.repeat(3, 2)
    np.testing.assert_allclose(decode(data).numpy().astype(int), expected.astype(int), atol=1)


def commented(content, length):
    """A JPEG file with a comment before all else."""
    comment = b"\xff\xfe" + (length + 2).to_bytes(2, "big") + b"Exif"[:length].ljust(length)
    return content[:2] + comment + content[2:]


def test_the_head_of_a_jpeg_tells_only_what_is_sure():
    """A file that is said to be plain is one for Pillow, too; a turned one is never said to be."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), "uint8"))
    plain = {mode: encoded(image.convert(mode), "JPEG") for mode in ("RGB", "L")}
    plain["progressive"] = encoded(image, "JPEG", progressive=True)
    turned = encoded(image, "JPEG", exif=exif_of(6))
    others = {
        "CMYK": encoded(image.convert("CMYK"), "JPEG"),
        "turned": turned,
        "turned, after a short comment": commented(turned, 9),
        "turned, after a long comment": commented(turned, 5000),
        "no frame in its head": commented(plain["RGB"], 5000),
        "PNG": encoded(image, "PNG"),
        "cut": plain["RGB"][:100],
        "empty": b"",
    }
    for name, content in (plain | others).items():
        said = bool(images.is_plain_jpeg(content))
        assert said == (name in plain), name
        if said:
            assert images._reader_of(content) == images._JPEG
            with Image.open(io.BytesIO(content)) as opened:
                expected = np.asarray(opened.convert("RGB"), "int16")
            assert np.abs(images.decode(content).numpy() - expected).max() <= 1
