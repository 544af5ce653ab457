"""The registry: what is entered is found, and a user's own model gets what the others have."""

import dataclasses
import inspect
import re

import keras
import numpy as np
import pytest
from every_model import MODELS
from registered import own_models, register_for_test, registry_of_its_own
from rewritten import enliven

import keras_parc
from keras_parc.data.augment.settings import Augmentation
from keras_parc.models import registry
from keras_parc.models.registry import find_model, levels_of, list_models, register_model
from keras_parc.training.recipes import find_recipe, list_recipes
from reference import error

OWN = own_models()
# The two ParC-Nets that differ from XS in their widths alone; all of Keras' but the smallest.
SLOW = {"ParCNetS", "ParCNetH"} | {
    each.name for each in list_models(family="keras_applications") if each.key != "mobilenet_v2"
}


def test_every_model_says_what_it_is():
    assert len(OWN) > 10
    for entry in OWN:
        assert getattr(keras_parc, entry.name) is entry.build
        assert find_model(entry.key) is find_model(entry.name) is entry
        assert entry.task in registry.TASKS
    for preset in keras_parc.list_presets():
        assert preset in find_model(preset.model).all_presets
    assert len({entry.key for entry in list_models()}) == len(list_models())


def test_every_listed_classifier_has_a_case():
    """One entry and one case: then its files are tested on every runtime."""
    listed = {entry.name for entry in OWN if entry.listed and entry.task == "classification"}
    assert listed == {case.name for case in MODELS}


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(each, marks=pytest.mark.slow if each.name in SLOW else [])
        for each in OWN
        if each.task == "classification"
    ],
    ids=lambda entry: entry.key,
)
def test_levels_are_at_their_strides(entry):
    model = entry.build(include_top=False, input_shape=(64, 96, 3))
    maps = keras_parc.features(model).output
    assert list(maps) == ["P2", "P3", "P4", "P5"]
    for number, each in enumerate(maps.values(), 2):
        assert each.shape[1:3] == (-(-64 // 2**number), 96 // 2**number)
    assert levels_of(model) == dict(entry.levels)


@pytest.mark.parametrize("name", ["ParCNetM", "parc_net_m"])
def test_a_name_that_is_not_there(name):
    with pytest.raises(ValueError, match=rf"no model '{name}'. Did you mean '.*'\? There are d"):
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
    registry_of_its_own(monkeypatch)

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
        ({"levels": ["down2"]}, "`levels` must be a dictionary of names to names of layers"),
        ({"levels": {"P2": 2}}, "`levels` must be a dictionary"),
        ({"recipes": {"mine": 3}}, "`recipes` must be a dictionary of names to dictionaries"),
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


@pytest.mark.slow
def test_images_as_they_are_is_the_default():
    """RGB 0..255 in, by every constructor's signature and by the model of one of each family."""
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    images[..., 0] /= 4
    for entry in OWN:
        default = inspect.signature(entry.build).parameters["include_preprocessing"].default
        assert default is True, entry.name
    for entry in {entry.name_map: entry for entry in OWN}.values():
        model = entry.build(input_shape=(32, 32, 3), classes=3)
        assert any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers), entry.name
    arguments = {"input_shape": (32, 32, 3), "classes": 3, "classifier_activation": None}
    model = enliven(keras_parc.ParCNetTiny(**arguments))
    plain = keras_parc.ParCNetTiny(**arguments, include_preprocessing=False)
    plain.set_weights(model.get_weights())
    expected = plain(keras_parc.preprocess_input(images), training=False)
    assert error(model(images, training=False), expected) <= 1e-3
    assert error(model(images[..., ::-1], training=False), expected) > 1e-2


def test_recipes_brought_along_start_from_others(monkeypatch):
    like = {"like": "digit_scenes", "epochs": 7, "short_side": 64, "flip": 0.25}
    wrong = {"of_none": {"like": "digits"}, "of_a_typo": {"epoch": 3}}
    register_for_test(monkeypatch, my_net, "my_net", recipes={"mine": like, **wrong})
    recipe, base = find_recipe("mine"), find_recipe("digit_scenes")
    assert (recipe.name, recipe.model, recipe.epochs) == ("mine", "my_net", 7)
    assert (recipe.options.short_side, recipe.options.augmentation.flip) == (64, 0.25)
    assert (recipe.batch, recipe.peak_rate, recipe.data) == (base.batch, base.peak_rate, base.data)
    with pytest.raises(ValueError, match="'of_none' of 'my_net': There is no recipe 'digits'"):
        find_recipe("of_none")
    with pytest.raises(ValueError, match=r"no field 'epoch'. Did you mean 'epochs'"):
        find_recipe("of_a_typo")
    assert find_recipe("digit_scenes") is base  # the others are as they were
    assert [each.name for each in list_recipes("parc_net_s")]  # those of others may be wrong


def test_a_whole_augmentation_is_taken(monkeypatch):
    mild = Augmentation(scale=(0.5, 1.0), flip=0.0)
    fields = {"like": "digit_scenes", "augmentation": mild}
    recipes = {"mine": fields, "more": {**fields, "flip": 0.25}}
    register_for_test(monkeypatch, my_net, "my_net", recipes=recipes)
    assert find_recipe("mine").options.augmentation == mild
    assert find_recipe("more").options.augmentation == dataclasses.replace(mild, flip=0.25)


def test_a_recipe_that_is_not_there(monkeypatch):
    register_for_test(monkeypatch, my_net, "my_net")
    with pytest.raises(ValueError, match="no recipe 'nothing'"):
        find_recipe("nothing")


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("parc_net_tiny", {"foo": 3}, "ParCNetTiny: There is no argument 'foo'"),
        ("parc_net_tiny", {"classes": 3}, "The recipe itself sets classes of the model"),
        ("bare_net", {}, "bare_net cannot be built by a recipe: .*include_preprocessing"),
        ("ssd_parc_net_s", {}, "SSDParCNetS is for detection, the recipe .* for classification"),
        ("parc_net_m", {}, "There is no model 'parc_net_m'"),
    ],
)
def test_what_a_recipe_cannot_build_ends_in_one_line(
    monkeypatch, tmp_path, run_cli, model, arguments, message
):
    """And the folder stays free for the command that is right."""
    register_for_test(monkeypatch, lambda input_shape, classes: my_net(), "bare_net")
    settings = [f"model={model}", "data=digit_scenes/tiny", "epochs=1", "warm_up_steps=1"]
    settings += [f"model.{name}={value}" for name, value in arguments.items()]
    options = [part for each in settings for part in ("--set", each)]
    code, _, errors = run_cli("train", "--recipe", "digit_scenes", "--out", tmp_path, *options)
    assert code == 2
    lines = [line for line in errors.splitlines() if line.startswith("keras-parc: ")]
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert not (tmp_path / "recipe.json").exists()
