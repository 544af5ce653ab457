"""What a model takes is found in the model: recorded, or told by its preprocessing."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_parc
from keras_parc.cli.console import InputRange
from keras_parc.layers import ImageInput
from keras_parc.models.inputs import (
    AUTHORS,
    INPUT_RANGES,
    InputScale,
    check_values,
    crop_of,
    input_scale,
    known_scale,
    short_side_of,
)

SIDE = 32
PIXELS, ONE, SIGNED = (INPUT_RANGES[name] for name in ("0..255", "0..1", "-1..1"))


def network():
    """Something with weights."""
    return keras.Sequential([layers.Conv2D(4, 1), layers.GlobalAveragePooling2D()])


def after(preprocessing, dtype=None, sides=(SIDE, SIDE)):
    """A model whose own input is followed by this."""
    image = keras.Input((*sides, 3), dtype=dtype)
    return keras.Model(image, network()(preprocessing(image)))


def normalization(mean, std):
    return layers.Normalization(mean=[mean] * 3, variance=[std**2] * 3)


def adapted():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3)).astype("float32"))
    return layer


def backbone(scale):
    """A model that records what it takes."""
    image = ImageInput((SIDE, SIDE, 3), scale.mean, scale.std, scale.channels).output
    return keras.Model(image, layers.Conv2D(4, 1)(image))


def thirds(x):
    """Each channel by itself."""
    return layers.Concatenate()([x[..., i : i + 1] / 255.0 for i in range(3)])


def grey(x):
    """What weighs the channels has no scale."""
    return keras.ops.sum(x * np.float32([0.299, 0.587, 0.114]), -1, keepdims=True)


YUV = np.float32([[0.299, -0.147, 0.615], [0.587, -0.289, -0.515], [0.114, 0.436, -0.1]])

FOUND = {
    "rescaling": (layers.Rescaling(1 / 255), PIXELS),
    "rescaling to -1..1": (layers.Rescaling(1 / 127.5, offset=-1), PIXELS),
    "of 0..1": (layers.Rescaling(2.0, offset=-1), ONE),
    "of -1..1": (layers.Rescaling(0.5, offset=0.5), SIGNED),
    "an operator": (lambda x: x / 255.0, PIXELS),
    "operators": (lambda x: x / 127.5 - 1.0, PIXELS),
    "functions": (lambda x: keras.ops.divide(keras.ops.subtract(x, 127.5), 127.5), PIXELS),
    "Lambda": (layers.Lambda(lambda x: x / 255), PIXELS),
    "normalization": (normalization(120, 60), PIXELS),
    "normalization adapted": (adapted(), PIXELS),
    "normalization of 0..1": (normalization(0.45, 0.23), ONE),
    "normalization of HDR": (normalization(2000, 1500), None),
    "normalization around nothing": (normalization(0, 1), None),
    "caffe": (keras.applications.resnet50.preprocess_input, PIXELS),
    "torch": (keras.applications.densenet.preprocess_input, PIXELS),
    "channels": (thirds, PIXELS),
    "the order of channels only": (lambda x: x[..., ::-1], None),
    "augmentation before": (
        lambda x: layers.Rescaling(1 / 255)(layers.RandomFlip()(layers.RandomBrightness(0.5)(x))),
        PIXELS,
    ),
    "resizing before": (lambda x: layers.Rescaling(1 / 255)(layers.Resizing(16, 16)(x)), PIXELS),
    "padding after": (lambda x: layers.ZeroPadding2D(2)(layers.Rescaling(1 / 255)(x)), PIXELS),
    "nested": (keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255)]), PIXELS),
    "two stems": (
        lambda x: layers.Concatenate()(
            [layers.Conv2D(2, 1)(x / 255), layers.Conv2D(2, 1)(x / 255)]
        ),
        PIXELS,
    ),
    "two that disagree": (
        lambda x: layers.Add()([layers.Conv2D(2, 1)(x / 255), layers.Conv2D(2, 1)(2 * x - 1)]),
        None,
    ),
    "one that tells": (
        lambda x: layers.Add()([layers.Conv2D(2, 1)(x / 255), layers.Conv2D(2, 1)(x)]),
        PIXELS,
    ),
    "the image again at the end": (
        lambda x: layers.Concatenate()([x, layers.Conv2D(2, 1)(x / 255)]),
        PIXELS,
    ),
    "to pixels": (lambda x: x * 255.0, ONE),
    "from -1..1 to pixels": (layers.Rescaling(127.5, offset=127.5), SIGNED),
    "the mean of 0..1": (lambda x: x - 0.5, ONE),
    "grey pixels": (lambda x: grey(x) / 255, PIXELS),
    "grey": (lambda x: grey(x), None),
    "the mean of the channels": (lambda x: keras.ops.mean(x, -1, keepdims=True), None),
    "the image and its grey": (lambda x: layers.Concatenate()([x, grey(x)]), None),
    "another space of colours": (lambda x: keras.ops.matmul(x, YUV), None),
    "twice": (lambda x: x * 2, None),
    "half": (lambda x: x / 2, None),
    "positions": (lambda x: x + np.random.default_rng(0).normal(0, 0.5, (SIDE, SIDE, 3)), None),
    "the image without its mean": (
        lambda x: x - keras.ops.mean(x, (1, 2, 3), keepdims=True),
        None,
    ),
    "a root": (lambda x: keras.ops.sqrt(x + 1e-3), None),
    "normalization of -1..1": (normalization(0.002, 0.58), None),
    "learned": (layers.BatchNormalization(), None),
    "nothing": (lambda x: x, None),
    "a backbone of BGR": (lambda x: backbone(AUTHORS)(x), AUTHORS),
    "BGR of pixels": (lambda x: backbone(AUTHORS)(keras_parc.preprocess_input(x)), PIXELS),
    "a backbone of pixels": (lambda x: backbone(PIXELS)(x), PIXELS),
    "pixels of 0..1": (lambda x: backbone(PIXELS)(x * 255.0), ONE),
    "pixels and more": (
        lambda x: layers.Concatenate()([backbone(PIXELS)(x), layers.Conv2D(2, 1)(x)]),
        PIXELS,
    ),
}


@pytest.mark.any_backend
@pytest.mark.parametrize("name", FOUND)
def test_found_in_the_model(name):
    preprocessing, expected = FOUND[name]
    model = after(preprocessing)
    assert known_scale(model) == expected
    assert known_scale(keras.Sequential([keras.Input((SIDE, SIDE, 3)), model])) == expected


@pytest.mark.parametrize("sides", [(None, None), (48, None)])
def test_found_at_unknown_sides(sides):
    assert known_scale(after(layers.Rescaling(1 / 255), sides=sides)) == PIXELS


def test_asking_changes_nothing():
    """Layers of augmentation draw from a state of their own."""
    flip = layers.RandomFlip(seed=1)
    model = after(lambda x: layers.Rescaling(1 / 255)(flip(x)))
    before = keras.ops.convert_to_numpy(flip.generator.state).tolist()
    assert known_scale(model) == PIXELS
    assert keras.ops.convert_to_numpy(flip.generator.state).tolist() == before


def test_the_crop_of_a_nested_model():
    inner = backbone(PIXELS)
    inner.layers[0].crop = 0.75
    assert crop_of(after(lambda x: inner(x))) == 0.75


def test_found_by_type():
    assert known_scale(after(lambda x: keras.ops.cast(x, "float32"), dtype="uint8")) == PIXELS


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_found_in_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        assert known_scale(after(layers.Rescaling(1 / 127.5, offset=-1))) == PIXELS
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ConvNeXtTiny"])
def test_found_in_keras_applications(name):
    """With preprocessing inside, as they are by default."""
    build = getattr(keras.applications, name)
    model = build(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    assert known_scale(after(model)) == PIXELS


def test_what_an_operation_of_the_users_does_is_hers():
    """One that fails on images made up, and one with a graph of no kind, are no preprocessing."""

    class Moody(layers.Layer):
        def call(self, x):
            if self.built:
                raise RuntimeError("not today")
            return x

        def compute_output_spec(self, x):
            return x

    assert known_scale(after(Moody())) is None

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    assert known_scale(Subclassed()) is None


@pytest.mark.any_backend
@pytest.mark.parametrize("preprocessing", [True, False])
def test_our_models_record_it(preprocessing, tmp_path):
    model = keras_parc.ParCNetTiny(
        input_shape=(SIDE, SIDE, 3), classes=3, include_preprocessing=preprocessing
    )
    model.layers[0].crop = 0.75
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    for each in (model, again):
        assert known_scale(each) == (PIXELS if preprocessing else AUTHORS)
        assert crop_of(each) == 0.75


@pytest.mark.parametrize(
    "make",
    [
        lambda model: keras_parc.SSDLite(model, 2),
        lambda model: keras_parc.DeepLabV3(model, 2),
        lambda model: keras_parc.parcify(model, "stage2_ir2_depthwise_conv"),
        lambda model: keras_parc.features(model),
        lambda model: keras_parc.deploy(model),
    ],
    ids=["detector", "segmenter", "parcified", "features", "deployed"],
)
def test_what_is_made_of_a_model_records_it(make):
    kind = {"include_top": False, "include_preprocessing": False}
    model = keras_parc.models.mobilevit.MobileViTTiny(input_shape=(64, 64, 3), **kind)
    model.layers[0].crop = 0.75
    assert known_scale(make(model)) == AUTHORS
    assert crop_of(make(model)) == 0.75


def test_a_rewritten_model_still_tells():
    """The preprocessing goes into the first convolution, where nothing tells of it."""
    deployed = keras_parc.deploy(after(layers.Rescaling(1 / 255)))
    assert not any(isinstance(each, layers.Rescaling) for each in deployed.layers)
    assert known_scale(deployed) == PIXELS


def test_not_known_is_said_and_can_be_stated():
    bare = after(lambda x: x)
    with pytest.raises(ValueError, match=r"is not recorded.*--input-range.*0\.\.255, 0\.\.1, "):
        input_scale(bare)
    assert input_scale(bare, "-1..1") == SIGNED
    assert input_scale(after(layers.Rescaling(1 / 255)), "0..1") == ONE  # the user's word
    with pytest.raises(ValueError, match=r"must be one of 0\.\.255, "):
        input_scale(bare, "0..2")
    assert list(INPUT_RANGES) == list(InputRange)


def test_stated_scales_are_those_of_keras():
    """Against `keras.applications`, whose three ways they are named after."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype("float32")
    for name, module in (
        ("-1..1", "mobilenet_v2"),
        ("imagenet", "densenet"),
        ("caffe", "resnet50"),
    ):
        theirs = getattr(keras.applications, module).preprocess_input(pixels.copy())
        np.testing.assert_allclose(INPUT_RANGES[name].of(pixels), theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(AUTHORS.of(pixels), keras_parc.preprocess_input(pixels), rtol=1e-6)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"crop": 0}, "`crop`"),
        ({"crop": 1.5}, "`crop`"),
        ({"std": 0}, "`std`"),
        ({"mean": (1, 2)}, "`mean`"),
        ({"channels": "grb"}, "`channels`"),
        ({"shape": (8, 8, 1)}, r"\(height, width, 3\)"),
    ],
)
def test_what_an_input_refuses(facts, said):
    with pytest.raises(ValueError, match=said):
        ImageInput(**{"shape": (8, 8, 3), **facts})


