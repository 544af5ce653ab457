"""ParC layers: the equations, sizes, errors, serialization, precision, on every backend."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops
from registered import own_models

import keras_parc
from backends import gradients
from keras_parc import ParCH, ParCV, PositionEmbedding
from keras_parc.layers.blocks import parc_halves
from keras_parc.layers.layer_scale import LayerScale
from keras_parc.layers.parc import align_corners_matrix
from keras_parc.layers.patches import Fold, Unfold
from keras_parc.layers.per_anchor import PerAnchor

pytestmark = pytest.mark.any_backend
numpy = ops.convert_to_numpy


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def resampled(base, length):
    """Linear, end points kept, by numpy's own interpolation."""
    stored = len(base)
    at = np.linspace(0, stored - 1, length) if length > 1 else np.zeros(1)
    columns = [np.interp(at, np.arange(stored), column) for column in base.T]
    return np.stack(columns, axis=1)


def parc(x, base_kernel, base_position, axis):
    """The paper's equations, one output at a time."""
    n = x.shape[axis]
    kernel = resampled(base_kernel, n)
    position = resampled(base_position, n)
    x = np.moveaxis(x, axis, 1) + position[None, :, None, :]
    out = np.zeros_like(x)
    for i in range(n):
        for j in range(n):
            out[:, i] += kernel[j] * x[:, (i + j) % n]
    return np.moveaxis(out, 1, axis)


@pytest.mark.parametrize(("kind", "axis"), [(ParCV, 1), (ParCH, 2)])
@pytest.mark.parametrize("size", [(8, 8), (12, 5), (5, 12), (1, 7), (7, 1)])
def test_the_equation_at_any_rectangle(kind, axis, size):
    layer = kind(kernel_length=8)
    x = images(2, *size, 3)
    y = numpy(layer(x))
    expected = parc(x, numpy(layer.base_kernel), numpy(layer.base_position), axis)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "axis"), [(ParCV, 1), (ParCH, 2)])
@pytest.mark.parametrize("size", [(8, 8), (12, 5), (1, 7)])
def test_the_dense_equation(kind, axis, size):
    """Every output channel sums the depthwise result of every input channel."""
    layer = kind(kernel_length=8, depthwise=False)
    x = images(2, *size, 3)
    y = numpy(layer(x))
    kernel, position = numpy(layer.base_kernel), numpy(layer.base_position)
    assert kernel.shape == (8, 3, 3)
    for channel in range(3):
        expected = parc(x, kernel[:, :, channel], position, axis).sum(-1)
        np.testing.assert_allclose(y[..., channel], expected, atol=1e-5)


def test_v_runs_along_the_height_and_h_along_the_width():
    """A point spreads over its own column (V) or row (H) and nowhere else."""
    x = np.zeros((1, 6, 6, 1), "float32")
    x[0, 2, 3, 0] = 1.0
    column = numpy(ParCV(6, position_embedding=False)(x))[0, :, :, 0] != 0
    row = numpy(ParCH(6, position_embedding=False)(x))[0, :, :, 0] != 0
    assert column[:, 3].all()
    assert column.sum() == 6
    assert row[2].all()
    assert row.sum() == 6


@pytest.mark.parametrize("kind", [ParCV, ParCH])
def test_position_embedding_breaks_the_shift_equivariance(kind):
    axis = 1 if kind is ParCV else 2
    x = images(1, 6, 6, 2)
    for aware in (False, True):
        layer = kind(6, position_embedding=aware)
        shifted = np.roll(numpy(layer(x)), 2, axis)
        same = np.allclose(numpy(layer(np.roll(x, 2, axis))), shifted, atol=1e-5)
        assert same is not aware


@pytest.mark.parametrize(("stored", "length"), [(8, 8), (8, 5), (8, 20), (1, 4), (8, 1), (2, 9)])
def test_align_corners_matrix(stored, length):
    base = images(stored, 3)
    np.testing.assert_allclose(
        align_corners_matrix(stored, length) @ base, resampled(base, length), atol=1e-6
    )


