"""The target "npu": its forms, and int8 from end to end."""

import keras
import numpy as np
import pytest
from keras import layers
from rewritten import check, randomize

import keras_parc
from keras_parc.layers import ParCH, ParCV
from keras_parc.layers.patches import Unfold
from keras_parc.lite.file import flatbuffer
from keras_parc.lite.rewrite import forms
from keras_parc.lite.rewrite.deploy import rewrite
from keras_parc.lite.rewrite.emission import emit
from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.operations import INPUT, TRANSPOSE

KINDS = {value: name for name, value in vars(flatbuffer.BUILTIN).items()}


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def written(model, path, **arguments):
    """The objects of an int8 file for an NPU."""
    images = normal(12, *model.input_shape[1:])
    keras_parc.to_tflite(
        model, path, quantize="int8", calibration=images, target="npu", **arguments
    )
    return flatbuffer.read(path.read_bytes())


def kinds(file):
    return [KINDS[flatbuffer.kind(file, each)] for each in file.subgraphs[0].operators]


def ends(file):
    graph = file.subgraphs[0]
    return [graph.tensors[int(each)].type for each in (*graph.inputs, *graph.outputs)]


def classifier(body, shape=(8, 8, 8)):
    image = keras.Input(shape)
    x = body(layers.Conv2D(shape[-1], 3, padding="same")(image))
    return randomize(keras.Model(image, layers.Softmax()(layers.Flatten()(x))))


@pytest.mark.parametrize("length", [1, 2, 7, 8, 32])
@pytest.mark.parametrize("layer", [ParCV, ParCH])
def test_a_kernel_that_goes_round_twice(length, layer):
    shape = (length, 3, 4) if layer is ParCV else (3, length, 4)
    operations = check(lambda x: layer(5, use_bias=True)(x), shape, "npu")
    assert operations["depthwise"] == 1
    assert operations["join"] == operations["product"] == 0


@pytest.mark.parametrize(
    ("length", "convolutions"),
    [
        (33, 1),
        (63, 1),
        (64, 4),  # 32, 16, 8 and 8.
        (65, 2),  # Odd: 64 and 2.
    ],
)
def test_what_does_not_fit_in_a_kernel_of_the_hardware(length, convolutions):
    operations = check(lambda x: ParCV(5)(x), (length, 2, 4), "npu")
    assert operations["depthwise"] == convolutions
    assert operations["join"] >= 1


def test_no_kernel_is_larger_than_the_hardware_has():
    """And none is parted that it has: 7x7 stays."""
    assert 2 * 32 - 1 <= forms.NPU_TAPS < 2 * 33 - 1
    operations = check(lambda x: layers.DepthwiseConv2D(7, padding="same")(x), (9, 9, 4), "npu")
    assert operations["depthwise"] == 1


@pytest.mark.parametrize("shape", [(5, 6, 8), (7, 8)])
def test_layer_normalization_is_convolutions(shape):
    operations = check(lambda x: layers.LayerNormalization(epsilon=0.1)(x), shape, "npu")
    assert operations["normalize"] == 0
    assert operations["rsqrt"] == 1
    assert check(lambda x: layers.LayerNormalization()(x), shape)["normalize"] == 1


@pytest.mark.parametrize(
    ("order", "moves"), [((3, 1, 4, 2, 5), 2), ((2, 4, 1, 3, 5), 2), ((5, 4, 3, 2, 1), 4)]
)
def test_a_transpose_of_many_axes_moves_one_at_a_time(order, moves):
    x = Node(INPUT, [], (2, 3, 4, 5, 6), "x", {"dtype": "float32"})
    shape = tuple(x.shape[axis - 1] for axis in order)
    graph = Graph([x], [Node(TRANSPOSE, [x], shape, "y", {"axes": order})])
    rewrite(graph, "npu")
    found = [node for node in graph.nodes() if node.op is TRANSPOSE]
    assert len(found) == moves
    assert all(len(node.shape) == 3 for node in found)
    values = normal(1, *x.shape)
    np.testing.assert_array_equal(emit(graph)(values), values.transpose(0, *order))


