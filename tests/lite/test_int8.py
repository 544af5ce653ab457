"""int8: calibration images, ranges, and the explanation of a file."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import keras_parc
from keras_parc.lite.file import flatbuffer
from keras_parc.lite.quantize import ranges
from keras_parc.lite.quantize.calibration import calibration_images
from keras_parc.lite.quantize.explain import explain, match, noise_table, write_noise
from keras_parc.lite.quantize.int8 import quantize
from keras_parc.lite.quantize.ranges import METHODS, choose_ranges, least_error
from keras_parc.lite.quantize.traced_file import TracedFile
from keras_parc.lite.rewrite.signature import model_inputs

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, *SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return keras_parc.ParCNetTiny(
        input_shape=SHAPE, classes=10, include_preprocessing=True, classifier_activation=None
    )


@pytest.fixture(scope="module")
def outliers():
    """Convolutions and SiLU with activations of heavy tails, and a residual of small range."""
    rng = np.random.default_rng(2)
    inputs = x = keras.Input(SHAPE)
    for count in (16, 16, 16):
        x = keras.layers.Conv2D(count, 3, strides=2, padding="same")(x)
        x = keras.layers.Activation("silu")(x)
    y = keras.layers.Conv2D(16, 1)(x)
    x = keras.layers.Add()([x, keras.layers.Activation("hard_silu")(y)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    for variable in model.weights:
        fan_in = max(np.prod(variable.shape[:-1]), 1)
        variable.assign(rng.standard_t(3, variable.shape) * 1.5 / np.sqrt(fan_in))
    return model


@pytest.fixture(scope="module")
def heavy_images():
    return np.random.default_rng(3).standard_t(3, (40, *SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def files(model, pixels, tmp_path_factory):
    return both_files(model, tmp_path_factory.mktemp("int8"), pixels)


def both_files(model, folder, calibration):
    """The int8 file, and the float32 file that it was made from."""
    int8_path = keras_parc.to_tflite(
        model, folder / "int8.tflite", quantize="int8", calibration=calibration
    )
    float_path = folder / "float.tflite"
    float_path.write_bytes(int8_path.reference)
    return float_path, int8_path


@pytest.fixture(scope="module")
def outlier_files(outliers, heavy_images, tmp_path_factory):
    return both_files(outliers, tmp_path_factory.mktemp("outliers"), heavy_images)


@pytest.mark.slow
def test_same_bytes_twice(model, files, pixels, tmp_path):
    again = keras_parc.to_tflite(
        model, tmp_path / "int8.tflite", quantize="int8", calibration=pixels
    )
    assert again.read_bytes() == files[1].read_bytes()


def test_one_partition(files):
    facts = keras_parc.inspect(files[1])
    assert (facts.partitions, facts.outside) == (1, {})


@pytest.mark.parametrize("ours", [False, True])
def test_ranges_hold_what_the_tensors_hold(files, pixels, ours):
    """The converter's own calibration fails here: ADD and MUL run in place."""
    file = TracedFile(files[0].read_bytes() if ours else str(files[0]))
    chosen = choose_ranges(file, pixels[:2], "minmax")
    sums = [each for each in file.operations if each.name in ("ADD", "MUL")]
    assert len(sums) > 50
    low, high = np.inf, -np.inf
    relu6 = next(each for each in sums if "relu6" in file.name(each.outputs[0]).lower())
    for image in pixels[:2]:
        file.run(image)
        value = file.value(relu6.outputs[0])
        low, high = min(low, value.min()), max(high, value.max())
    assert chosen[relu6.outputs[0]] == (min(low, 0), high)
    assert chosen[file.input] == (0, 255)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_file_of_ours_has_the_tensors_that_the_runtime_alone_computes(files, pixels, kind):
    ours, alone = TracedFile(files[kind].read_bytes()), TracedFile(str(files[kind]))
    assert ours.operations == alone.operations
    assert (ours.inputs, ours.outputs, ours.made) == (alone.inputs, alone.outputs, alone.made)
    for file in (ours, alone):
        file.run(pixels[0])
    for tensor in ours.made[:40] if kind else ours.made:  # Rounding to int8 adds up.
        expected = alone.value(tensor)
        limit = 5.01 * alone.quantization(tensor)[0] if kind else 1e-5 * np.abs(expected).max()
        assert np.abs(ours.value(tensor) - expected).max() <= limit, ours.name(tensor)
        np.testing.assert_array_equal(ours.value(tensor), ours.view(tensor))


