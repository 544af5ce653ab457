"""The model zoo: counts, sizes, arguments, features, files, wrong input."""

import functools
import math

import keras
import numpy as np
import pytest
from children import Child
from rewritten import enliven

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
)
from reference import error

small = functools.partial(
    ParCNetTiny, input_shape=(64, 64, 3), classes=10, include_preprocessing=False
)


def run(model, x):
    return np.asarray(model(x, training=False))


def parameters(model):
    return sum(math.prod(v.shape) for v in model.trainable_variables)


CONVNETS = [ParCResNet50, ParCMobileNetV2, ParCConvNeXtXT]

# Parameters and multiply-adds at 256x256, of the ConvNets at 224x224, counted on the authors' code.
COUNTS = [
    (ParCNetXS, {}, 2_185_384, 944_016_896),
    (ParCNetS, {}, 5_037_088, 1_657_347_584),
    (ParCNetH, {}, 20_403_940, 8_544_418_656),
    (MobileViTS, {}, 5_578_632, 2_000_831_488),
    (ParCNetS, {"position_embedding": False}, 5_011_488, 1_657_347_584),
    (ParCNetS, {"channel_attention": False}, 4_951_672, 1_657_267_200),
    (ParCNetS, {"kernel": "big_1/4"}, 4_961_696, 1_632_878_080),
    (ParCNetS, {"kernel": "big_1/2"}, 4_979_872, 1_641_512_448),
    (ParCResNet50, {}, 23_737_640, 3_941_466_112),
    (ParCMobileNetV2, {}, 3_532_136, 301_997_312),
    (ParCConvNeXtXT, {}, 7_412_824, 1_139_222_400),
]


@pytest.mark.parametrize(("build", "ablation", "count", "macs"), COUNTS)
def test_counts(build, ablation, count, macs):
    model = build(**ablation)
    assert parameters(model) == count
    assert keras_parc.count_macs(model) == pytest.approx(macs, rel=1e-9)


def test_the_reconstructed_block_has_the_size_of_the_paper():
    model = ParCNetS(meta_former=False, input_shape=(64, 64, 3), include_preprocessing=False)
    assert round(parameters(model) / 1e6, 1) == 5.3
    assert model(np.zeros((1, 64, 64, 3)), training=False).shape == (1, 1000)


def test_macs_of_an_unknown_size():
    model = ParCNetXS(input_shape=(None, None, 3), include_preprocessing=False)
    assert keras_parc.count_macs(model, (256, 256)) == 944_016_896
    with pytest.raises(ValueError, match="pass `input_size"):
        keras_parc.count_macs(model)


def test_macs_of_a_rectangle():
    """A circular kernel is as long as the side it runs along."""
    image = keras.Input((8, 12, 3))
    for layer, taps in ((keras_parc.ParCV(5), 8), (keras_parc.ParCH(5), 12)):
        model = keras.Model(image, layer(image))
        assert keras_parc.count_macs(model) == 8 * 12 * 3 * taps
    dense = keras.Model(image, keras_parc.ParCH(5, depthwise=False)(image))
    assert keras_parc.count_macs(dense) == 8 * 12 * 3 * 12 * 3


# The same convolutions and blocks, fewer of them: a quarter of the time.
@pytest.mark.parametrize(
    "build",
    [
        small,
        *(functools.partial(each, input_shape=(64, 64, 3)) for each in (MobileViTS, *CONVNETS[1:])),
    ],
)
def test_layers_of_one_shape_start_with_different_weights(build):
    """An initializer shared by layers would give all of them the same values."""
    seen = {}
    for variable in build().trainable_variables:
        value = np.array(variable)
        if np.ptp(value) == 0:  # zeros, ones and the like
            continue
        digest = value.tobytes()
        assert digest not in seen, f"{variable.path} equals {seen[digest]}"
        seen[digest] = variable.path


def test_a_seed_gives_the_same_weights_in_every_process():
    code = (
        "import keras, keras_parc, numpy as np; keras.utils.set_random_seed(3); "
        "model = keras_parc.ParCNetXS(input_shape=(32, 32, 3), classes=3); "
        "sums = repr([float(np.abs(w).sum()) for w in model.get_weights()])"
    )
    other, here = Child(f"{code}; print(sums)"), {}
    exec(code, here)  # This process has built other models before.
    printed, errors = other.communicate()
    assert other.returncode == 0, errors
    assert printed.strip() == here["sums"]
    assert len(here["sums"]) > 1000


SIZES = [(32, 32), (33, 47), (64, 96), (100, 36)]
SIZES_OF_CONVNETS = [(32, 32), (100, 45)]
FAST = ((33, 47), (100, 45))  # neither side is that of a base kernel
SMALLER = (ParCNetXS, MobileViTS, ParCMobileNetV2, ParCConvNeXtXT)


