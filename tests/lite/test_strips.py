"""Large maps in strips: the same results to the bit, fewer bytes at once."""

import functools
import itertools
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_parc
from keras_parc.lite.file import flatbuffer, order, strip_plan, strips
from keras_parc.lite.file.outputs import OpenFile
from keras_parc.lite.file.rows import File
from keras_parc.lite.file.runtime import TFLiteModel
from keras_parc.lite.file.strip_plan import Device, demands, plan, strips_of

SIDE = 32
# A cache that most maps do not fit, beside which nothing costs time.
DEVICE = Device(16 << 10, far=100.0, product=(0.01, 0.01), start=1.0, slower=2.0)
IMAGES = np.random.default_rng(0).normal(size=(12, SIDE, SIDE, 3)).astype("float32")


def blocks(x):
    """Every operation that can be cut into rows, beside some that cannot."""
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu6")(x)
    y = layers.Conv2D(24, 1, activation="silu")(x)
    y = layers.ZeroPadding2D(((0, 1), (0, 1)))(y)
    y = layers.DepthwiseConv2D(3, dilation_rate=2, padding="same", activation="hard_silu")(y)
    y = layers.Cropping2D(((0, 1), (0, 1)))(y)
    y = layers.Multiply()([y, layers.GlobalAveragePooling2D(keepdims=True)(y)])
    y = layers.Conv2D(16, 1)(y)
    x = layers.Add()([x, y])
    z = layers.MaxPooling2D(2)(layers.DepthwiseConv2D(5, padding="same")(x))
    w = layers.Conv2D(16, (3, 1), strides=2, padding="same")(x)
    x = layers.Concatenate()([z, layers.Activation("tanh")(w)])
    x = layers.AveragePooling2D(3, strides=1, padding="same")(x)
    return layers.Dense(5)(layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(x)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The bytes of the file in a number format."""
    folder = tmp_path_factory.mktemp("strips")
    image = keras.Input((SIDE, SIDE, 3))
    keras.utils.set_random_seed(0)
    model = keras.Model(image, blocks(image))

    @functools.cache
    def export(quantize):
        path = folder / f"{quantize}.tflite"
        calibration = IMAGES if quantize == "int8" else None
        keras_parc.to_tflite(model, path, quantize=quantize, calibration=calibration, cache_kib=0)
        return path.read_bytes()

    return export


@pytest.mark.parametrize(
    "quantize",
    [
        None,
        "int8",
        pytest.param("float16", marks=pytest.mark.slow),
        pytest.param("dynamic", marks=pytest.mark.slow),
    ],
)
def test_every_region_in_strips_computes_the_same(exported, quantize):
    """Whatever the plan: each region that can be cut, in every number of strips.

    With "dynamic" convolutions stay whole: their scale is that of all of the map.
    """
    whole = exported(quantize)
    expected, kinds, count = OpenFile(whole)([IMAGES[0]])[0], set(), 0
    number = len(flatbuffer.read(whole).subgraphs[0].operators)
    for stop in range(1, number + 1):
        for choice in strip_plan._choices(File(flatbuffer.read(whole)), stop, Device(1)):
            model = flatbuffer.read(whole)
            if choice.region is None or choice.region.count not in (2, 3, 8):
                continue
            if not strips.cut(model, [choice.region]):
                continue
            found = OpenFile(flatbuffer.write(model))([IMAGES[0]])[0]
            gap = np.abs(found - expected).max()
            assert gap <= (0 if quantize == "int8" else 1e-6 * np.abs(expected).max())
            operators = File(flatbuffer.read(whole)).operators
            kinds |= {flatbuffer.kind(model, operators[i]) for i in _numbers(choice.region)}
            count += 1
    names = {name for name, kind in vars(flatbuffer.BUILTIN).items() if kind in kinds}
    assert count > 20
    assert names >= {"ADD", "CONCATENATION", "LOGISTIC", "MAX_POOL_2D", "MUL", "PAD", "TANH"}
    if quantize != "dynamic":
        assert names >= {"CONV_2D", "DEPTHWISE_CONV_2D"}


def _numbers(region):
    return range(region.first, region.stop)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_strips_take_less_memory_and_one_partition(quantize, tmp_path):
    whole = _chain(quantize)
    (tmp_path / "whole.tflite").write_bytes(whole)
    (tmp_path / "cut.tflite").write_bytes(strips.in_strips(whole, DEVICE, [IMAGES[0]]))
    peaks = [order.peak(flatbuffer.read(path.read_bytes())) for path in sorted(tmp_path.iterdir())]
    assert peaks[0] < 0.5 * peaks[1]
    before, after = (keras_parc.inspect(tmp_path / f"{name}.tflite") for name in ("whole", "cut"))
    assert len(after.operations) > len(before.operations)
    assert (after.partitions, after.outside) == (before.partitions, before.outside) == (1, {})


def test_maps_that_fit_stay_whole(exported):
    assert strips.in_strips(exported(None), Device(2048 << 10), [IMAGES[0]]) == exported(None)
    assert strips.in_strips(exported(None), Device(0), [IMAGES[0]]) == exported(None)


def test_a_cut_that_computes_something_else_is_not_made(monkeypatch, caplog):
    real = File.needs

    def wrong(self, operator, rows):
        found = real(self, operator, rows)
        if found and self.kind(operator) == flatbuffer.BUILTIN.DEPTHWISE_CONV_2D:
            moved = {t: max(need.rows[0] - 1, 0) for t, need in found.items()}
            return {
                t: type(need)((moved[t], moved[t] + need.rows[1] - need.rows[0]), need.padding)
                for t, need in found.items()
            }
        return found

    monkeypatch.setattr(File, "needs", wrong)
    whole = _chain()
    assert strips.in_strips(whole, DEVICE, [IMAGES[0]]) == whole
    assert "Strips of maps would change" in caplog.text


def test_all_rows_are_computed_once():
    assert [b - a for a, b in strips_of(64, 24)].count(3) == 16
    for height, count in ((7, 3), (64, 24), (5, 5)):
        parts = strips_of(height, count)
        assert (parts[0][0], parts[-1][1]) == (0, height)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))


def test_regions_of_a_large_model_keep_their_maps_in_the_cache():
    """And only the last result of a region leaves it."""
    model = flatbuffer.read(_chain())
    file = File(model)
    regions = plan(file, DEVICE)
    assert regions
    for region in regions:
        for operator in file.operators[region.first : region.stop]:
            (output,) = operator.outputs
            assert int(output) == region.result or not file.leaves(int(output), region.stop)
        rows = strips_of(file.shape(region.result)[1], region.count)
        assert all(demands(file, region, each) for each in rows)


def _chain(quantize=None):
    """Two inverted residuals."""
    image = x = keras.Input((SIDE, SIDE, 3))
    for filters in (16, 24):
        x = layers.Conv2D(4 * filters, 1, activation="relu6")(x)
        x = layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu6")(x)
        x = layers.Conv2D(filters, 1)(x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "chain.tflite")
        model = keras.Model(image, x)
        calibration = IMAGES if quantize else None
        keras_parc.to_tflite(model, path, quantize=quantize, calibration=calibration, cache_kib=0)
        return path.read_bytes()


def test_depth_first_runs_a_branch_to_its_end(tmp_path):
    """Four branches that each grow and shrink: their wide maps need not be held together."""
    tf = pytest.importorskip("tensorflow")

    @tf.function(input_signature=[tf.TensorSpec((1, 16, 16, 2))])
    def side_by_side(x):
        wide = [tf.tile(x + float(i), (1, 1, 1, 32)) for i in range(4)]
        narrow = [tf.reduce_sum(tf.exp(each), -1, keepdims=True) for each in wide]
        return tf.concat(narrow, -1)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [side_by_side.get_concrete_function()]
    )
    content = converter.convert()
    model = flatbuffer.read(content)
    before = order.peak(model)
    kinds = ["ADD", "TILE", "EXP", "SUM", "CONCATENATION"]
    model.subgraphs[0].operators.sort(key=lambda op: kinds.index(name(model, op)))
    wide = order.peak(model)
    assert wide > 2 * before
    assert order.depth_first(model)
    assert order.peak(model) <= before
    assert not order.depth_first(model)
    x = IMAGES[:1, :16, :16, :2]
    paths = [tmp_path / "a.tflite", tmp_path / "b.tflite"]
    for path, each in zip(paths, (content, flatbuffer.write(model)), strict=True):
        path.write_bytes(each)
    found = [TFLiteModel(path)(x) for path in paths]
    np.testing.assert_array_equal(*found)


def name(model, operator):
    kind = flatbuffer.kind(model, operator)
    return next(k for k, v in vars(flatbuffer.BUILTIN).items() if v == kind)


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "512"])
def test_a_cache_of_no_size_is_refused(wrong, tmp_path):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Conv2D(2, 3)(image))
    with pytest.raises(ValueError, match="`cache_kib` must be a whole number from 0"):
        keras_parc.to_tflite(model, tmp_path / "model.tflite", cache_kib=wrong)
    assert not list(tmp_path.iterdir())
