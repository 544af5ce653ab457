"""The rewrite for inference: every rule on a model of its own, then whole models."""

import functools
import logging

import keras
import numpy as np
import pytest
from keras import layers, ops
from rewritten import check, conv, difference, enliven, images

import keras_parc
from keras_parc import (
    MobileViTS,
    ParCConvNeXtXT,
    ParCMobileNetV2,
    ParCNetH,
    ParCNetS,
    ParCNetTiny,
    ParCNetXS,
    ParCResNet50,
    ParCV,
)
from reference import TOLERANCE


def whole(build, input_shape, **arguments):
    """A model of logits: probabilities of large ones would hide a difference."""
    options = {"classes": 7, "classifier_activation": None, "include_preprocessing": False}
    return build(input_shape=input_shape, **options | arguments)


tiny, xs, s = (functools.partial(whole, build) for build in (ParCNetTiny, ParCNetXS, ParCNetS))


def test_norm_folds_into_the_convolution_before():
    def after(layer):
        return lambda x: layers.BatchNormalization()(layer(x))

    assert check(after(conv(5, 3, use_bias=False))) == {"input": 1, "conv": 1}
    assert check(after(conv(6, 3, groups=2, strides=2)))["affine"] == 0
    assert check(after(layers.DepthwiseConv2D(3))) == {"input": 1, "depthwise": 1}
    assert check(after(ParCV(8, use_bias=True)))["affine"] <= 1
    dense = check(lambda x: layers.BatchNormalization()(layers.Dense(5)(layers.Flatten()(x))))
    assert dense["affine"] == 0


def test_norm_stays_apart_from_a_convolution_read_twice():
    def twice(x):
        y = conv(4)(x)
        return layers.Add()([y, layers.Activation("silu")(layers.BatchNormalization()(y))])

    assert check(twice)["affine"] == 1


def test_norm_before_folds_forward():
    def before(layer):
        return lambda x: layer(layers.BatchNormalization()(x))

    assert check(before(conv(5)))["affine"] == 0
    assert check(before(conv(6, groups=2)))["affine"] == 0
    assert check(before(layers.Dense(3)))["affine"] == 0
    assert check(before(conv(5, 3, padding="valid")))["affine"] == 0
    # Past a zero padding the shift depends on the position ...
    assert check(before(layers.DepthwiseConv2D((5, 1), padding="same")))["affine"] == 1
    # ... and is kept before the convolution where the result would be larger.
    operations = check(before(conv(9, 3)))
    assert (operations["affine"], operations["conv"]) == (1, 1)


def test_norm_before_an_explicit_padding_leaves_its_shift_there():
    def padded(x):
        x = layers.ZeroPadding2D(1)(layers.BatchNormalization()(x))
        return conv(5, 3, padding="valid", strides=2)(x)

    assert check(padded) == {"input": 1, "affine": 1, "pad": 1, "conv": 1}


def test_norm_passes_pooling_and_product():
    def attention(x):
        y = layers.BatchNormalization()(x)
        gate = conv(4)(layers.GlobalAveragePooling2D(keepdims=True)(y))
        return conv(3)(layers.Multiply()([x, layers.BatchNormalization(center=False)(gate)]))

    assert check(attention)["affine"] == 0


def test_a_shift_does_not_pass_a_product():
    def gated(x):
        y = layers.BatchNormalization()(x)
        return conv(3)(layers.Multiply()([y, layers.Activation("sigmoid")(conv(4)(x))]))

    assert check(gated)["affine"] == 1


def test_layers_of_keras_applications():
    def excited(x):
        x = layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0])(x)
        gate = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(x))
        x = layers.Multiply()([x, layers.Activation("sigmoid")(conv(4)(gate))])
        return keras_parc.models.parc_convnext.LayerScale(0.5)(
            layers.Dense(3, activation="gelu")(x)
        )

    operations = check(excited)
    assert operations["keep"] == operations["reshape"] == 0


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        (layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), 2),
        (conv(4, groups=4), 2),
        (conv(12, 3, groups=4), 6),
    ],
    ids=["multiplier", "two_in", "two_in_three_out"],
)
def test_grouped_convolutions_become_depthwise(layer, parts):
    """8 channels; the residual makes the order of the channels matter in two places."""

    def around(x):
        y = conv(8)(x)
        y = layers.Add()([y, layers.Activation("silu")(conv(8)(y))])
        return conv(5)(layers.Activation("silu")(layer(y)))

    operations = check(around)
    assert operations["depthwise"] == parts
    assert operations["permute"] == 0


def test_a_group_stays_where_the_order_cannot_change():
    operations = check(lambda x: layers.MaxPooling2D()(conv(4, groups=2)(layers.Softmax()(x))))
    assert operations["conv"] == 1
    assert operations["permute"] == 0


def test_order_passes_a_concatenation():
    def frame(x):
        x = conv(8)(x)
        y = conv(8)(layers.Activation("silu")(conv(12, 3, groups=4)(x)))
        return conv(3, 3)(layers.Concatenate()([y, x]))

    operations = check(frame)
    assert operations["depthwise"] == 6
    assert operations["permute"] == 0