@pytest.mark.parametrize(
    ("build", "size"),
    [
        pytest.param(
            build, size, marks=[] if size in FAST and build in SMALLER else pytest.mark.slow
        )
        for builds, sizes in (((ParCNetXS, MobileViTS), SIZES), (CONVNETS, SIZES_OF_CONVNETS))
        for build in builds
        for size in sizes
    ],
)
def test_any_size_from_32_with_one_image(build, size):
    x = np.random.default_rng(0).normal(size=(1, *size, 3)).astype("float32")
    fixed = build(input_shape=(*size, 3), classes=7)
    free = build(input_shape=(None, None, 3), classes=7)
    free.set_weights(fixed.get_weights())
    y = run(fixed, x)
    assert y.shape == (1, 7)
    assert y.sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(run(free, x), y, atol=1e-5)


@pytest.mark.parametrize("build", [ParCNetXS, MobileViTS])
def test_weights_fit_every_size(build):
    """The shapes of the weights do not depend on the size, and so neither does what fits."""
    shapes = [
        [(weight.path, weight.shape) for weight in build(input_shape=size, classes=7).weights]
        for size in ((64, 64, 3), (96, 32, 3))
    ]
    assert shapes[0] == shapes[1]
    assert sum(math.prod(shape) for _, shape in shapes[0]) > 1e6


@pytest.mark.parametrize(
    ("build", "channels"),
    [
        pytest.param(ParCResNet50, 2048, marks=pytest.mark.slow),
        (ParCMobileNetV2, 1280),
        (ParCConvNeXtXT, 384),
    ],
)
def test_arguments_of_the_convnets(build, channels):
    bare = build(include_top=False, input_shape=(64, 100, 3), pooling=None)
    assert bare.output_shape == (None, 2, 3 if build is ParCConvNeXtXT else 4, channels)
    assert build(include_top=False, pooling="avg").output_shape == (None, channels)
    kinds = {type(layer).__name__ for layer in bare.layers}
    assert {"ParCV", "ParCH"} <= kinds
    plain = build(include_top=False, parc=False)
    assert not {"ParCV", "ParCH"} & {type(layer).__name__ for layer in plain.layers}
    blind = build(include_top=False, position_embedding=False)
    assert not any("base_position" in weight.path for weight in blind.weights)
    pyramid = keras_parc.features(build(input_shape=(64, 96, 3), output_stride=16))
    sides = {key: tensor.shape[1:3] for key, tensor in pyramid.output.items()}
    assert sides == {"P2": (16, 24), "P3": (8, 12), "P4": (4, 6), "P5": (4, 6)}


def test_the_plain_convnets_have_the_size_of_their_originals():
    """As torchvision counts them: what ParC is put into is the right thing."""
    assert parameters(ParCResNet50(parc=False, include_preprocessing=False)) == 25_557_032
    assert parameters(ParCMobileNetV2(parc=False, include_preprocessing=False)) == 3_504_872


def test_top_and_pooling():
    assert small(include_top=False).output_shape == (None, 2, 2, 320)
    assert small(include_top=False, pooling="avg").output_shape == (None, 320)
    assert small(include_top=False, pooling="max").output_shape == (None, 320)
    assert ParCNetXS(include_top=False, include_preprocessing=False).input_shape == (
        None,
        None,
        None,
        3,
    )
    assert ParCNetXS(include_preprocessing=False).input_shape == (None, 256, 256, 3)
    assert small(name="mine").name == "mine"
    logits = small(classifier_activation=None).get_layer("predictions").activation
    assert logits is keras.activations.linear


def test_input_tensor():
    inputs = keras.Input((64, 48, 3))
    x = keras.layers.Rescaling(2.0)(inputs)
    model = small(input_tensor=x, input_shape=None)
    assert model.input is inputs
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_preprocessing_takes_rgb_bytes(dtype):
    plain = enliven(small(classifier_activation=None))  # whose input matters
    whole = small(classifier_activation=None, include_preprocessing=True)
    whole.set_weights(plain.get_weights())
    rgb = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(dtype)
    rgb[..., 0] //= 4
    expected = run(plain, rgb[..., ::-1].astype("float32") / 255)
    assert error(run(whole, rgb), expected) <= 1e-3
    assert error(run(whole, rgb[..., ::-1]), expected) > 1e-2


