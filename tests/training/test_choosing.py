"""From what a user says to a recipe: sizes, epochs, batches; and the weights of rare classes."""

import dataclasses

import numpy as np
import pytest
import staged_model

from keras_parc.data.augment.settings import PRESETS
from keras_parc.data.sources import open_source
from keras_parc.models.registry import find_model
from keras_parc.support import machine
from keras_parc.tasks.classification.data import class_weights, dataset
from keras_parc.training import choosing
from keras_parc.training.recipes import RECIPES

START = choosing.start_recipe("classification", "staged", None)


@pytest.mark.parametrize(
    ("images", "memory", "batch", "warm_up"),
    [
        (16, 1000, 4, 8),
        (100, 1000, 4, 50),
        (600, 1000, 32, 36),
        (100_000, 1000, 32, 100),
        (100_000, 2 * 7.9, 4, 100),  # half of the memory, and a power of two
        (100_000, 0.1, 1, 100),
        (1, 1000, 1, 2),
    ],
)
def test_the_batch_is_by_images_and_memory(monkeypatch, images, memory, batch, warm_up):
    image = choosing.image_bytes(find_model("staged").build((32, 32, 3), 3), 32)
    monkeypatch.setattr(choosing, "free_memory", lambda: memory * image)
    fitted = choosing.fitted(START, images, classes=3)
    assert (fitted.batch, fitted.warm_up_steps) == (batch, warm_up)


def test_norms_that_learn_see_several_images(monkeypatch):
    """A detector of 30 images, one at a time, ended in numbers that are none."""
    monkeypatch.setattr(choosing, "free_memory", lambda: 1e12)
    for frozen, batch in ((True, 1), (False, 4)):
        recipe = dataclasses.replace(START, freeze_norm=frozen)
        assert choosing.fitted(recipe, 30, classes=3).batch == batch


def test_what_the_user_chose_is_the_batch(monkeypatch):
    monkeypatch.setattr(choosing, "free_memory", lambda: 1)
    recipe = choosing.with_options(START, batch=50)
    assert choosing.fitted(recipe, 60, 3, batch=50).batch == 50


OPTIONS = {
    "size": 48,
    "epochs": 3,
    "batch": 7,
    "augment": "strong",
    "patience": 0,
    "balanced": True,
}


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("name", ["fine_tune", "digit_scenes"])
def test_the_same_options_again_change_nothing(name, freeze):
    once = choosing.with_options(RECIPES[name], **OPTIONS, freeze=freeze)
    assert choosing.with_options(once, **OPTIONS, freeze=freeze) == once
    assert (once.size, once.sizes, once.epochs, once.batch, once.patience) == (48, (48,), 3, 7, 0)
    assert once.options.balanced
    assert once.options.augmentation == PRESETS["classification"]["strong"]
    whole = min(RECIPES[name].freeze_epochs, 1)
    assert once.freeze_epochs == (3 if freeze else whole)


def test_size_keeps_what_a_classifier_sees_of_a_picture():
    recipe = dataclasses.replace(
        START, size=256, options=dataclasses.replace(START.options, short_side=288)
    )
    smaller = choosing.with_size(recipe, 128)
    assert (smaller.size, smaller.sizes, smaller.options.short_side) == (128, (128,), 144)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("detection", {"balanced": True}, "Balanced classes are for classification"),
        ("detection", {"augment": "much"}, "no augmentation 'much'"),
        ("classification", {"epochs": 0}, "epochs"),
    ],
)
def test_options_out_of_place(task, options, message):
    with pytest.raises(ValueError, match=message):
        choosing.with_options(choosing.start_recipe(task, "staged", None), **options)


def test_weights_by_their_name_whatever_folders_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "mine.weights.h5").touch()
    assert choosing.start_recipe("classification", None, None).weights == "imagenet"
    assert choosing.stated("imagenet", choosing.MODEL) == "imagenet"
    assert choosing.stated("mine.weights.h5", "staged") == str(tmp_path / "mine.weights.h5")
    assert choosing.stated("imagenet", "staged") == str(tmp_path / "imagenet")  # has none so named
    monkeypatch.setenv("HOME", str(tmp_path))
    assert choosing.stated("~/mine.weights.h5", "staged") == str(tmp_path / "mine.weights.h5")
    assert choosing.stated("none", "staged") == ""


def test_without_weights_everything_learns_from_the_start():
    recipe = choosing.start_recipe("classification", choosing.MODEL, "none")
    assert (recipe.weights, recipe.freeze_epochs, recipe.freeze_norm) == ("", 0, False)
    assert (recipe.head_rate, recipe.stage_rate) == (1.0, 1.0)


def test_rare_classes_weigh_more(tmp_path):
    """By hand: 8 images of 2 classes, so 4 for each: 4/6 and 4/2."""
    staged_model.pictures(tmp_path / "train", {"blue": 6, "red": 2})
    staged_model.pictures(tmp_path / "validation", {"blue": 2, "red": 2})
    source = open_source(tmp_path)
    weights = class_weights(source, "train", 2)
    np.testing.assert_allclose(weights, [4 / 6, 4 / 2], rtol=1e-6)
    np.testing.assert_allclose(class_weights(source, "train", 3), [4 / 6, 2, 0], rtol=1e-6)
    settings = {"training": True, "batch": 8, "size": 32, "one_hot": True}
    data = dataset(source, "train", **settings, schedule=[(32, 8)], balanced=True)
    _, labels, given = next(data.as_numpy_iterator())
    np.testing.assert_allclose(given, weights[labels.argmax(1)], rtol=1e-6)
    assert given.sum() == pytest.approx(8)  # the loss is of the same size as without
    validation = dataset(
        source, "validation", training=False, batch=4, size=32, one_hot=True, balanced=True
    )
    assert len(next(validation.as_numpy_iterator())) == 2


def test_free_memory_is_that_of_the_container_where_it_is_less(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 4000000 kB\n",
        "/sys/fs/cgroup/memory.max": "3000000000\n",
        "/sys/fs/cgroup/memory.current": "1000000000\n",
    }

    def read_text(path, *_):
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(machine.Path, "read_text", read_text)
    assert machine.free_memory() == 2_000_000_000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert machine.free_memory() == 4_096_000_000
    files["/sys/fs/cgroup/memory.max"] = "1000000001\n"
    assert machine.free_memory() == 2**28
    files.clear()
    assert machine.free_memory() == 2**32