def test_unfolding_has_no_more_than_five_sides():
    operations = check(lambda x: Unfold(2)(x), (8, 6, 4), "npu")
    assert operations["transpose"] == 2
    assert check(lambda x: Unfold(2)(x), (8, 6, 4))["transpose"] == 1


def body_of_everything(x):
    """What stays float32 for other targets, but masks."""
    y = layers.Activation("gelu")(layers.LayerNormalization()(x))
    z = layers.Activation("hard_silu")(layers.Conv2D(8, 1)(y))
    tokens = layers.Reshape((64, 8))(z)
    tokens = layers.MultiHeadAttention(2, 4)(tokens, tokens)
    return layers.Add()([x, layers.Reshape((8, 8, 8))(tokens)])


def test_all_is_int8_from_end_to_end(tmp_path, caplog):
    file = written(classifier(body_of_everything), tmp_path / "m.tflite")
    assert flatbuffer.float_operations(file) == []
    assert ends(file) == [flatbuffer.TYPES["int8"]] * 2
    found = kinds(file)
    assert found[-1] == "SOFTMAX"
    assert {"GELU", "RSQRT", "HARD_SWISH"} <= set(found)
    assert not {"MEAN", "DEQUANTIZE", "QUANTIZE"} & set(found)
    assert not [each for each in caplog.records if "CPU" in each.message]


@pytest.mark.parametrize(
    ("io", "floats"),
    [("int8", []), ("uint8", []), ("float32", ["QUANTIZE", "DEQUANTIZE", "SOFTMAX"])],
)
def test_the_ends_are_of_the_type_that_is_stated(io, floats, tmp_path):
    model = classifier(lambda x: layers.Conv2D(5, 8)(ParCV(8)(x)))
    path, x = tmp_path / "m.tflite", normal(12, 8, 8, 8)
    file = written(model, path, io=io)
    assert ends(file) == [flatbuffer.TYPES[io]] * 2
    assert flatbuffer.float_operations(file) == floats
    expected = np.asarray(model(x))
    assert expected.std() > 0.1
    np.testing.assert_allclose(keras_parc.TFLiteModel(path)(x), expected, atol=0.05)


def test_other_targets_keep_float_ends(tmp_path):
    model, images = classifier(layers.ReLU()), normal(8, 8, 8, 8)
    for target in ("litert", "portable"):
        path = tmp_path / f"{target}.tflite"
        keras_parc.to_tflite(model, path, quantize="int8", calibration=images, target=target)
        found = flatbuffer.read(path.read_bytes())
        assert ends(found) == [flatbuffer.TYPES["float32"]] * 2


def test_what_has_no_scale_is_named(tmp_path, caplog):
    def masked(x):
        return x + np.float32(-1e9) * np.triu(np.ones((8, 8)), 1)[..., None].astype("float32")

    image = keras.Input((8, 8, 8))
    x = masked(layers.Conv2D(8, 1)(image))
    model = randomize(keras.Model(image, layers.Conv2D(4, 1)(layers.Softmax(axis=2)(x))))
    file = written(model, tmp_path / "m.tflite")
    left = flatbuffer.float_operations(file)
    assert "ADD" in left
    assert any("leaves" in each.message and "ADD" in each.message for each in caplog.records)


@pytest.mark.parametrize("quantize", ["float16", "dynamic"])
def test_an_npu_runs_int8_alone(quantize, tmp_path):
    with pytest.raises(ValueError, match="An NPU runs int8 alone"):
        keras_parc.to_tflite(
            classifier(layers.ReLU()), tmp_path / "m.tflite", quantize=quantize, target="npu"
        )
    assert not list(tmp_path.iterdir())


def test_a_float_file_is_for_comparison(tmp_path, caplog):
    keras_parc.to_tflite(classifier(layers.ReLU()), tmp_path / "m.tflite", target="npu")
    assert any("No NPU runs a float32 file" in each.message for each in caplog.records)