@pytest.mark.parametrize("build", [ParCNetXS, MobileViTS])
@pytest.mark.parametrize(
    ("output_stride", "strides"), [(32, (4, 8, 16, 32)), (16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))]
)
def test_features(build, output_stride, strides, tmp_path):
    model = build(input_shape=(64, 96, 3), output_stride=output_stride)
    pyramid = keras_parc.features(model)
    expected = {
        f"P{level}": (None, 64 // stride, 96 // stride, channels)
        for level, stride, channels in zip(range(2, 6), strides, (64, 96, 128, 160), strict=True)
    }
    assert {key: tensor.shape for key, tensor in pyramid.output.items()} == expected
    assert "head_expand_conv" not in [layer.name for layer in pyramid.layers]
    # The weights are shared, and a loaded model has features too.
    assert pyramid.get_layer("stem_conv") is model.get_layer("stem_conv")
    if output_stride == 32:
        model.save(tmp_path / "m.keras")
        x = np.random.default_rng(0).normal(size=(1, 64, 96, 3)).astype("float32")
        loaded = keras_parc.features(keras.models.load_model(tmp_path / "m.keras"))
        for key, value in pyramid(x, training=False).items():
            np.testing.assert_allclose(np.asarray(loaded(x, training=False)[key]), value, atol=1e-5)


def test_features_of_a_foreign_model():
    foreign = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)], name="other")
    with pytest.raises(ValueError, match="'other' has the feature maps of no registered model"):
        keras_parc.features(foreign)


# Those of all other arguments and models are slow: of each kind of layer one is fast.
ROUND_TRIPS = {
    "parc_net": (functools.partial(small, include_preprocessing=True), []),
    "mobilevit": (
        functools.partial(
            MobileViTS, input_shape=(None, None, 3), classes=10, include_preprocessing=False
        ),
        [],
    ),
    "big_kernel": (
        functools.partial(small, kernel="big_1/2", channel_attention=False),
        pytest.mark.slow,
    ),
    "no_meta_former": (functools.partial(small, meta_former=False), pytest.mark.slow),
    "resnet": (
        functools.partial(
            ParCResNet50, input_shape=(64, 64, 3), classes=10, include_preprocessing=False
        ),
        pytest.mark.slow,
    ),
    "convnext": (
        functools.partial(
            ParCConvNeXtXT, input_shape=(None, None, 3), classes=10, include_preprocessing=False
        ),
        [],
    ),
}


@pytest.mark.parametrize(
    "build",
    [pytest.param(build, marks=marks, id=name) for name, (build, marks) in ROUND_TRIPS.items()],
)
def test_keras_file_round_trip(build, tmp_path):
    model = build()
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = run(model, x)
    np.testing.assert_allclose(run(loaded, x), expected, atol=1e-6)
    model.save_weights(tmp_path / "model.weights.h5")
    again = build(weights=tmp_path / "model.weights.h5")
    np.testing.assert_allclose(run(again, x), expected, atol=1e-6)


@pytest.mark.parametrize(
    "build",
    [small, *(functools.partial(each, input_shape=(64, 64, 3), classes=10) for each in CONVNETS)],
)
def test_one_training_step_changes_every_weight(build):
    """Nothing is cut off from the loss; batch 2 is enough for the attention's normalization."""
    model = build()
    for variable in model.trainable_variables:
        if variable.path.endswith("_scale/gamma"):  # 1e-6 would hide what it scales
            variable.assign(np.ones(variable.shape))
    before = [np.array(v) for v in model.trainable_variables]
    # To trace or compile a single step would take longer than the step.
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype("float32")
    model.fit(x, np.arange(4), verbose=0, batch_size=4)
    same = [
        v.path
        for v, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(old, np.array(v))
    ]
    assert same == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_shape": (31, 64, 3)}, ValueError, "height must be at least 32, got 31"),
        ({"input_shape": (64, 64)}, ValueError, r"\(height, width, channels\), got \(64, 64\)"),
        ({"input_tensor": np.zeros((1, 64, 64, 3))}, ValueError, "Keras tensor.*ndarray"),
        ({"pooling": "sum"}, ValueError, "'avg' or 'max', got 'sum'"),
        ({"classes": 0}, ValueError, "at least 1, got 0"),
        ({"weights": "imagenet"}, ValueError, "ParCNetXS has no pretrained weights of this name"),
        ({"weights": "no/such.weights.h5"}, FileNotFoundError, "no/such.weights.h5"),
        ({"weights": __file__}, ValueError, r"ending in .weights.h5 or .keras"),
        ({"kernel": "big"}, ValueError, "one of .*'parc'.*got 'big'"),
        ({"kernel": "big_1/2", "meta_former": False}, ValueError, "'parc'` only"),
        ({"output_stride": 64}, ValueError, "32, 16 or 8, got 64"),
        (
            {"include_preprocessing": True, "input_shape": (64, 64, 1)},
            ValueError,
            "RGB images of 3 channels, got 1",
        ),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ParCNetXS(**arguments)
