"""The rewrite of circular convolutions: what joins, and the forms of the table."""

import functools

import numpy as np
import pytest
from keras import layers, ops
from rewritten import check, read

import keras_parc
from keras_parc import ParCH, ParCV, PositionEmbedding
from keras_parc.lite.rewrite import forms
from keras_parc.lite.rewrite.deploy import rewrite
from keras_parc.lite.rewrite.operations import DEPTHWISE


def test_position_and_norm_become_one_constant():
    def step(x):
        y = PositionEmbedding(5, "height")(x)
        y = ParCV(5, position_embedding=False)(layers.BatchNormalization()(y))
        return ParCH(5)(y)

    operations = check(step)
    assert operations["affine"] == 1  # (height, width, channels)
    plain = functools.partial(ParCV, 5, position_embedding=False)
    # Constant over the positions: in the bias of the depthwise convolution.
    assert check(lambda x: plain()(layers.BatchNormalization()(x)))["affine"] == 0


@pytest.mark.parametrize("shape", [(8, 6, 8), (12, 20, 8), (9, 10, 8), (1, 3, 8), (33, 40, 8)])
@pytest.mark.parametrize("target", ["litert", "portable"])
@pytest.mark.parametrize("positions", [True, False])
def test_both_halves_of_the_parc_block_join(shape, target, positions):
    from keras_parc.layers.blocks import circular_mixer

    mixer = functools.partial(circular_mixer, length=8, position_embedding=positions, name="b")
    operations = check(mixer, shape, target)
    assert operations["slice"] == operations["concat"] == operations["circular"] == 0
    if target == "portable":
        assert operations["product"] == 0
    else:
        assert operations["product"] == sum(side >= 10 for side in shape[:2])
    assert operations["transpose"] == {0: 0, 1: 2, 2: 3}[operations["product"]]


def test_circulars_along_the_same_axis_become_one():
    operations = check(lambda x: ParCV(8, position_embedding=False)(ParCV(3, use_bias=True)(x)))
    assert operations["depthwise"] == 1


def test_halves_along_different_axes_stay_apart():
    def halves(x):
        a, b = ops.split(x, 2, axis=-1)
        return layers.Concatenate()([ParCV(8)(a), ParCH(8)(b)])

    assert check(halves)["concat"] == 1


def test_zero_padded_kernels_do_not_commute():
    from keras_parc.layers.blocks import big_kernel_mixer

    operations = check(functools.partial(big_kernel_mixer, size=5, name="b"), (8, 6, 8))
    assert operations["depthwise"] == 4
    assert operations["affine"] == 1


def one_step(depthwise=True, **arguments):
    from keras_parc.layers.blocks import parc_halves

    def block(x):
        x = parc_halves(x, (8, 8), "b", depthwise=depthwise, **arguments)
        return layers.Activation("relu6")(layers.BatchNormalization()(x))

    return block


@pytest.mark.parametrize("shape", [(8, 6, 8), (12, 20, 8), (1, 3, 8)])
@pytest.mark.parametrize("target", ["litert", "portable"])
def test_one_step_of_depthwise_parc(shape, target):
    operations = check(one_step(), shape, target)
    assert operations["affine"] == 1  # (height, width, channels), after the concatenation
    assert operations["circular"] == 0


@pytest.mark.parametrize("shape", [(8, 6, 8), (12, 20, 8), (1, 3, 8)])
def test_one_step_of_dense_parc(shape):
    """Two plain convolutions over wrapped maps; embeddings and normalization are one constant."""
    operations = check(one_step(depthwise=False), shape)
    assert operations["conv"] == 2
    assert operations["wrap"] == sum(side > 1 for side in shape[:2])
    assert operations["affine"] == 1


def test_an_activation_goes_into_the_halves_where_it_is_fused():
    """With nothing to add it would stand alone, which int8 XNNPACK does not take."""
    operations = check(one_step(position_embedding=False))
    assert operations["affine"] == 0
    assert operations["activation"] == 2


def test_the_table_of_forms():
    assert forms.form_of(10, "litert") == "circulant"
    assert forms.form_of(9, "litert") == "depthwise"
    assert forms.form_of(40, "portable") == "halving"
    assert forms.form_of(9, "portable") == "depthwise"


@pytest.mark.parametrize("target", ["litert", "portable"])
def test_no_depthwise_convolution_beyond_9_taps(target):
    """XNNPACK's next larger kernel has 25, the time of 25 taps however few are used."""
    graph = read(keras_parc.ParCNetXS(input_shape=(320, 288, 3), include_preprocessing=False))
    rewrite(graph, target)
    taps = [np.prod(n["kernel"].shape[:2]) for n in graph.nodes() if n.op is DEPTHWISE]
    assert max(taps) == 9


@pytest.mark.parametrize(
    ("length", "depthwise"),
    [
        (8, 1),  # Tap 9 is zero.
        (9, 1),  # No room for a tap 10.
        (10, 2),  # 5 and 5.
        (11, 2),  # Odd: 9 and 3.
        (16, 2),  # 8 and 8.
        (32, 4),  # 8 and 8, then 9 and 8 of 16.
        (40, 7),  # 5 and 5, 9 and 2 of 10, 9 and 9 and 3 of 20.
        (33, 4),
    ],
)
def test_halves_and_parts(length, depthwise):
    operations = check(lambda x: ParCV(4)(x), (length, 2, 4), "portable")
    assert operations["depthwise"] == depthwise
    assert operations["product"] == 0


def test_the_two_constants_are_balanced():
    kernels = {"height": np.float64([[4.0, 0.0]]), "width": np.float64([[0.25, 1.0]])}
    product = kernels["height"] * kernels["width"]
    forms._balance(kernels)
    np.testing.assert_allclose(kernels["height"] * kernels["width"], product)
    assert kernels["height"][0, 0] == kernels["width"][0, 0] == 1
