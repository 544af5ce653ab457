"""The name map: everything used once, problems listed, the model untouched by a bad file."""

import re

import keras
import numpy as np
import pytest
from weight_server import GOLDEN

import keras_parc
from keras_parc.models.registry import find_model
from keras_parc.weights import names
from keras_parc.weights.names import DEEPLAB_V3, SSD_LITE, load_state_dict, official_name
from keras_parc.weights.presets import PRESETS
from reference import manifest, name_map, state_dict


@pytest.fixture
def model():
    return keras_parc.ParCNetXS(input_shape=(32, 32, 3), include_preprocessing=False)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (keras_parc.ParCNetXS, "parcnet_xs"),
        (keras_parc.ParCNetS, "parcnet_s"),
        (keras_parc.MobileViTS, "mobilevit_s"),
        (keras_parc.ParCResNet50, "parc_resnet50"),
        (keras_parc.ParCMobileNetV2, "parc_mobilenetv2"),
        (keras_parc.ParCConvNeXtXT, "parc_convnext_xt"),
        (keras_parc.SSDParCNetS, "ssd_parcnet_s"),
    ],
)
def test_every_tensor_of_the_file_has_its_variable(build, name):
    model = build(input_shape=(32, 32, 3))
    ours = {
        official_name(name_map(name), model, layer, variable)
        for layer in model.layers
        for variable in layer.weights
        if "seed_generator" not in variable.path
    }
    theirs = {
        key
        for key, _ in manifest(name)
        if not key.endswith("num_batches_tracked") and "residual." not in key
    }
    assert ours == theirs


@pytest.mark.parametrize(
    ("head", "name"), [(SSD_LITE, "ssd_parcnet_s"), (DEEPLAB_V3, "deeplabv3_parcnet_s")]
)
def test_every_module_of_a_detector_and_a_segmenter_has_its_layer(head, name):
    theirs = {key.rsplit(".", 1)[0] for key, _ in manifest(name) if "encoder." not in key}
    assert set(head.values()) == theirs
    # Boxes and scores are one convolution there.
    ours = {re.sub("_(boxes|scores)$", "", name) for name in head}
    assert len(ours) == len(theirs)


def test_the_backbone_in_a_detector_is_named_after_the_encoder():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(16, 3, use_bias=False, name="stem_conv")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(16, 1, name="head6_boxes")(x))
    stem, last = model.get_layer("stem_conv"), model.layers[-1]
    name = "ssd_heads.5.loc_cls_layer.block.conv.weight"
    assert official_name(names.ssd_parc_net, model, last, last.kernel) == name
    assert (
        official_name(names.ssd_parc_net, model, stem, stem.kernel)
        == "encoder.conv_1.block.conv.weight"
    )


@pytest.mark.parametrize(
    ("preset", "name"),
    [(preset, GOLDEN[preset.weights]) for preset in PRESETS if not preset.package],
)
def test_every_tensor_is_loaded_or_known_to_be_left_out(preset, name):
    """Nothing is missing or unexpected, and one more name would be."""
    entry = find_model(preset.model)
    model = entry.build(input_shape=(32, 32, 3))
    model = keras_parc.features(model) if preset.scope else model
    state = state_dict(name)
    arguments = {"name_map": entry.name_map, "scope": preset.scope, "ignored": preset.ignored}
    load_state_dict(model, state, **arguments)
    with pytest.raises(ValueError, match=r"unexpected: encoder\.more"):
        load_state_dict(model, state | {"encoder.more": np.zeros(3)}, **arguments)
    if preset.task != "classification":
        alias = "encoder.residual.block.exp_1x1.block.norm.weight"
        with pytest.raises(ValueError, match=rf"{alias}: differs from encoder\.layer_5\.0\.block"):
            load_state_dict(model, state | {alias: np.zeros(512)}, **arguments)


def test_query_key_and_value_of_another_width_are_refused():
    model = keras_parc.MobileViTS(input_shape=(32, 32, 3), include_preprocessing=False)
    state = state_dict("mobilevit_s")
    name = "layer_3.1.global_rep.0.pre_norm_mha.1.qkv_proj.weight"
    state[name] = np.concatenate([state[name], state[name]])
    with pytest.raises(ValueError, match=rf"{name}: \(864, 144\) for"):
        load_state_dict(model, state, names.mobilevit)


def test_problems_are_listed_and_the_model_is_left_alone(model):
    before = model.get_weights()
    state = state_dict("parcnet_xs")
    del state["conv_1.block.norm.bias"]
    state["classifier.fc.weight"] = np.zeros((10, 640), "float32")
    state["conv_1.block.conv.weight"] = np.zeros((3,), "float32")
    state["extra.weight"] = np.zeros(3, "float32")
    state["extra.residual.a"] = state["extra.layer_5.0.a"] = np.zeros(3, "float32")
    state["residual.block.exp_1x1.block.conv.weight"] = np.zeros((512, 128, 1, 1), "float32")
    with pytest.raises(ValueError, match="does not fit 'parc_net_xs'") as caught:
        load_state_dict(model, state, names.parc_net)
    message = str(caught.value)
    assert "missing: conv_1.block.norm.bias" in message
    assert "unexpected: extra.layer_5.0.a, extra.residual.a, extra.weight" in message
    assert "classifier.fc.weight: (10, 640) for predictions/kernel" in message
    assert "conv_1.block.conv.weight: (3,)" in message
    assert "differs from layer_5.0.block.exp_1x1.block.conv.weight" in message
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_foreign_layer_has_no_official_name(model):
    pad = model.get_layer("stem_conv_pad")
    with pytest.raises(ValueError, match="'stem_conv_pad' has no counterpart"):
        official_name(names.parc_net, model, pad, model.get_layer("stem_conv").kernel)
