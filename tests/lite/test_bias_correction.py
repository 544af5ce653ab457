"""int8 biases corrected layer by layer, and what that is made of."""

import keras
import numpy as np
import pytest

import keras_parc
from keras_parc.lite.file import flatbuffer
from keras_parc.lite.quantize import bias_correction, int8
from keras_parc.lite.quantize.bias_correction import correct_biases, typical_difference
from keras_parc.lite.quantize.int8 import quantize
from keras_parc.lite.quantize.linear import linear_operations
from keras_parc.lite.quantize.ranges import choose_ranges
from keras_parc.lite.quantize.single_operation import SingleOperation
from keras_parc.lite.quantize.traced_file import TracedFile

SHAPE = (24, 16, 3)


def every_kind():
    """Strides, both paddings, dilation, groups, a multiplier, and a dense layer over places."""
    layers = keras.layers
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6")(inputs)
    y = layers.DepthwiseConv2D(3, padding="same", dilation_rate=2)(x)
    y = layers.DepthwiseConv2D((2, 3), depth_multiplier=2, activation="relu")(y)
    y = layers.Conv2D(12, (3, 1), groups=4, padding="same")(y)
    return keras.Model(inputs, layers.Dense(5)(layers.Conv2D(6, 2)(y)))


def lite_like():
    """Of EfficientNet-Lite's kind: inverted residuals, ReLU6, weights of heavy tails."""
    layers, rng = keras.layers, np.random.default_rng(1)

    def unit(x, layer, relu=True):
        x = layer(x)
        return layers.ReLU(6.0)(x) if relu else x

    inputs = keras.Input(SHAPE)
    x = unit(inputs, layers.Conv2D(8, 3, strides=2, padding="same"))
    for _ in range(3):
        y = unit(x, layers.Conv2D(32, 1))
        y = unit(y, layers.DepthwiseConv2D(3, padding="same"))
        x = layers.Add()([unit(y, layers.Conv2D(8, 1), relu=False), x])
    x = layers.GlobalAveragePooling2D()(unit(x, layers.Conv2D(64, 1)))
    model = keras.Model(inputs, layers.Dense(10)(x))
    for variable in model.weights:
        fan_in = max(np.prod(variable.shape[:-1]), 1)
        if "depthwise" in variable.path and len(variable.shape) == 4:
            fan_in = 9
        variable.assign(rng.standard_t(3, variable.shape) * 1.5 / np.sqrt(fan_in))
    return model


def exported(model, folder) -> bytes:
    return keras_parc.to_tflite(model, folder / "float.tflite", rewrite=False).read_bytes()


@pytest.fixture(scope="module")
def images():
    coarse = np.random.default_rng(3).normal(size=(240, 6, 4, 3))
    return coarse.repeat(4, 1).repeat(4, 2).astype("float32")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return exported(lite_like(), tmp_path_factory.mktemp("lite_like"))


@pytest.fixture(scope="module")
def plain(content, images):
    return quantize(content, images[:200], correct=False)


def decibels(content, coarse, images):
    signal = noise = 0.0
    reference, coarse = TracedFile(content), TracedFile(coarse)
    for image in images:
        reference.run(image)
        coarse.run(image)
        exact, found = reference.value(reference.outputs[0]), coarse.value(coarse.outputs[0])
        signal, noise = signal + np.sum(exact**2), noise + np.sum((exact - found) ** 2)
    return 10 * np.log10(signal / noise)


def test_layers_as_matrices(images, tmp_path):
    keras.utils.set_random_seed(0)
    content = exported(every_kind(), tmp_path)
    file = TracedFile(content)
    file.run(images[0])
    layers = linear_operations(file, content)
    assert {each.groups for each in layers.values()} > {1, 8}
    for result, layer in layers.items():
        weights = layer.matrices(file.constant(layer.weights))
        found = np.einsum("pgk,gko->pgo", layer.rows(file.value(layer.source), 10**6, 0), weights)
        if layer.bias >= 0:
            found += file.constant(layer.bias).reshape(layer.groups, -1)
        found = found if layer.fused is None else layer.fused(found)
        np.testing.assert_allclose(found.ravel(), file.value(result).ravel(), atol=1e-4)
        some = layer.rows(file.value(layer.source), 5, 0)
        np.testing.assert_array_equal(some, layer.rows(file.value(layer.source), 5, 0))
        assert len(some) == 5


def test_operations_one_by_one_compute_the_file(plain, images):
    file, model = TracedFile(plain), flatbuffer.read(plain)
    file.run(images[0])
    values = file.as_inputs(images[0])
    for place in range(len(model.subgraphs[0].operators)):
        single = SingleOperation(model, place)
        results = single.run([values[each] for each in single.inputs])
        values |= dict(zip(single.outputs, results, strict=True))
    np.testing.assert_array_equal(values[file.outputs[0]], file.constant(file.outputs[0]))


