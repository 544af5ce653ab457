"""DeepLabV3: sizes, strides, dilation, any backbone; its outputs are tested in test_parity.py."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from registered import register_for_test

import keras_parc
from keras_parc.layers.blocks import conv_norm_act, inverted_residual
from keras_parc.models.deeplab_v3 import DeepLabV3, encoder, low_resolution
from keras_parc.models.losses import pixel_cross_entropy

BACKBONES = (
    keras_parc.ParCNetTiny,
    keras_parc.MobileViTS,
    keras_parc.ParCResNet50,
    keras_parc.ParCMobileNetV2,
    keras_parc.ParCConvNeXtXT,
)


def size_of(model):
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, "float32")


def numpy(x):
    return ops.convert_to_numpy(x)


@pytest.fixture(scope="module")
def segmenter():
    """One of unknown sides, with random statistics so that nothing is 0 by chance."""
    keras.utils.set_random_seed(0)
    backbone = keras_parc.ParCNetTiny(include_top=False, include_preprocessing=True)
    model = DeepLabV3(backbone, classes=5)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(255 * pictures(4, 64, 64, 3), training=True)
    return model


@pytest.mark.slow
def test_parameters_and_multiply_adds_are_the_authors():
    small = {"input_shape": (256, 256, 3)}
    model = keras_parc.DeepLabV3ParCNetS(**small, include_preprocessing=False)
    assert (size_of(model), keras_parc.count_macs(model)) == (5_816_397, 2_397_231_616)
    model = keras_parc.DeepLabV3ParCNetS(position_embedding=False, include_preprocessing=False)
    assert (size_of(model), keras_parc.count_macs(model)) == (5_790_797, 9_754_237_440)
    mobilevit = keras_parc.MobileViTS(
        include_top=False, input_shape=(512, 512, 3), include_preprocessing=False
    )
    model = DeepLabV3(mobilevit)
    assert (size_of(model), keras_parc.count_macs(model)) == (6_357_941, 13_693_526_016)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "size", [pytest.param((64, 64), marks=pytest.mark.slow), (32, 100), (45, 70)]
)
def test_any_size_and_rectangles(segmenter, size):
    image = 255 * pictures(1, *size, 3)
    logits = numpy(segmenter(image, training=False))
    assert logits.shape == (1, *size, 5)
    backbone = keras_parc.ParCNetTiny(
        include_top=False, input_shape=(*size, 3), include_preprocessing=True
    )
    fixed = DeepLabV3(backbone, classes=5)
    fixed.set_weights(segmenter.get_weights())
    np.testing.assert_allclose(numpy(fixed(image, training=False)), logits, rtol=1e-4, atol=1e-4)


def test_upsampling_has_half_pixel_centres(segmenter):
    """Between the centres of two low-resolution pixels the logits are a straight line."""
    image = 255 * pictures(1, 64, 64, 3)
    low = numpy(low_resolution(segmenter)(image, training=False))
    full = numpy(segmenter(image, training=False))
    assert low.shape == (1, 4, 4, 5)
    np.testing.assert_allclose(full[0, 0, 0], low[0, 0, 0], rtol=1e-5, atol=1e-6)  # the border
    places = (np.arange(64) + 0.5) / 16 - 0.5
    row = np.stack([np.interp(places, range(4), low[0, 0, :, c]) for c in range(5)], -1)
    np.testing.assert_allclose(full[0, 0], row, rtol=1e-4, atol=1e-5)


def test_low_resolution_leaves_other_models_alone():
    model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), include_preprocessing=False)
    assert low_resolution(model) is model


def strides_of_backbones():
    """Of each kind of backbone one is fast; 8 is the stride where more stages lose theirs."""
    fast = {("ParCNetTiny", 16), ("ParCNetTiny", 8), ("ParCMobileNetV2", 8), ("ParCConvNeXtXT", 8)}
    for build in BACKBONES:
        for stride in (16, 8):
            marks = [] if (build.__name__, stride) in fast else pytest.mark.slow
            yield pytest.param(build, stride, marks=marks, id=f"{build.__name__}-{stride}")


@pytest.mark.parametrize(("build", "stride"), strides_of_backbones())
def test_every_backbone_at_every_output_stride(build, stride):
    backbone = build(include_top=False, input_shape=(64, 128, 3))
    for dilated in (False, True) if stride == 8 else (False,):
        model = DeepLabV3(backbone, classes=3, output_stride=stride, dilated=dilated)
        assert low_resolution(model).output_shape == (None, 64 // stride, 128 // stride, 3)
        assert model.output_shape == (None, 64, 128, 3)


def test_at_its_own_stride_a_backbone_is_copied():
    backbone = keras_parc.ParCNetTiny(
        include_top=False, input_shape=(64, 64, 3), include_preprocessing=False
    )
    copy, image = encoder(backbone, output_stride=32), pictures(1, 64, 64, 3)
    ours, theirs = (model(image)["P5"] for model in (copy, keras_parc.features(backbone)))
    np.testing.assert_array_equal(numpy(ours), numpy(theirs))
    kernel = copy.get_layer("stem_conv").kernel
    kernel.assign(0 * kernel)
    assert np.any(numpy(backbone.get_layer("stem_conv").kernel))


def test_a_backbone_built_for_the_stride_is_taken():
    backbone = keras_parc.ParCNetTiny(
        include_top=False, input_shape=(64, 64, 3), output_stride=16, include_preprocessing=False
    )
    built = DeepLabV3(backbone, classes=3)
    asked = DeepLabV3(
        keras_parc.ParCNetTiny(
            include_top=False, input_shape=(64, 64, 3), include_preprocessing=False
        ),
        classes=3,
    )
    asked.set_weights(built.get_weights())
    image = pictures(1, 64, 64, 3)
    np.testing.assert_array_equal(numpy(asked(image)), numpy(built(image)))


def test_dilation_makes_the_same_features_denser(monkeypatch):
    """Every second (fourth) feature of a dilated encoder is what the backbone gives there."""
    image = keras.Input((64, 96, 3))
    x = conv_norm_act(image, 4, 3, 2, name="stem")
    x = inverted_residual(x, 6, 2, "stage2_ir1")
    for stage in (3, 4, 5):
        x = inverted_residual(x, 6, 2, f"stage{stage}_ir1")
        x = inverted_residual(x, 6, 1, f"stage{stage}_ir2")
        x = conv_norm_act(x, 6, 3, name=f"stage{stage}_fusion")
    backbone = keras.Model(image, x)
    levels = {"P2": "stage2_ir1_project_bn"}
    levels |= {f"P{stage}": f"stage{stage}_fusion_act" for stage in (3, 4, 5)}
    register_for_test(monkeypatch, lambda: backbone, "plain_stages", levels=levels)
    x = pictures(2, 64, 96, 3)
    coarse = numpy(keras_parc.features(backbone)(x)["P5"])
    for stride, step in ((16, 2), (8, 4)):
        dense = numpy(encoder(backbone, stride, dilated=True)(x)["P5"])
        np.testing.assert_allclose(dense[:, ::step, ::step], coarse, rtol=1e-4, atol=1e-7)
        plain = numpy(encoder(backbone, stride)(x)["P5"])
        assert np.abs(plain[:, ::step, ::step] - coarse).max() > 0.01 * np.abs(coarse).max()


def test_a_file_of_the_model(segmenter, tmp_path):
    segmenter.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    image = 255 * pictures(1, 48, 80, 3)
    np.testing.assert_array_equal(
        numpy(again(image, training=False)), numpy(segmenter(image, training=False))
    )


@pytest.mark.any_backend
def test_ignored_pixels_do_not_count():
    logits = np.random.default_rng(0).standard_normal((2, 4, 6, 5)).astype("float32")
    mask = np.random.default_rng(1).integers(0, 5, (2, 4, 6))
    mask[0, :, :4] = 255
    loss = pixel_cross_entropy()
    chosen = np.take_along_axis(logits, np.where(mask < 255, mask, 0)[..., None], -1)[..., 0]
    expected = (np.log(np.exp(logits).sum(-1)) - chosen)[mask < 255].mean()
    assert float(numpy(loss(mask, logits))) == pytest.approx(expected, rel=1e-5)
    other = logits.copy()
    other[0, :, :4] += 100 * np.random.default_rng(2).standard_normal((4, 4, 5))
    assert float(numpy(loss(mask, other))) == pytest.approx(expected, rel=1e-5)
    assert float(numpy(loss(np.full((2, 4, 6), 255), logits))) == 0
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(numpy(again(mask, logits))) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"\(2, 6\) pixels do not fit logits of \(4, 6\)"):
        loss(mask[:, :2], logits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "`classes` must be a whole number of at least 2, got 1"),
        ({"output_stride": 4}, "`output_stride` must be 32, 16 or 8, got 4"),
        ({"rates": (6, 12)}, "`rates` must be three"),
        ({"rates": (0, 6, 12)}, "`rates` must be three"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    backbone = keras_parc.ParCNetTiny(
        include_top=False, input_shape=(32, 32, 3), include_preprocessing=False
    )
    with pytest.raises(ValueError, match=message):
        DeepLabV3(backbone, **arguments)


def test_a_backbone_that_does_not_fit():
    with pytest.raises(ValueError, match="has the feature maps of no registered model"):
        DeepLabV3(keras.applications.MobileNet(weights=None, include_top=False))
    fine = keras_parc.ParCNetTiny(include_top=False, output_stride=8, include_preprocessing=False)
    with pytest.raises(ValueError, match=r"of output stride 16 or more is needed.* is 8"):
        DeepLabV3(fine)
    with pytest.raises(ValueError, match="of output stride 32 is needed"):
        DeepLabV3(fine, output_stride=8, dilated=True)
