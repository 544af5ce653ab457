"""What every room uses: files, pictures, colours, times, extras."""

import itertools

import numpy as np
import pytest
from PIL import Image

from keras_parc.support import timing
from keras_parc.support.class_maps import painted, palette
from keras_parc.support.extras import needs_extra
from keras_parc.support.files import replacing
from keras_parc.support.images import load_image


def test_a_temporary_name_keeps_the_ending(tmp_path):
    """Keras, Pillow and others choose the format by it."""
    for name in ("model.weights.h5", "report.png"):
        with replacing(tmp_path / name) as temporary:
            assert temporary.name.endswith(f".{name}")
            assert temporary.parent == tmp_path
            temporary.touch()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.weights.h5", "report.png"]


def test_a_photo_is_upright_and_its_centre_is_kept(tmp_path):
    """Of 288 columns, as bright as their number, the middle 256; a camera on its side is turned."""
    ramp = np.tile(np.arange(288) // 2, (288, 1)).astype("uint8")
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    expected = np.tile((np.arange(16, 272) // 2)[None, :, None], (256, 1, 3))
    np.testing.assert_array_equal(load_image(tmp_path / "ramp.png", (256, 256)), expected)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees, clockwise: the left becomes the top
    Image.fromarray(ramp).save(tmp_path / "turned.png", exif=exif)
    turned = load_image(tmp_path / "turned.png", (256, 256))
    np.testing.assert_array_equal(turned, expected.transpose(1, 0, 2))


def test_the_background_is_not_painted():
    image = np.full((2, 2, 3), 100.0)
    mixed = painted(image, np.array([[0, 15], [0, 255]]), 0.5)
    assert mixed[:, 0].tolist() == [[100] * 3] * 2
    for row, number in ((0, 15), (1, 255)):
        np.testing.assert_array_equal(mixed[row, 1], (100 + palette(256)[number].astype(int)) // 2)


def test_times_are_those_of_the_rounds(monkeypatch):
    """A clock on which "a" takes 2 ms and "b" 6, and in the warm-up a hundred times as much."""
    calls, now, ticks = itertools.count(), [0.0], {"a": 2e-3, "b": 6e-3}
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def taking(name):
        def call():
            now[0] += ticks[name] * (100 if next(calls) < 2 else 1)

        return call

    found = timing.interleaved({name: taking(name) for name in ticks}, rounds=3, warm_up=1)
    for name, factor in (("a", 1), ("b", 3)):
        assert found[name]["median_ms"] == pytest.approx(2 * factor)
        assert found[name]["p90_ms"] == pytest.approx(2 * factor)
        assert found[name]["ratio"] == pytest.approx(factor)


def test_a_missing_extra_says_what_to_install():
    message = r"needs pycocotools: pip install 'keras_parc\[train\]'"
    with pytest.raises(ImportError, match=message), needs_extra():
        raise ModuleNotFoundError("No module named 'x'", name="pycocotools.coco")
    with pytest.raises(ModuleNotFoundError, match="No module named 'mine'"), needs_extra():
        raise ModuleNotFoundError("No module named 'mine'", name="mine")
