"""`parcify`: ParC put into models of `keras.applications`."""

import keras
import numpy as np
import pytest
from keras import layers
from rewritten import difference, images, randomize

import keras_parc
from keras_parc import ParCH, ParCV, parcify


def mobilenet(side=64, **arguments):
    return keras.applications.MobileNetV2(
        input_shape=(side, side, 3), weights=None, classes=5, alpha=0.35, **arguments
    )


@pytest.fixture(scope="module")
def plain():
    return randomize(mobilenet())


@pytest.fixture(scope="module")
def replaced(plain):
    return parcify(plain)


def operators(model):
    return [layer.name for layer in model.layers if isinstance(layer, (ParCV, ParCH))]


def test_the_late_stages_by_default(plain, replaced):
    """Blocks 7 to 12 and 14 to 16 of MobileNetV2 work at strides 16 and 32, block 13 strides."""
    blocks = [*range(7, 13), 14, 15, 16]
    assert operators(replaced) == [
        f"block_{block}_depthwise_{half}" for block in blocks for half in "vh"
    ]
    late = replaced.get_layer("block_8_depthwise_h")
    assert (late.kernel_length, late.use_bias, late.position_embedding) == (4, True, True)
    assert replaced.get_layer("block_16_depthwise_v").kernel_length == 2
    assert replaced.output_shape == (None, 5)
    # Of each half, its own part of the channels.
    channels = plain.get_layer("block_8_depthwise").output.shape[-1]
    assert late.base_kernel.shape == (4, channels - channels // 2)


def test_the_other_weights_are_kept(plain, replaced):
    theirs = {layer.name: layer for layer in plain.layers}
    kept = 0
    for layer in replaced.layers:
        if layer.name in theirs:
            for ours, original in zip(
                layer.get_weights(), theirs[layer.name].get_weights(), strict=True
            ):
                np.testing.assert_array_equal(ours, original)
                kept += 1
            assert layer is not theirs[layer.name]
    assert kept == sum(len(layer.get_weights()) for layer in plain.layers) - 9
    assert not operators(plain)


def test_it_computes_what_the_halves_compute(plain):
    """Up to the layer before: the original; then the two operators by hand."""
    model = parcify(plain, ["block_16_depthwise"])
    x = images((64, 64, 3))

    def upto(source, name):
        return keras.Model(source.input, source.get_layer(name).output)(x, training=False)

    before = np.asarray(upto(plain, "block_16_expand_relu"))
    np.testing.assert_allclose(upto(model, "block_16_expand_relu"), before, atol=1e-6)
    half = before.shape[-1] // 2
    expected = np.concatenate(
        [
            model.get_layer("block_16_depthwise_v")(before[..., :half]),
            model.get_layer("block_16_depthwise_h")(before[..., half:]),
        ],
        -1,
    )
    np.testing.assert_allclose(upto(model, "block_16_depthwise_concat"), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.slow
def test_it_trains_saves_loads_and_exports(plain, tmp_path):
    model = parcify(plain, where=lambda layer: layer.name[:9] in ("block_2_d", "block_16_"))
    assert operators(model) == [f"block_{i}_depthwise_{half}" for i in (2, 16) for half in "vh"]
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    x = images((64, 64, 3))
    old = np.array(model.get_layer("block_2_depthwise_v").base_kernel)
    model.fit(x, np.arange(2), verbose=0)
    assert not np.array_equal(old, model.get_layer("block_2_depthwise_v").base_kernel)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert difference(model, loaded, x) <= 1e-6
    randomize(loaded)
    for quantize in (None, "int8"):
        path = keras_parc.to_tflite(loaded, tmp_path / "m.tflite", quantize=quantize, calibration=x)
        found = keras_parc.inspect(path)
        assert (found.partitions, found.outside) == (1, {})
    assert difference(loaded, keras_parc.deploy(loaded), x) <= 1e-5


def test_a_grouped_convolution_counts_as_depthwise():
    """ConvNeXt of `keras.applications` is written so, and its size is left open here."""
    plain = keras.applications.ConvNeXtTiny(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    model = parcify(plain)
    assert len(operators(model)) == 2 * (9 + 3)
    assert model.get_layer("convnext_tiny_stage_2_block_0_depthwise_conv_v").kernel_length == 14
    assert model.get_layer("convnext_tiny_stage_3_block_2_depthwise_conv_h").kernel_length == 7
    assert model(images((32, 64, 3)), training=False).shape == (2, 1, 2, 768)


def test_an_activation_inside_and_a_rectangle():
    keras.utils.set_random_seed(0)  # weights of which some results are negative before the ReLU
    image = keras.Input((64, 96, 8))
    x = layers.MaxPooling2D(16)(image)
    net = keras.Model(image, layers.DepthwiseConv2D(3, padding="same", activation="relu")(x))
    model = parcify(net, position_embedding=False)
    kernels = [layer.kernel_length for layer in model.layers if isinstance(layer, (ParCV, ParCH))]
    assert kernels == [4, 6]
    assert float(np.min(model(images((64, 96, 8)) - 0.5))) == 0
    assert not any("base_position" in weight.path for weight in model.weights)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (["block_13_depthwise"], "'block_13_depthwise' cannot become ParC: it has stride 2"),
        (["block_16_expand"], "'block_16_expand' cannot become ParC: it is no depthwise"),
        (["nothing"], r"has no layer 'nothing'. To choose from: \[.*'block_16_depthwise'"),
        ("nothing", "has no layer 'nothing'"),
        (lambda layer: False, "no depthwise convolution to replace.*`where`.*'block_9_depthwise'"),
        ([], "no depthwise convolution to replace"),
    ],
)
def test_wrong_choice(plain, where, message):
    with pytest.raises(ValueError, match=message):
        parcify(plain, where)


def test_wrong_models():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    sequential = keras.Sequential([keras.Input((32, 32, 4)), layers.DepthwiseConv2D(3)])
    with pytest.raises(ValueError, match=r"is Sequential. Pass `keras.Model\(model.inputs"):
        parcify(sequential)
    with pytest.raises(ValueError, match="subclassed one, Subclassed"):
        parcify(Subclassed())
    vector = keras.Input((4,))
    dense = keras.Model(vector, layers.Dense(2)(vector))
    with pytest.raises(ValueError, match=r"over one image, got the inputs \[\(None, 4\)\]"):
        parcify(dense)
    with pytest.raises(ValueError, match=r"no depthwise convolution to replace.*found none"):
        parcify(
            keras_parc.ParCResNet50(
                input_shape=(32, 32, 3), parc=False, include_preprocessing=False
            )
        )
    shared, image = layers.DepthwiseConv2D(3, padding="same", name="twice"), keras.Input((8, 8, 4))
    with pytest.raises(ValueError, match="'twice' cannot become ParC: it is called 2 times"):
        parcify(keras.Model(image, shared(shared(image))), ["twice"])