def test_values_that_a_loop_never_writes_are_not_read(tmp_path):
    """They are whatever lay in the memory, NaN now and then."""
    model = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(3)])
    file = TracedFile(keras_parc.to_tflite(model, tmp_path / "loop.tflite").read_bytes())
    loop = next(each for each in file.operations if each.name == "WHILE")
    assert set(loop.outputs) - set(file.made) - set(file.outputs)
    assert set(file.made) <= {*file.readers, *file.outputs}


def test_pixels_have_the_range_of_pixels(files, pixels):
    """Also where none of the images is bright: a phone's may be."""
    file, dark = TracedFile(str(files[0])), np.minimum(pixels[:2], 200)
    assert choose_ranges(file, dark, "minmax")[file.input] == (0, 255)
    assert choose_ranges(file, dark + 0.5, "minmax")[file.input] == (0, 200.5)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (-5.0, 0.0), (-0.3, 0.1)])
def test_rounding_is_at_most_half_a_step_off(low, high):
    values = np.linspace(low, high, 1001)
    step = (high - low) / 255
    assert np.abs(ranges.rounded(values, low, high) - values).max() <= step / 2 + 1e-9
    assert ranges.rounded(np.zeros(1), low, high) == 0


def test_least_error_leaves_outliers_out():
    counts = np.zeros(1000)
    counts[400:600] = 100_000
    counts[[0, -1]] = 1
    low, high = least_error(-100.0, 100.0, counts)
    assert -40 < low < -19
    assert 19 < high < 40


def test_least_error_looks_behind_the_activation():
    def hard_silu(x):
        return x * np.clip(x + 3, 0, 6) / 6

    low, high = least_error(-10.0, 10.0, np.full(2000, 10), hard_silu)
    assert -4 < low < -2
    assert high > 9


def test_ranges_improve_the_file(outliers, outlier_files, heavy_images, tmp_path):
    content = outlier_files[0].read_bytes()
    expected = outliers.predict(heavy_images, verbose=0)

    def decibels(method):
        path = tmp_path / f"{method}.tflite"
        path.write_bytes(quantize(content, heavy_images, method=method))
        noise = keras_parc.TFLiteModel(path)(heavy_images) - expected
        return 10 * np.log10(np.square(expected).mean() / np.square(noise).mean())

    minmax, least, seen, median = map(decibels, METHODS)
    assert least > minmax
    assert seen > minmax + 1
    assert median > minmax


def test_a_loud_image_does_not_take_the_range(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, keras.layers.Conv2D(8, 3)(keras.layers.Conv2D(8, 3)(inputs)))
    content = keras_parc.to_tflite(model, tmp_path / "float.tflite").read_bytes()
    file, images = TracedFile(content), np.random.default_rng(4).normal(size=(30, *SHAPE))

    def width(images, method):
        low, high = choose_ranges(file, images.astype("float32"), method)[file.made[-1]]
        return high - low

    loud = images.copy()
    loud[7] *= 50
    assert width(loud, "mse_seen") > 10 * width(images, "mse_seen")
    assert width(loud, "mse_median") < width(loud, "mse_seen") / 4
    assert width(images, "mse_median") == pytest.approx(width(images, "mse_seen"), rel=0.1)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_explain_finds_a_damaged_scale(outlier_files, heavy_images, tmp_path, number):
    float_path, int8_path = outlier_files
    content = flatbuffer.read(int8_path.read_bytes())
    graph = content.subgraphs[0]
    tensor = graph.tensors[_int8_convolutions(content)[number]]
    tensor.quantization.scale = np.float32(tensor.quantization.scale) * 40
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(flatbuffer.write(content))
    rows = explain(float_path, damaged, heavy_images[:4])
    assert rows[0].shape == tuple(tensor.shape)
    assert rows[0].tensor == tensor.name.decode()
    assert rows[0].own_db < explain(*outlier_files, heavy_images[:4])[0].own_db - 5


def _int8_convolutions(content) -> list[int]:
    codes = [max(each.builtinCode, each.deprecatedBuiltinCode) for each in content.operatorCodes]
    return [
        int(each.outputs[0])
        for each in content.subgraphs[0].operators
        if codes[each.opcodeIndex] == flatbuffer.BUILTIN.CONV_2D
    ]


def test_explain_separates_own_from_inherited(files, pixels):
    rows = sorted(explain(*files, pixels[:4]), key=lambda row: row.position)
    assert len(rows) > 140
    moves = [row for row in rows if row.operation in ("PAD", "CONCATENATION", "RESHAPE")]
    assert moves
    assert all(row.own_db > 90 > row.total_db for row in moves[1:])
    assert all(row.low <= row.high and 0 <= row.clipped <= 1 for row in rows)