def test_crop():
    model = keras_parc.ParCNetTiny(input_shape=(SIDE, SIDE, 3), classes=3)
    assert short_side_of(model, (224, 192)) == 252  # 288/256
    model.layers[0].crop = 0.875
    assert short_side_of(model, (224, 192)) == 256


def test_images_that_are_none():
    images = np.random.default_rng(0).random((2, 4, 4, 3)).astype("float32")
    with pytest.warns(UserWarning, match=r"lie in 0\.\.1"):
        check_values(np.stack([images[0], 255 * images[1]]), PIXELS)
    for image in (255 * images, 0 * images, images - 0.5, np.uint8(images > 0.5)):
        check_values(image, PIXELS)  # a warning is an error here
    check_values(images, ONE)
    check_values(images, None)
    for wrong in (np.nan, np.inf):
        images[1, 2, 3, 0] = wrong
        with pytest.raises(ValueError, match="NaN or infinity"):
            check_values(images, None)


def test_a_scale_has_three_values_for_three_channels():
    scale = InputScale((1.0, 2.0, 3.0), (1.0, 2.0, 4.0), "bgr")
    assert scale.of(np.array([[3.0, 4.0, 5.0]])).tolist() == [[4.0, 1.0, 0.0]]
    assert scale.limits() == (-1.0, 254.0)
