"""The models and their modules reproduce the authors' code, stage by stage."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import keras_parc
from backends import gradients
from keras_parc.layers import blocks
from keras_parc.models.losses import pixel_cross_entropy
from keras_parc.support.class_maps import IGNORED
from keras_parc.weights import names
from keras_parc.weights.names import load_state_dict, official_name
from reference import (
    TOLERANCE,
    error,
    feature_layer,
    image,
    name_map,
    outputs,
    recorded_features,
    sample,
    state_dict,
)

logits = {"classifier_activation": None}
MODELS = {
    "parcnet_xs": functools.partial(keras_parc.ParCNetXS, **logits, include_preprocessing=False),
    "parcnet_s": functools.partial(keras_parc.ParCNetS, **logits, include_preprocessing=False),
    "parcnet_h": functools.partial(keras_parc.ParCNetH, **logits, include_preprocessing=False),
    "mobilevit_s": functools.partial(keras_parc.MobileViTS, **logits, include_preprocessing=False),
    "parcnet_s_no_pe": functools.partial(
        keras_parc.ParCNetS, position_embedding=False, **logits, include_preprocessing=False
    ),
    "parcnet_s_no_ca": functools.partial(
        keras_parc.ParCNetS, channel_attention=False, **logits, include_preprocessing=False
    ),
    "parcnet_s_bk_1_2": functools.partial(
        keras_parc.ParCNetS, kernel="big_1/2", **logits, include_preprocessing=False
    ),
    "parcnet_s_bk_1_4": functools.partial(
        keras_parc.ParCNetS, kernel="big_1/4", **logits, include_preprocessing=False
    ),
}
CONVNETS = {
    "parc_resnet50": functools.partial(
        keras_parc.ParCResNet50, **logits, include_preprocessing=False
    ),
    "parc_mobilenetv2": functools.partial(
        keras_parc.ParCMobileNetV2, **logits, include_preprocessing=False
    ),
    "parc_convnext_xt": functools.partial(
        keras_parc.ParCConvNeXtXT, **logits, include_preprocessing=False
    ),
}
ANY_BACKEND = ("parcnet_xs", "parcnet_s")
# At 192 base kernels and position embeddings are resampled, at 256 they are not.
SIZES = ("256", "224", "320", "192")
FAST = {(name, "192") for name in MODELS} | {("parcnet_xs", "256"), ("mobilevit_s", "256")}


def cases():
    """Every model at every size; in the fast tests at one that resamples, and two at 256."""
    for name in MODELS:
        for size in SIZES:
            marks = [pytest.mark.any_backend] if name in ANY_BACKEND else []
            marks += [] if (name, size) in FAST else [pytest.mark.slow]
            yield pytest.param(name, size, marks=marks)


def compare_features(model, name, size, *others):
    """Check every recorded feature; the first that differs is named. Returns the `others` too."""
    golden = outputs(name)
    paths = recorded_features(name, size)
    tapped = [model.get_layer(feature_layer(model, path)).output for path in paths]
    *maps, results = keras.Model(model.input, [*tapped, list(others)])(
        image(int(size)), training=False
    )
    stats, samples = golden[f"S{size}/feat_stats"], golden[f"S{size}/feat_samples"]
    for path, value, stat, stored in zip(paths, maps, stats, samples, strict=True):
        value = ops.convert_to_numpy(value).astype("float64")
        assert error(sample(value), stored) <= TOLERANCE, f"{name} at {size}: {path}: samples"
        got = np.array([value.mean(), value.std()])
        # The mean may be near 0: both are measured against the spread.
        assert np.abs(got - stat).max() <= TOLERANCE * stat[1], f"{name} at {size}: {path}: stats"
    return [ops.convert_to_numpy(each) for each in results]


def compare(model, name, size):
    """Check every recorded feature and the logits."""
    (result,) = compare_features(model, name, size, model.output)
    theirs = outputs(name)[f"S{size}/logits"]
    assert error(result, theirs) <= TOLERANCE, f"{name} at {size}: logits"


@pytest.mark.parametrize(("name", "size"), cases())
def test_model(name, size):
    model = MODELS[name](input_shape=(int(size), int(size), 3))
    load_state_dict(model, state_dict(name), name_map(name))
    compare(model, name, size)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", CONVNETS)
def test_convnet(name):
    model = CONVNETS[name]()
    load_state_dict(model, state_dict(name), name_map(name))
    compare(model, name, "224")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("size", "step"), [("256", 4), pytest.param("512", 8, marks=pytest.mark.slow)]
)
def test_segmenter(size, step):
    name = "deeplabv3_parcnet_s"
    model = keras_parc.DeepLabV3ParCNetS(
        input_shape=(int(size), int(size), 3), include_preprocessing=False
    )
    load_state_dict(model, state_dict(name), name_map(name))
    low = keras_parc.low_resolution(model).output
    low, full = compare_features(model, name, size, low, model.output)
    golden = outputs(name)
    theirs = channels_last(golden[f"S{size}/logits_lowres"])
    assert error(low, theirs) <= TOLERANCE
    theirs = channels_last(golden[f"S{size}/logits_stride{step}"])
    assert error(full[:, ::step, ::step], theirs) <= TOLERANCE
    target = np.random.RandomState(100).randint(0, 22, full.shape[:3])
    target[target == 21] = IGNORED
    loss = float(ops.convert_to_numpy(pixel_cross_entropy()(target, full)))
    assert abs(loss - golden[f"S{size}/loss"]) <= TOLERANCE * golden[f"S{size}/loss"]


@pytest.mark.parametrize("name", ["parcnet_xs", "mobilevit_s"])
def test_model_with_unknown_sides(name):
    model = MODELS[name](input_shape=(None, None, 3))
    load_state_dict(model, state_dict(name), name_map(name))
    compare(model, name, "224")


def scaled_epsilon(layer):
    return {"epsilon": 1e-3} if isinstance(layer, keras.layers.BatchNormalization) else {}


def test_a_wrong_epsilon_is_noticed():
    model = MODELS["parcnet_xs"](input_shape=(192, 192, 3))
    wrong = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            layer.get_config() | scaled_epsilon(layer)
        ),
    )
    load_state_dict(wrong, state_dict("parcnet_xs"), names.parc_net)
    with pytest.raises(AssertionError, match="192: conv_1: samples"):
        compare(wrong, "parcnet_xs", "192")


def test_swapped_axes_are_noticed():
    def swapped(name):
        return name.translate(str.maketrans("HW", "WH")) if "meta_" in name else name

    model = MODELS["parcnet_xs"](input_shape=(192, 192, 3))
    state = {swapped(name): value for name, value in state_dict("parcnet_xs").items()}
    load_state_dict(model, state, names.parc_net)
    with pytest.raises(AssertionError, match=r"layer_3\.1\.spatial_global_rep\.0"):
        compare(model, "parcnet_xs", "192")


def test_padding_as_keras_same_is_noticed(monkeypatch):
    def same(x, filters, kernel_size=1, strides=1, groups=1, use_bias=False, name=None, **_):
        if groups == x.shape[-1] and groups > 1:
            return keras.layers.DepthwiseConv2D(
                kernel_size,
                strides=strides,
                depth_multiplier=filters // groups,
                padding="same",
                use_bias=use_bias,
                name=name,
            )(x)
        return keras.layers.Conv2D(
            filters, kernel_size, strides, "same", groups=groups, use_bias=use_bias, name=name
        )(x)

    monkeypatch.setattr(blocks, "conv", same)
    model = MODELS["parcnet_xs"](input_shape=(192, 192, 3))
    load_state_dict(model, state_dict("parcnet_xs"), names.parc_net)
    with pytest.raises(AssertionError, match="192: conv_1: samples"):
        compare(model, "parcnet_xs", "192")


# Module, its function here, and the prefix its tensors have in a whole model of the authors.
BLOCK = "layer_3.1.spatial_global_rep.0."
NAME = "stage3_block1"


def frame(fusion, width, groups):
    def two_blocks(x):
        for index in range(2):
            x = blocks.parc_block(x, 8, 2 * width, f"stage3_block{index + 1}", index == 0)
        return x

    return lambda x: blocks.local_global_frame(x, width, groups, fusion, two_blocks, "stage3")


MODULES = {
    "gcc_ca_mf_block": (BLOCK, lambda x: blocks.parc_block(x, 8, 32, NAME)),
    "gcc_ca_mf_block_no_pe": (BLOCK, lambda x: blocks.parc_block(x, 8, 32, NAME, False)),
    "gcc_mf_block": (BLOCK, lambda x: blocks.parc_block(x, 8, 32, NAME, attention=False)),
    "gcc_ca_mf_block_meta32": (BLOCK, lambda x: blocks.parc_block(x, 32, 32, NAME)),
    "bkc_ca_mf_block": (BLOCK, lambda x: blocks.parc_block(x, 8, 32, NAME, big_kernel=5)),
    "CA_layer": (BLOCK + "ca.", lambda x: blocks.channel_attention(x, 2, f"{NAME}_attention")),
    "outer_frame_v1_concat": ("layer_3.1.", frame("concat", 48, 24)),
    "outer_frame_v1_add": ("layer_3.1.", frame("add", 48, 24)),
    "outer_frame_v1_concat_gcd12": ("layer_3.1.", frame("concat", 36, 12)),
    "inverted_residual_s1": (
        "layer_3.0.",
        lambda x: blocks.inverted_residual(x, 16, 1, "stage3_ir1"),
    ),
    "inverted_residual_s2": (
        "layer_3.0.",
        lambda x: blocks.inverted_residual(x, 24, 2, "stage3_ir1"),
    ),
    "conv_5x5_s2": ("conv_1.", lambda x: blocks.conv_norm_act(x, 8, 5, 2, name="stem")),
}


def module(name, size, channels):
    prefix, build = MODULES[name]
    x = keras.Input((size, size, channels))
    model = keras.Model(x, build(x))
    load_state_dict(model, state_dict(f"module_{name}", prefix), names.parc_net)
    return model


def channels_last(x):
    return x.transpose(0, 2, 3, 1)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    golden = outputs("modules")
    for key in (key for key in golden if key.startswith(f"{name}/")):
        size = int(key.split("/")[1])
        channels = {"CA_layer": 32, "conv_5x5_s2": 3}.get(name, 24 if "frame" in name else 16)
        x = image(size, channels, seed=1)
        y = ops.convert_to_numpy(module(name, size, channels)(x, training=False))
        assert error(y, channels_last(golden[key])) <= TOLERANCE, key


# With a batch of two, batch normalization leaves hardly any gradient (5e-5 here, against 1 to 80
# elsewhere): what is left of cancelling terms. The same step in float64 is 6e-4 from the golden
# float32 value, so that value is only good to about that.
CANCELLING = {"ca.fc.0.weight": 1e-2}


def without_dropout(layer):
    config = layer.get_config() | ({"rate": 0.0} if "rate" in layer.get_config() else {})
    return type(layer).from_config(config)


@pytest.mark.any_backend
@pytest.mark.parametrize("size", [5, 12])
def test_training_step_of_the_block(size):
    """Output, every gradient and the BatchNorm statistics after one training step."""
    golden = outputs("modules")
    stored = {
        key.split(f"/{size}/", 1)[1]: golden[key]
        for key in golden
        if key.startswith(f"train_gcc_ca_mf_block/{size}/")
    }
    model = keras.models.clone_model(
        module("gcc_ca_mf_block", size, 16), clone_function=without_dropout
    )
    state = state_dict("module_gcc_ca_mf_block", BLOCK)
    load_state_dict(model, state, names.parc_net)
    x = image(size, 16, seed=1)
    weighting = channels_last(
        np.random.RandomState(2).standard_normal((2, 16, size, size)).astype("float32")
    )
    y, grad_x, grads, after = gradients(model, x, weighting)
    assert error(y, channels_last(stored["out"])) <= TOLERANCE
    assert error(grad_x, channels_last(stored["grad_input"])) <= TOLERANCE

    compared = set()
    for layer in model.layers:
        for variable in layer.weights:
            name = official_name(names.parc_net, model, layer, variable).removeprefix(BLOCK)
            old = state[BLOCK + name]
            if f"grad/{name}" in stored:
                theirs = stored[f"grad/{name}"]
                ours = grads[variable.path]
                theirs = _like(ours, theirs)
                compared.add(f"grad/{name}")
            elif f"after/{name}" in stored:
                theirs = stored[f"after/{name}"]
                if name.endswith("running_var"):
                    # PyTorch keeps the unbiased variance of the batch, Keras the biased one.
                    count = 2 if ".ca." in f".{name}" else 2 * size * size
                    batch = (theirs - 0.9 * old) / 0.1
                    theirs = 0.9 * old + 0.1 * batch * (count - 1) / count
                ours = after[variable.path]
                compared.add(f"after/{name}")
            else:
                raise AssertionError(f"no golden value for {name}")
            assert error(ours, theirs) <= CANCELLING.get(name, TOLERANCE), name
    assert compared == {key for key in stored if "/" in key}


def _like(ours, theirs):
    """A gradient in PyTorch's layout in the layout of ours."""
    if ours.ndim == 1:
        return theirs
    if ours.ndim == 2:  # base kernels and position embeddings
        return theirs.reshape(ours.shape[1], ours.shape[0]).T
    return theirs.transpose(2, 3, 1, 0)