def test_hard_swish():
    """1/6 goes into the next convolution; what is left is relu6, one sum and one product."""
    operations = check(lambda x: conv(3)(layers.Activation("hard_silu")(conv(4)(x))), scale=9.0)
    assert operations == {"input": 1, "conv": 2, "affine": 1, "activation": 1, "multiply": 1}


@pytest.mark.parametrize("residual", [True, False])
def test_hard_sigmoid_of_an_attention(residual):
    """3 goes into the bias before, 1/6 into the gated convolution, undone in the gate's own."""

    def attention(x):
        y = conv(4)(x)
        gate = conv(4)(layers.GlobalAveragePooling2D(keepdims=True)(y))
        y = layers.Multiply()([y, layers.Activation("hard_sigmoid")(gate)])
        return layers.Add()([x, y]) if residual else conv(3)(y)

    assert check(attention, scale=9.0)["affine"] == 0


def test_hard_activation_at_the_end():
    assert check(lambda x: layers.Activation("hard_silu")(x), scale=9.0)["affine"] == 2


def test_preprocessing_folds_into_the_first_convolution():
    def first(x):
        x = ops.flip(layers.Rescaling(1 / 255)(x), axis=-1)
        return conv(5, 3, padding="valid")(layers.ZeroPadding2D(1)(x))

    assert check(first, (8, 6, 3), scale=255.0) == {"input": 1, "pad": 1, "conv": 1}


def test_attention_of_mobilevit():
    from keras_parc.layers import Fold, Unfold
    from keras_parc.models.mobilevit import transformer_block

    def attention(x):
        tokens = transformer_block(Unfold(2)(x), 16, 2, "t")
        return conv(4)(Fold(2)([layers.LayerNormalization()(tokens), x]))

    operations = check(attention, (7, 6, 8))
    assert operations["matmul"] == 2
    assert operations["affine"] == operations["keep"] == 0
    assert operations["resize"] == 2


def test_unknown_layers_are_kept_and_named(caplog):
    def unknown(x):
        x = layers.BatchNormalization()(conv(8)(x))
        x = layers.GroupNormalization(2)(x)
        x = layers.LeakyReLU()(ops.roll(x, 1, axis=1))
        return layers.BatchNormalization(axis=1)(x)

    assert check(unknown)["keep"] == 4
    image = keras.Input((8, 6, 4))
    with caplog.at_level(logging.WARNING, "keras_parc"):
        keras_parc.deploy(keras.Model(image, unknown(image)))
    assert len(caplog.records) == 1
    for name in ("GroupNormalization", "Roll", "LeakyReLU", "BatchNormalization"):
        assert name in caplog.text


