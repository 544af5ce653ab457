"""The name map: everything used once, problems listed, the model untouched by a bad file."""

import numpy as np
import pytest

import keras_parc
from keras_parc.weights.names import load_state_dict, official_name
from reference import manifest, state_dict


@pytest.fixture
def model():
    return keras_parc.ParCNetXS(input_shape=(32, 32, 3))


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (keras_parc.ParCNetXS, "parcnet_xs"),
        (keras_parc.ParCNetS, "parcnet_s"),
        (keras_parc.MobileViTS, "mobilevit_s"),
        (keras_parc.ParCResNet50, "parc_resnet50"),
        (keras_parc.ParCMobileNetV2, "parc_mobilenetv2"),
        (keras_parc.ParCConvNeXtXT, "parc_convnext_xt"),
    ],
)
def test_every_tensor_of_the_file_has_its_variable(build, name):
    model = build(input_shape=(32, 32, 3))
    ours = {
        official_name(model, layer, variable)
        for layer in model.layers
        for variable in layer.weights
        if "seed_generator" not in variable.path
    }
    theirs = {
        key
        for key, _ in manifest(name)
        if not key.endswith("num_batches_tracked") and not key.startswith("residual.")
    }
    assert ours == theirs


def test_problems_are_listed_and_the_model_is_left_alone(model):
    before = model.get_weights()
    state = state_dict("parcnet_xs")
    del state["conv_1.block.norm.bias"]
    state["classifier.fc.weight"] = np.zeros((10, 640), "float32")
    state["conv_1.block.conv.weight"] = np.zeros((3,), "float32")
    state["extra.weight"] = np.zeros(3, "float32")
    state["residual.block.exp_1x1.block.conv.weight"] = np.zeros((512, 128, 1, 1), "float32")
    with pytest.raises(ValueError, match="does not fit 'parc_net_xs'") as caught:
        load_state_dict(model, state)
    message = str(caught.value)
    assert "missing: conv_1.block.norm.bias" in message
    assert "unexpected: extra.weight" in message
    assert "classifier.fc.weight: (10, 640) for predictions/kernel" in message
    assert "conv_1.block.conv.weight: (3,)" in message
    assert "differs from layer_5.0.block.exp_1x1.block.conv.weight" in message
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_foreign_layer_has_no_official_name(model):
    pad = model.get_layer("stem_conv_pad")
    with pytest.raises(ValueError, match="'stem_conv_pad' has no counterpart"):
        official_name(model, pad, model.get_layer("stem_conv").kernel)