@pytest.mark.parametrize("kind", [ParCV, ParCH])
def test_unknown_sides_give_the_same_as_known_ones(kind):
    layer = kind(8, use_bias=True, bias_initializer="ones")
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, None, 4)
    for size in [(8, 8), (11, 6), (3, 14)]:
        x = images(2, *size, 4)
        known = keras.Input((*size, 4))
        fixed = keras.Model(known, layer(known))
        expected = numpy(fixed(x))
        for y in (numpy(model(x)), model.predict(x, verbose=0)):  # eagerly and as a graph
            np.testing.assert_allclose(y, expected, atol=1e-5)


def variants():
    yield ParCV(8)
    yield ParCH(8, use_bias=True)
    yield ParCV(8, position_embedding=False, use_bias=True, kernel_initializer="ones")
    yield ParCH(8, depthwise=False, use_bias=True)
    yield PositionEmbedding(8, along="height")
    yield PositionEmbedding(8, along="width", initializer="zeros")


@pytest.mark.parametrize("layer", variants(), ids=lambda layer: layer.name)
def test_save_and_load_without_custom_objects(layer, tmp_path):
    inputs = keras.Input((6, 10, 4))
    model = keras.Model(inputs, layer(inputs))
    for weight in model.weights:
        weight.assign(images(*weight.shape, seed=3))
    model.save(tmp_path / "layer.keras")
    loaded = keras.models.load_model(tmp_path / "layer.keras")
    x = images(2, 6, 10, 4)
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def unusual():
    """Each layer with every argument of its own, none at its default."""
    of_parc = {"kernel_length": 6, "position_embedding": False, "use_bias": True}
    of_parc |= {"depthwise": False, "kernel_initializer": keras.initializers.Constant(0.1)}
    of_parc |= {"position_initializer": keras.initializers.Constant(0.2)}
    of_parc |= {"bias_initializer": keras.initializers.Constant(0.3)}
    yield ParCV, of_parc
    yield ParCH, of_parc
    zeros = keras.initializers.Zeros()
    yield PositionEmbedding, {"length": 6, "along": "width", "initializer": zeros}
    yield LayerScale, {"initial": 0.5}
    yield Unfold, {"patch": 3}
    yield Fold, {"patch": 3}
    anchors = {"aspect_ratios": ((2.0,),), "smallest": 0.2, "largest": 0.9}
    yield PerAnchor, {"values": 5, "anchors": anchors}


@pytest.mark.parametrize(("kind", "arguments"), unusual(), ids=lambda each: str(each)[:40])
def test_the_configuration_has_every_argument(kind, arguments):
    """A file brings the weights, a layer made anew by `clone_model` only its configuration."""
    assert {*arguments} == {*inspect.signature(kind).parameters} - {"kwargs"}
    config = kind(**arguments).get_config()
    for name, value in arguments.items():
        known = isinstance(value, keras.initializers.Initializer)
        assert config[name] == (keras.initializers.serialize(value) if known else value), name
    assert kind.from_config(config).get_config() == config


@pytest.mark.parametrize("layer", variants(), ids=lambda layer: layer.name)
def test_output_shape(layer):
    assert layer.compute_output_shape((None, 9, None, 4)) == (None, 9, None, 4)
    assert layer(images(2, 9, 3, 4)).shape == (2, 9, 3, 4)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("layer_type", [ParCV, ParCH])
def test_mixed_precision(layer_type, precision):
    plain = layer_type(8)
    mixed = layer_type(8, dtype=precision)
    x = images(2, 10, 6, 4)
    plain(x), mixed(x)
    mixed.set_weights(plain.get_weights())
    y = mixed(x)
    assert keras.backend.standardize_dtype(y.dtype) == precision.removeprefix("mixed_")
    assert all(w.dtype == "float32" for w in mixed.weights)
    tolerance = 0.02 if precision == "mixed_float16" else 0.1
    np.testing.assert_allclose(
        numpy(ops.cast(y, "float32")), numpy(plain(x)), atol=tolerance, rtol=tolerance
    )