class LayerScale(layers.Layer):
    """Named after a layer of keras.applications, and another function."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), name="gamma")

    def call(self, x):
        return x * (1 + self.gamma)


class Dense(layers.Dense):
    def call(self, x):
        return super().call(x) + 1


def hard_sigmoid(x):
    """Keras 2's, whose slope is not Keras 3's."""
    return ops.clip(0.2 * x + 0.5, 0, 1)


def linear(x):
    return 2 * x


def test_classes_and_functions_of_the_same_name_are_kept():
    assert check(lambda x: LayerScale()(conv(4)(x)))["keep"] == 1
    assert check(lambda x: Dense(5)(x))["keep"] == 1
    operations = check(lambda x: layers.Activation(hard_sigmoid)(conv(4)(x)), scale=9.0)
    assert operations == {"input": 1, "conv": 1, "activation": 1}
    assert check(lambda x: layers.Activation(linear)(x))["activation"] == 1


def test_softmax_over_another_axis_and_what_ops_have_in_common_with_layers():
    assert check(lambda x: layers.Softmax()(x))["activation"] == 1
    assert check(lambda x: layers.Softmax(axis=1)(x))["keep"] == 1
    assert check(lambda x: ops.softmax(x, axis=1))["keep"] == 1
    assert check(lambda x: ops.reshape(conv(4)(x), (-1, 48, 4)))["reshape"] == 1
    assert check(lambda x: ops.concatenate([x, np.ones((2, 8, 6, 1))], -1))["keep"] == 1
    assert check(lambda x: conv(3)(x + 1.0)) == {"input": 1, "conv": 1}


def test_layers_of_convnext_in_keras_applications():
    from keras.src.applications import convnext

    def block(x):
        y = convnext.StochasticDepth(0.1)(convnext.LayerScale(0.5, 4)(x))
        return layers.Add()([x, y])

    assert check(block) == {"input": 1, "affine": 1, "add": 1}


@pytest.mark.parametrize("training", [True, False])
def test_the_model_s_own_training_argument_goes_before_that_of_a_call(training):
    """Keras does so: what was said when the model was built does not count in inference."""

    def normalized(x):
        return layers.BatchNormalization()(conv(4)(x), training=training)

    assert check(normalized) == {"input": 1, "conv": 1}


def test_models_inside_models_and_shared_layers():
    shared = conv(4, 3)
    inner = keras.Sequential([keras.Input((8, 6, 4)), shared, layers.BatchNormalization()])
    assert check(lambda x: inner(inner(x)))["keep"] == 0


WHOLE = {
    "xs": lambda: xs(input_shape=(64, 96, 3)),
    "s": lambda: s(input_shape=(96, 64, 3)),
    "h": lambda: whole(ParCNetH, (64, 64, 3)),
    "mobilevit": lambda: whole(MobileViTS, (96, 72, 3)),
    "big_1/2": lambda: s(input_shape=(64, 96, 3), kernel="big_1/2"),
    "big_1/4": lambda: tiny(input_shape=(64, 96, 3), kernel="big_1/4"),
    "no_meta_former": lambda: tiny(input_shape=(64, 64, 3), meta_former=False),
    "no_attention": lambda: tiny(input_shape=(64, 64, 3), channel_attention=False),
    "no_position": lambda: tiny(input_shape=(96, 64, 3), position_embedding=False),
    "no_top": lambda: xs(include_top=False, input_shape=(100, 68, 3)),
    "pooled": lambda: xs(include_top=False, pooling="max", input_shape=(33, 47, 3)),
    "stride_8": lambda: tiny(include_top=False, input_shape=(96, 64, 3), output_stride=8),
    "resnet": lambda: whole(ParCResNet50, (100, 224, 3)),
    "mobilenet": lambda: whole(ParCMobileNetV2, (224, 96, 3)),
    "convnext": lambda: whole(ParCConvNeXtXT, (100, 224, 3)),
    "features": lambda: keras_parc.features(xs(input_shape=(64, 96, 3))),
}


# What is larger, and is made of what the others are made of.
LARGER = ("s", "h", "big_1/2", "no_attention", "no_top", "pooled", "resnet")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LARGER else []) for n in WHOLE]
)
def test_whole_models(name):
    model = enliven(WHOLE[name](), seed=1)
    before = [np.array(weight) for weight in model.weights]
    deployed, x = keras_parc.deploy(model), images(model.input_shape[1:])
    # So deep a model turns a last bit of its input into up to 4e-5 of its output.
    assert difference(model, deployed, x) <= TOLERANCE
    assert difference(model, lambda x, training: model(x[:, ::-1], training=training), x) > 0.01
    names = {type(layer).__name__ for layer in deployed.layers}
    assert not names & {"BatchNormalization", "ParCV", "ParCH", "PositionEmbedding", "Dropout"}
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(np.array(weight), old)


@pytest.mark.slow
def test_at_256():
    model = enliven(s(input_shape=(256, 256, 3)), seed=1)
    deployed = keras_parc.deploy(model)
    assert difference(model, deployed, images((256, 256, 3))[:1]) <= TOLERANCE
    assert sum(isinstance(layer, layers.EinsumDense) for layer in deployed.layers) == 12


@pytest.mark.parametrize("target", ["litert", pytest.param("portable", marks=pytest.mark.slow)])
def test_unknown_size_and_preprocessing(target, tmp_path):
    """Also: a model loaded from a file, and a deployed model saved and loaded."""
    model = enliven(tiny(input_shape=(None, None, 3), include_preprocessing=True))
    model.save(tmp_path / "m.keras")
    model = keras.models.load_model(tmp_path / "m.keras")
    deployed = keras_parc.deploy(model, (352, 64), target=target)
    x = images((352, 64, 3), 255.0)
    assert difference(model, deployed, x) <= 1e-5
    deployed.save(tmp_path / "d.keras")
    assert difference(model, keras.models.load_model(tmp_path / "d.keras"), x) <= 1e-5


def test_the_model_read_gets_no_new_calls():
    """`features` reads each layer's only output."""
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, layers.GroupNormalization(2)(conv(4)(image)))
    keras_parc.deploy(model)
    assert [len(layer._inbound_nodes) for layer in model.layers] == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "not fixed: pass `input_size"),
        ({"input_size": (64, 0)}, "width must be positive, .* got 0"),
        ({"input_size": (64,)}, r"must be \(height, width\), got \(64,\)"),
        ({"input_size": 64}, r"must be \(height, width\), got 64"),
        ({"input_size": (64.0, 64)}, "height must be positive, a whole number of pixels, got 64.0"),
        ({"input_size": (64, 64), "target": "armv9"}, "one of .*'litert'.*got 'armv9'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_parc.deploy(xs(input_shape=(None, None, 3)), **arguments)


def test_models_that_cannot_be_read():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="are not known: call it once"):
        keras_parc.deploy(Subclassed(), (64, 64))
    with pytest.raises(ValueError, match="not both"):
        keras_parc.deploy(Subclassed(), (64, 64), input_shape=(64, 64, 3))
    flat = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="takes no images: state `input_shape`"):
        keras_parc.deploy(flat, (64, 64))