def test_noise_adds_up(outlier_files, heavy_images):
    rows = sorted(explain(*outlier_files, heavy_images[:4]), key=lambda row: row.position)
    assert rows[0].own_db == pytest.approx(rows[0].total_db)  # Nothing to inherit.
    assert all(row.own_db > row.total_db + 3 for row in rows[-3:])


def test_explain_refuses_files_of_two_models(files, outliers, heavy_images, tmp_path):
    other = keras_parc.to_tflite(outliers, tmp_path / "other.tflite")
    with pytest.raises(ValueError, match="not of the same model"):
        match(TracedFile(str(files[0])), TracedFile(str(other)))
    with pytest.raises(ValueError, match="empty"):
        explain(*files, [])
    with pytest.raises(ValueError, match="must be"):
        explain(*files, np.zeros((1, 16, 16, 3)))


def test_noise_as_table_and_csv(files, pixels, tmp_path):
    rows = explain(*files, pixels[:2])
    assert noise_table(rows, 5).row_count == 5
    write_noise(rows, tmp_path / "noise.csv")
    lines = (tmp_path / "noise.csv").read_text().splitlines()
    assert len(lines) == len(rows) + 1
    assert lines[0].startswith("position,operation,tensor")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "needs `calibration`"),
        ([], "holds no images"),
        (np.ones((2, 16, 16, 3)), "must be"),
        (np.full((2, *SHAPE), np.nan), "NaN"),
        (np.full((2, *SHAPE), 7.0), "All values of all .* are 7.0"),
        ([{"label": 1}], r"has no '\w+', only \['label'\]"),
    ],
)
def test_calibration_mistakes(model, images, message):
    with pytest.raises(ValueError, match=message):
        calibration_images(images, model_inputs(model), model)


def test_calibration_from_a_data_set(model, pixels):
    import tensorflow as tf

    labels = np.arange(len(pixels))
    pairs = tf.data.Dataset.from_tensor_slices((pixels, labels))
    named = tf.data.Dataset.from_tensor_slices({"image": pixels, "label": labels}).repeat()
    for source in (pixels, pairs, pairs.batch(5), named):
        found = calibration_images(source, model_inputs(model), model, limit=7)
        np.testing.assert_array_equal(found, pixels[:7])


def test_calibration_from_a_folder(model, pixels, tmp_path):
    for number, image in enumerate(pixels[:6]):
        folder = tmp_path / f"class_{number // 2}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(image.astype("uint8")).save(folder / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    found = calibration_images(tmp_path, model_inputs(model), model)
    np.testing.assert_array_equal(found, pixels[:6])
    found = calibration_images(tmp_path, model_inputs(model), model, limit=3)
    np.testing.assert_array_equal(found, pixels[[0, 2, 5]])  # One of each class.
    plain = keras_parc.ParCNetTiny(input_shape=SHAPE, classes=2, include_preprocessing=False)
    found = calibration_images(tmp_path, model_inputs(plain), plain)
    np.testing.assert_allclose(found, pixels[:6, ..., ::-1] / 255)
    with pytest.raises(FileNotFoundError):
        calibration_images(tmp_path / "missing", model_inputs(model), model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image files"):
        calibration_images(tmp_path / "empty", model_inputs(model), model)
    vector = keras.Input((3,))
    no_image = keras.Model(vector, keras.layers.Dense(2)(vector))
    with pytest.raises(ValueError, match=r"takes \(3,\): pass arrays to"):
        calibration_images(tmp_path, model_inputs(no_image), no_image)


def test_what_a_concatenation_widens_reaches_the_next_convolution():
    """XNNPACK crashes on a convolution whose input times weight step is over 256 output steps."""
    a, b, joined, result, kernel = range(5)
    file = SimpleNamespace(
        operations=[
            SimpleNamespace(name="DEPTHWISE_CONV_2D", inputs=[a, kernel], outputs=[result]),
            SimpleNamespace(name="CONCATENATION", inputs=[a, b], outputs=[joined]),
        ],
        constant={kernel: np.full((1, 3, 3, 1), 127.0)}.get,
    )
    found = ranges._consistent(
        file, {a: (-1.0, 3.0), b: (-3.0, 1.0), joined: (-3.0, 3.0), result: (0.0, 1e-3)}
    )
    assert found[a] == found[b] == found[joined] == (-3.0, 3.0)
    assert found[result] == pytest.approx((0.0, 6.0 / ranges.MAX_STEPS))
