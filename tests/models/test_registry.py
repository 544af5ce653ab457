"""The registry: what is entered is found, and a user's own model gets what the others have."""

import dataclasses

import keras
import numpy as np
import pytest
from every_model import MODELS
from registered import register_for_test
from rewritten import enliven

import keras_parc
from keras_parc.models import registry
from keras_parc.models.registry import find_model, levels_of, list_models, register_model
from keras_parc.training.recipes import find_recipe, list_recipes
from reference import error


def test_every_model_says_what_it_is():
    for entry in list_models():
        assert getattr(keras_parc, entry.name) is entry.build
        assert find_model(entry.key) is find_model(entry.name) is entry
        assert entry.task in registry.TASKS
    for preset in keras_parc.list_presets():
        assert preset in find_model(preset.model).all_presets
    assert len({entry.key for entry in list_models()}) == len(list_models())


def test_every_listed_classifier_has_a_case():
    """One entry and one case: then its files are tested on every runtime."""
    listed = {entry.name for entry in list_models("classification", listed=True)}
    assert listed == {case.name for case in MODELS}


@pytest.mark.parametrize("entry", list_models("classification"), ids=lambda entry: entry.key)
def test_levels_are_at_their_strides(entry):
    model = entry.build(include_top=False, input_shape=(64, 96, 3))
    maps = keras_parc.features(model).output
    assert list(maps) == ["P2", "P3", "P4", "P5"]
    for number, each in enumerate(maps.values(), 2):
        assert each.shape[1:3] == (-(-64 // 2**number), 96 // 2**number)
    assert levels_of(model) == dict(entry.levels)


@pytest.mark.parametrize("name", ["ParCNetM", "parc_net_m"])
def test_a_name_that_is_not_there(name):
    with pytest.raises(ValueError, match=rf"no model '{name}'. Did you mean '.*'\? There are parc"):
        find_model(name)


def my_net(include_top=True, weights=None, input_shape=(64, 64, 3), classes=5, **options):
    """A user's model: not a layer of this package in it."""
    image = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255)(image)
    for number, channels in enumerate((8, 8, 12, 16, 24), 1):
        x = keras.layers.Conv2D(channels, 3, 2, "same", activation="relu", name=f"down{number}")(x)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dense(classes, options.get("classifier_activation", "softmax"))(x)
    return keras.Model(image, x, name="my_net")


LEVELS = {f"P{number}": f"down{number}" for number in (2, 3, 4, 5)}
RUN = {"data": "digit_scenes/tiny", "size": 32, "sizes": (32,), "epochs": 1, "batch": 8}


def test_a_users_model_gets_what_the_others_have(monkeypatch, tmp_path):
    register_for_test(monkeypatch, my_net, "my_net", levels=LEVELS, recipes={"my_run": RUN})
    model = find_model("my_net").build()
    assert {k: v.shape[1] for k, v in keras_parc.features(model).output.items()} == {
        "P2": 16,
        "P3": 8,
        "P4": 4,
        "P5": 2,
    }
    detector = keras_parc.SSDLite(model, classes=2)
    assert detector.output["scores"].shape[-1] == 3
    segmenter = keras_parc.DeepLabV3(model, classes=4, output_stride=8)
    assert keras_parc.low_resolution(segmenter).output_shape == (None, 8, 8, 4)
    recipe = find_recipe("my_run")
    assert (recipe.model, recipe.data, recipe.size) == ("my_net", "digit_scenes/tiny", 32)
    assert recipe in list_recipes("my_net")
    path = keras_parc.to_tflite(model, tmp_path / "mine.tflite")
    assert keras_parc.TFLiteModel(path)(np.zeros((1, 64, 64, 3))).shape == (1, 5)


def test_presets_brought_along_are_listed(monkeypatch):
    mine = dataclasses.replace(keras_parc.list_presets()[0], name="mine", model="my_net")
    register_for_test(monkeypatch, my_net, "my_net", presets=(mine,))
    assert mine in keras_parc.list_presets()
    assert find_model("my_net").all_presets == (mine,)


def test_registering_returns_the_constructor_and_takes_its_default_name(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    @register_model(input_size=(96, 96))
    def OtherNet(name="other_net"):
        return my_net()

    assert OtherNet().name == "my_net"
    assert find_model("other_net").input_size == (96, 96)
    assert keras_parc.OtherNet is OtherNet
    register_model(OtherNet, input_size=(64, 64))  # the same constructor again: the newer entry
    assert find_model("OtherNet").input_size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"colour": "red"}, r"Unknown fields \['colour'\]; a model has .*levels"),
        ({"task": "detect"}, "`task` must be one of classification, detection, segmentation"),
        ({"input_size": (64,)}, "`input_size` must be"),
        ({"key": "parc_net_s"}, "is the name of another model"),
    ],
)
def test_wrong_entries_are_refused(arguments, message):
    before = dict(registry._ENTRIES)
    with pytest.raises(ValueError, match=message):
        register_model(my_net, **arguments)
    with pytest.raises(ValueError, match="Expected a function"):
        register_model("my_net")
    assert before == registry._ENTRIES


def test_features_by_hand():
    model = my_net()
    maps = keras_parc.features(model, {"fine": "down3", "coarse": "down5"}).output
    assert {name: each.shape[1] for name, each in maps.items()} == {"fine": 8, "coarse": 2}
    with pytest.raises(ValueError, match=r"has no layers \['up3'\]"):
        keras_parc.features(model, {"fine": "up3"})


def test_heads_copy_the_backbone():
    """Both: training a head leaves the backbone as it was."""
    backbone = keras_parc.ParCNetTiny(include_top=False, input_shape=(64, 64, 3))
    for head in (keras_parc.SSDLite, keras_parc.DeepLabV3):
        model = head(backbone, 3)
        theirs, ours = backbone.get_layer("stem_conv"), model.get_layer("stem_conv")
        assert theirs is not ours
        np.testing.assert_array_equal(theirs.kernel, ours.kernel)
        ours.kernel.assign_add(keras.ops.ones_like(ours.kernel))
        assert not np.allclose(theirs.kernel, ours.kernel)


def test_images_as_they_are_is_the_default():
    """RGB 0..255 in, for every constructor."""
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    images[..., 0] /= 4
    for entry in list_models():
        model = entry.build(input_shape=(32, 32, 3), classes=3)
        assert any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers), entry.name
    arguments = {"input_shape": (32, 32, 3), "classes": 3, "classifier_activation": None}
    model = enliven(keras_parc.ParCNetTiny(**arguments))
    plain = keras_parc.ParCNetTiny(**arguments, include_preprocessing=False)
    plain.set_weights(model.get_weights())
    expected = plain(keras_parc.preprocess_input(images), training=False)
    assert error(model(images, training=False), expected) <= 1e-3
    assert error(model(images[..., ::-1], training=False), expected) > 1e-2