def test_int8_of_a_network_like_efficientnet_lite_is_closer(content, plain, images):
    """On images that were not calibrated on."""
    corrected, fresh = quantize(content, images[:200]), images[200:]
    assert decibels(content, corrected, fresh) > decibels(content, plain, fresh) + 2
    first, second = (flatbuffer.read(each).subgraphs[0] for each in (plain, corrected))
    assert len(first.operators) == len(second.operators)
    assert len(corrected) - len(plain) < 1000  # No bias is in the file twice.
    assert quantize(content, images[:200]) == corrected


def test_ranges_that_lose_more_than_the_extremes_are_not_taken(content, images, monkeypatch):
    few = images[:8]
    extremes = quantize(content, few, method="minmax", correct=False)
    assert quantize(content, few, correct=False) != extremes

    def narrow(file, images, method):
        chosen = choose_ranges(file, images, method)
        share = 1 if method == "minmax" else 0.3
        return {tensor: (share * low, share * high) for tensor, (low, high) in chosen.items()}

    monkeypatch.setattr(int8, "choose_ranges", narrow)
    assert quantize(content, few, correct=False) == extremes


def test_a_spoilt_bias_is_found(content, plain, images):
    """Also one whose channel is saturated by it: what goes into the activation is compared."""
    file, model = TracedFile(plain), flatbuffer.read(plain)
    layers = list(linear_operations(file, plain).values())
    for layer in (layers[0], layers[2]):
        bias = file.constant(layer.bias)
        flatbuffer.set_constant(model, layer.bias, bias + np.int32(30 * np.abs(bias).max()))
    spoilt = flatbuffer.write(model)
    fresh = images[200:]
    assert decibels(content, spoilt, fresh) < decibels(content, plain, fresh) - 5
    corrected = correct_biases(content, spoilt, images[:200])
    assert decibels(content, corrected, fresh) > decibels(content, plain, fresh) + 2


def test_a_constant_that_others_share_is_changed_alone(plain):
    model = flatbuffer.read(plain)
    tensors, count = model.subgraphs[0].tensors, len(model.buffers)
    layers = linear_operations(TracedFile(plain), plain).values()
    first, second, *_ = (layer.bias for layer in layers)
    tensors[second].buffer, tensors[second].shape = tensors[first].buffer, tensors[first].shape
    before = np.array(model.buffers[tensors[second].buffer].data)
    for values in (7, 8):
        flatbuffer.set_constant(model, first, np.full(tensors[first].shape, values, "int32"))
    assert (model.buffers[tensors[second].buffer].data == before).all()
    assert (model.buffers[tensors[first].buffer].data.view("int32") == 8).all()
    assert len(model.buffers) == count + 1


def test_biases_that_do_not_help_are_left_alone(content, plain, images, monkeypatch):
    def spoil(content, quantized, *_):
        model, file = flatbuffer.read(quantized), TracedFile(quantized)
        for layer in linear_operations(file, quantized).values():
            flatbuffer.set_constant(model, layer.bias, file.constant(layer.bias) * 2)
        return flatbuffer.write(model)

    monkeypatch.setattr(bias_correction, "layer_by_layer", spoil)
    assert correct_biases(content, plain, images) == plain


def test_a_file_without_operations_is_left_alone(tmp_path, caplog):
    image = keras.Input((8, 8, 3))
    content = exported(keras.Model(image, image), tmp_path)
    quantize(content, np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32"))
    assert "biases" not in caplog.text


def test_what_decides_is_not_what_corrects(images):
    used, held_out = bias_correction._divided(list(range(500)), 128)
    assert 100 < len(used) <= 128
    assert 25 <= len(held_out) <= 32
    assert not set(used) & set(held_out)
    assert bias_correction._divided([0, 1, 2], 128) == ([0, 1, 2], [0, 1, 2])


def test_errors_that_do_not_count():
    """Those of saturated values, and those of a few clipped ones."""
    rng = np.random.default_rng(0)
    exact = rng.uniform(1, 5, (1000, 2))
    exact[:300] = -20
    found = exact - rng.uniform(0, 0.2, exact.shape)
    found[:300] -= 0.3  # Behind a ReLU6 the same.
    found[-20:] -= 50
    shift = typical_difference(exact, found, lambda x: np.clip(x, 0, 6))
    np.testing.assert_allclose(shift, 0.1, atol=0.025)
    assert typical_difference(exact, exact - 0.3, lambda x: x) == pytest.approx(0.3)