@pytest.mark.parametrize("kind", [ParCV, ParCH])
def test_gradients_against_finite_differences(kind):
    inputs = keras.Input((5, 7, 2))
    layer = kind(4, use_bias=True)
    model = keras.Model(inputs, layer(inputs))
    x, weighting = images(2, 5, 7, 2), images(2, 5, 7, 2, seed=1)
    _, grad_x, grads, _ = gradients(model, x, weighting)

    def value(x):
        return float((numpy(layer(x)).astype("float64") * weighting).sum())

    step = np.zeros_like(x)
    step[1, 3, 2, 0] = 0.5  # the operator is affine: any step is exact
    assert grad_x[1, 3, 2, 0] == pytest.approx(value(x + step) - value(x - step), abs=1e-3)
    for variable in layer.trainable_variables:
        old = numpy(variable)
        step = images(*variable.shape, seed=2) * 0.1
        variable.assign(old + step)
        plus = value(x)
        variable.assign(old - step)
        minus = value(x)
        variable.assign(old)
        expected = (plus - minus) / 2
        assert (grads[variable.path] * step).sum() == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("kind", [ParCV, ParCH])
@pytest.mark.parametrize("length", [0, -3, 2.5, "8", None, True])
def test_a_wrong_length_is_refused(kind, length):
    with pytest.raises(ValueError, match=r"kernel_length.*at least 1, got"):
        kind(length)


def test_other_wrong_input_is_refused():
    with pytest.raises(ValueError, match="'height' or 'width', got 'depth'"):
        PositionEmbedding(8, along="depth")
    with pytest.raises(ValueError, match=r"length.*at least 1, got 0"):
        PositionEmbedding(0, along="width")
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
        ParCV(8)(images(2, 6, 4))
    layer = ParCH(8)
    layer(images(2, 6, 6, 4))
    with pytest.raises(ValueError, match=r"axis -1 of input shape to have value 4.*\(2, 6, 6, 5\)"):
        layer(images(2, 6, 6, 5))
    with pytest.raises(ValueError, match="known number of channels"):
        ParCV(8)(keras.Input((6, 6, None)))


def test_initial_values_follow_the_authors():
    layer = ParCV(64)
    layer.build((None, 8, 8, 256))
    kernel, position = numpy(layer.base_kernel), numpy(layer.base_position)
    assert np.abs(kernel).max() <= 1 / 8
    assert np.abs(kernel).max() > 0.95 / 8
    assert position.std() == pytest.approx(1.0, rel=0.05)


def test_dense_initial_values_count_all_taps():
    layer = ParCV(16, depthwise=False)
    layer.build((None, 8, 8, 16))
    assert 0.95 / 16 < np.abs(numpy(layer.base_kernel)).max() <= 1 / 16


def test_position_embeddings_of_convnets_start_small():
    """A hundredth of what follows a normalization: pretrained features stay what they are."""
    image = keras.Input((14, 14, 256))
    model = keras.Model(image, parc_halves(image, (14, 14), "stage4_parc"))
    for side in "vh":
        position = numpy(model.get_layer(f"stage4_parc_{side}").base_position)
        assert 0.015 < position.std() < 0.02
        assert abs(position.mean()) < 0.002


def test_public_names():
    """Each is of this package, no listed model is left out, and there is no other."""
    for name in keras_parc.__all__:
        thing = getattr(keras_parc, name)
        module = thing.__name__ if inspect.ismodule(thing) else thing.__module__
        assert module.split(".")[0] == "keras_parc", name
    models = {entry.name for entry in own_models() if entry.listed}
    assert len(models) >= 9
    assert models <= set(keras_parc.__all__)
    with pytest.raises(AttributeError):
        _ = keras_parc.ParCNetM
