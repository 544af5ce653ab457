"""What `to_tflite` writes: operations, partitions, types, agreement, and what it refuses."""

import functools

import keras
import numpy as np
import pytest
from every_model import MODELS, pictures, taught
from keras import layers
from rewritten import randomize

import keras_parc
from keras_parc import Metadata, ParCNetH, ParCNetTiny, TFLiteModel, to_tflite
from keras_parc.lite.file import flatbuffer
from keras_parc.tasks.model_files import load_model


def photos(count, side, seed=0):
    """Smooth images 0..1: blocks of random colours."""
    colours = np.random.default_rng(seed).uniform(0, 1, (count, 4, 4, 3))
    return np.kron(colours, np.ones((side // 4, side // 4, 1))).astype("float32")


@functools.cache
def model(build, side, **arguments):
    keras.utils.set_random_seed(0)
    return randomize(build(input_shape=(side, side, 3), **arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


# Of most families a small one at its smallest size.
FAST = {
    *((name, 64, "int8") for name in ("ParCNetXS", "ParCMobileNetV2")),
}


@pytest.mark.parametrize(
    ("case", "size", "quantize"),
    [
        pytest.param(
            case,
            size,
            quantize,
            id=f"{case.name}-{size[0]}-{quantize}",
            marks=[] if (case.name, size[0], quantize) in FAST else pytest.mark.slow,
        )
        for case in MODELS
        for size in case.sizes
        for quantize in (None, "int8")
    ],
)
def test_every_model(folder, case, size, quantize):
    """Built-in operations alone, one XNNPACK partition, and Keras's results."""
    source, x = taught(case, size), pictures(*size)
    path = to_tflite(source, folder / "m.tflite", quantize=quantize, calibration=x)
    found = keras_parc.inspect(path)
    assert (found.partitions, found.outside) == (1, {})
    assert set(found.operations) <= case.operations
    assert (found.input_dtype, found.output_dtypes) == ("float32", ("float32",))
    assert found.input_shape == (1, *size, 3)
    assert found.size == path.stat().st_size
    if case.telling or quantize is None:
        agreement = keras_parc.agreement(source, path, x)
        assert agreement.same_class == 1
        assert agreement.signal_to_noise_db > (10 if quantize else 90)


def test_what_stays_float_in_int8(folder):
    """GELU and layer normalization, and nothing else: each between conversions of its own."""
    image = keras.Input((16, 16, 8))
    x = layers.Conv2D(8, 1)(image)
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", activation="relu")(x)])
    y = layers.Dense(16, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
    source = randomize(keras.Model(image, layers.Add()([x, layers.Dense(8)(y)])))
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 8)).astype("float32")
    path = to_tflite(source, folder / "m.tflite", quantize="int8", calibration=x)
    file = flatbuffer.read(path.read_bytes())
    graph, floats = file.subgraphs[0], []
    names = {value: name for name, value in vars(flatbuffer.BUILTIN).items()}
    for each in graph.operators:
        if graph.tensors[each.outputs[0]].type == graph.tensors[each.inputs[0]].type == 0:
            floats.append(names[flatbuffer.kind(file, each)])
    assert sorted(floats) == sorted(["MEAN", "SUB", "MUL", "MEAN", "ADD", "RSQRT", "MUL", "GELU"])
    found = keras_parc.inspect(path)
    assert (found.partitions, found.outside) == (1, {})
    assert keras_parc.agreement(source, path, x).signal_to_noise_db > 30


@pytest.mark.slow  # Only so deep a model makes them so small.
def test_vanishing_activations(folder):
    """Fresh weights: steps of 1e-9 meet steps of 1e-2, which crashes XNNPACK if left so."""
    source = ParCNetH(input_shape=(64, 64, 3), classes=3, include_preprocessing=False)
    path = to_tflite(source, folder / "m.tflite", quantize="int8", calibration=photos(2, 64))
    found = keras_parc.inspect(path)
    assert (found.partitions, found.outside) == (1, {})


@pytest.mark.slow
def test_without_the_rewrite_int8_falls_apart(folder):
    """For runtimes that are not asked; also shows that `inspect` can count more than one."""
    source, x = model(ParCNetTiny, 64, include_preprocessing=False), photos(2, 64)
    path = to_tflite(
        source,
        folder / "m.tflite",
        quantize="int8",
        calibration=x,
        rewrite=False,
        target="portable",
    )
    found = keras_parc.inspect(path)
    assert found.partitions > 10
    assert found.outside["HARD_SWISH"] == 6


@pytest.fixture(scope="module")
def small():
    """A model with all that int8 makes hard, whose outputs differ from image to image."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, strides=2, activation="silu")(layers.ZeroPadding2D(1)(image))
    y = layers.BatchNormalization()(keras_parc.PositionEmbedding(16, "height")(x))
    y = keras_parc.ParCH(16)(keras_parc.ParCV(16, position_embedding=False)(y))
    x = layers.Add()([x, y])
    y = layers.Conv2D(32, 1, activation="hard_silu")(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Conv2D(16, 1)(y)])
    x = layers.Conv2D(16, 3, strides=4, activation="relu")(x)
    x = layers.Flatten()(x)
    return randomize(keras.Model(image, layers.Dense(5, activation="softmax")(x), name="small"))


def version(text):
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8"])
def test_every_quantization_agrees_with_keras(small, folder, quantize):
    path = to_tflite(
        small, folder / "m.tflite", quantize=quantize, calibration=photos(64, 32, seed=1)
    )
    assert version(keras_parc.inspect(path).smallest_runtime) <= (2, 12)  # The ARMv7 wheel's.
    found = keras_parc.agreement(small, path, photos(64, 32, seed=2))
    least = {None: (100, 1.0), "float16": (50, 1.0), "dynamic": (30, 0.95), "int8": (25, 0.95)}
    assert found.signal_to_noise_db > least[quantize][0]
    assert found.same_class >= least[quantize][1]


def test_depthwise_weights_of_a_dynamic_file_are_read_as_float(folder):
    """XNNPACK runs no others, and the runtime's own kernel rounds the map as well."""
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(256, 1)(image)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    model = keras.Model(image, layers.Conv2D(8, 1)(x))
    path = to_tflite(model, folder / "m.tflite", quantize="dynamic")
    found = keras_parc.inspect(path)
    assert (found.partitions, found.outside) == (1, {})
    assert found.operations["DEQUANTIZE"] == 1  # they are int8 in the file
    assert keras_parc.agreement(model, path, photos(8, 32)).signal_to_noise_db > 38


def test_dynamic_range_without_a_scale_per_channel_of_dense_layers(small, folder):
    """Those make FULLY_CONNECTED version 12, which tflite-runtime 2.14 refuses."""
    path = to_tflite(small, folder / "m.tflite", quantize="dynamic")
    file = flatbuffer.read(path.read_bytes())
    versions = {
        max(each.builtinCode, each.deprecatedBuiltinCode): each.version
        for each in file.operatorCodes
    }
    assert versions[flatbuffer.BUILTIN.FULLY_CONNECTED] < 12
    assert versions[flatbuffer.BUILTIN.FULLY_CONNECTED] > 1  # Quantized it is.


def test_the_smallest_runtime_is_that_of_the_newest_operation(folder):
    """GELU came with 2.9; a file that does not say is not guessed at."""
    image = keras.Input((8, 8, 3))
    net = keras.Model(image, layers.Activation("gelu")(layers.Conv2D(4, 1)(image)))
    path = to_tflite(net, folder / "m.tflite")
    assert "GELU" in keras_parc.inspect(path).operations
    assert version(keras_parc.inspect(path).smallest_runtime) == (2, 9, 0)
    file = flatbuffer.read(path.read_bytes())
    file.metadata = None
    path.write_bytes(flatbuffer.write(file))
    assert keras_parc.inspect(path).smallest_runtime == ""


@pytest.mark.parametrize("io", ["uint8", "int8"])
@pytest.mark.parametrize("rewrite", [True, False])
def test_integer_input_and_output(small, folder, io, rewrite):
    x = photos(32, 32)
    arguments = {"quantize": "int8", "calibration": x, "io": io, "rewrite": rewrite}
    path = to_tflite(small, folder / "m.tflite", **arguments)
    found = keras_parc.inspect(path)
    assert (found.input_dtype, found.output_dtypes) == (io, (io,))
    if rewrite:
        assert (found.partitions, found.outside) == (1, {})
    assert keras_parc.agreement(small, path, x).largest_difference < 0.1


def test_uint8_by_way_of_float_is_the_same(small, folder):
    """For "portable" one operation makes int8 of uint8, which this XNNPACK leaves."""
    x, path = photos(8, 32), folder / "m.tflite"
    to_tflite(small, path, quantize="int8", calibration=x, io="uint8", target="portable")
    assert keras_parc.inspect(path).outside == {"QUANTIZE": 1}
    before, file = keras_parc.TFLiteModel(path)(x), flatbuffer.read(path.read_bytes())
    flatbuffer.convert_through_float(file)
    path.write_bytes(flatbuffer.write(file))
    assert keras_parc.inspect(path).outside == {}
    np.testing.assert_array_equal(keras_parc.TFLiteModel(path)(x), before)


def test_constants_of_products_are_symmetric_and_exact(small, folder):
    path = to_tflite(small, folder / "m.tflite", quantize="int8", calibration=photos(8, 32))
    file = flatbuffer.read(path.read_bytes())
    graph, seen = file.subgraphs[0], 0
    wanted = [
        layer.get_weights()[0]
        for layer in keras_parc.deploy(small).layers
        if isinstance(layer, layers.EinsumDense)
    ]
    for operator in graph.operators:
        if flatbuffer.kind(file, operator) != flatbuffer.BUILTIN.BATCH_MATMUL:
            continue
        tensor = graph.tensors[operator.inputs[1]]
        assert list(tensor.quantization.zeroPoint) == [0]
        scale = tensor.quantization.scale[0]
        values = np.uint8(file.buffers[tensor.buffer].data).view("int8") * scale
        errors = [np.abs(values - matrix.ravel()).max() for matrix in wanted]
        assert min(errors) <= 0.501 * scale
        seen += 1
    assert seen == len(wanted) == 2


def test_ranges_are_those_of_the_tensors(folder):
    """In place, TensorFlow's calibrator would see the product 9 * 6 where relu6 was."""
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(1, 1, kernel_initializer="ones")(image)
    net = keras.Model(image, layers.Conv2D(1, 1)(layers.Activation("hard_silu")(x)))
    x = np.linspace(0, 9, 32, dtype="float32").reshape(2, 4, 4, 1)
    path = to_tflite(net, folder / "m.tflite", quantize="int8", calibration=x)
    file = flatbuffer.read(path.read_bytes())
    scales = {
        flatbuffer.kind(file, each): file.subgraphs[0].tensors[each.outputs[0]].quantization.scale
        for each in file.subgraphs[0].operators
    }
    assert scales[flatbuffer.BUILTIN.ADD][0] == pytest.approx(6 / 255)
    assert scales[flatbuffer.BUILTIN.MUL][0] == pytest.approx(54 / 255)


def test_the_same_export_gives_the_same_bytes(small, folder):
    x = photos(8, 32)
    paths = [
        to_tflite(small, folder / f"{i}.tflite", quantize="int8", calibration=x) for i in (1, 2)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_classifier_without_bias_has_no_fully_connected(folder):
    """int8 FULLY_CONNECTED without a bias crashes TensorFlow Lite on ARMv7."""
    source, x = (
        ParCNetTiny(input_shape=(32, 32, 3), classes=4, include_preprocessing=False),
        photos(2, 32),
    )
    path = to_tflite(source, folder / "m.tflite", quantize="int8", calibration=x)
    assert "FULLY_CONNECTED" not in TFLiteModel(path).operators()


def test_unknown_size_rectangle_and_features(folder):
    source = keras_parc.features(
        ParCNetTiny(input_shape=(None, None, 3), include_preprocessing=False)
    )
    path = to_tflite(source, folder / "m.tflite", input_size=(64, 96))
    found = keras_parc.inspect(path)
    assert found.input_shape == (1, 64, 96, 3)
    assert (len(found.output_dtypes), found.partitions) == (4, 1)


ones = np.ones((2, 32, 32, 3), "float32")
ramp = np.linspace(0, 1, ones.size, dtype="float32").reshape(ones.shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "m.onnx"}, "must end in .tflite, got 'm.onnx'"),
        ({"quantize": "int4"}, "got 'int4'"),
        ({"io": "uint8"}, "with int8 one of"),
        ({"io": "int16", "quantize": "int8", "calibration": ramp}, "got 'int16'"),
        ({"input_size": (48, 32)}, "height 48, but 'small' is built for 32"),
        ({"target": "dsp"}, "got 'dsp'"),
        ({"metadata": "labels"}, "must be a `keras_parc.Metadata`"),
        ({"metadata": Metadata(labels=["a"])}, "1 labels, but 'small' has 5 classes"),
        ({"quantize": "int8"}, "needs `calibration` images"),
        ({"quantize": "int8", "calibration": []}, "holds no images"),
        ({"quantize": "int8", "calibration": ramp[:, :16]}, r"image 1 must be \(32, 32, 3\)"),
        ({"quantize": "int8", "calibration": ["a.png"]}, "image 1 is not an array.*folder"),
        ({"quantize": "int8", "calibration": 3}, "must be a folder.*got int"),
        ({"quantize": "int8", "calibration": {"label": ramp}}, r"has no .*, only \['label'\]"),
        ({"quantize": "int8", "calibration": ramp * np.nan}, "image 1 holds NaN"),
        ({"quantize": "int8", "calibration": ones}, "All values .* are 1"),
    ],
)
def test_wrong_arguments(small, tmp_path, arguments, message):
    path = tmp_path / arguments.pop("path", "m.tflite")
    with pytest.raises(ValueError, match=message.replace("m.onnx", ".*m.onnx")):
        to_tflite(small, path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_size_not_known(tmp_path):
    source = ParCNetTiny(input_shape=(None, None, 3), include_preprocessing=False)
    with pytest.raises(ValueError, match="is not fixed: pass `input_size"):
        to_tflite(source, tmp_path / "m.tflite")
    with pytest.raises(ValueError, match="expected at most 67,108,864 values"):
        to_tflite(source, tmp_path / "m.tflite", input_size=(20_000, 20_000))


def test_no_built_in_operation(tmp_path):
    image = keras.Input((8, 8, 3))
    net = keras.Model(image, keras.ops.fft2((image, image))[0], name="fourier")
    with pytest.raises(RuntimeError, match="'fourier' cannot be converted to built-in"):
        to_tflite(net, tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_or_has_two_outputs(tmp_path):
    with pytest.raises(ValueError, match=r"a Keras model, got 'm.keras'.*load_model"):
        to_tflite("m.keras", tmp_path / "m.tflite")
    image = keras.Input((8, 8, 3))
    two = keras.Model(image, [layers.Conv2D(1, 1)(image), layers.Conv2D(2, 1)(image)], name="two")
    with pytest.raises(ValueError, match="one output of rank 2; 'two' has"):
        to_tflite(two, tmp_path / "m.tflite", metadata=Metadata(labels=["a"]))
    assert list(tmp_path.iterdir()) == []
    path = to_tflite(two, tmp_path / "m.tflite")
    assert [each.shape for each in TFLiteModel(path)(photos(2, 8)).values()] == [
        (2, 8, 8, 1),
        (2, 8, 8, 2),
    ]
    with pytest.raises(ValueError, match=r"one image and one output is needed; .* has .*conv2d"):
        load_model(path)


def test_a_file_that_is_damaged(small, tmp_path):
    content = to_tflite(small, tmp_path / "m.tflite").read_bytes()
    for damaged, message in [
        (b"\x89PNG" * 9, "identifier 'TFL3' is missing"),
        (content[: len(content) // 2], "cannot be run: the runtime refuses it"),
        (content[:8] + b"\xff" * 99, "cannot be run: the runtime refuses it"),
    ]:
        (tmp_path / "m.tflite").write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            keras_parc.inspect(tmp_path / "m.tflite")


def test_places_that_cannot_be_written(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"folder cannot be made.*file"):
        to_tflite(small, tmp_path / "file" / "m.tflite")
    (tmp_path / "m.tflite").mkdir()
    with pytest.raises(IsADirectoryError, match="folder of that name"):
        to_tflite(small, tmp_path / "m.tflite")
    assert {each.name for each in tmp_path.iterdir()} == {"file", "m.tflite"}
