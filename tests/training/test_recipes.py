"""Recipes, learning rate, sampler and loss against the authors' figures in golden/recipe.npz."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_parc.models.inputs import crop_of
from keras_parc.models.registry import find_model
from keras_parc.tasks.classification.training import ClassificationLearner
from keras_parc.training.compiling import rate_schedule
from keras_parc.training.recipes import Recipe, find_recipe, list_recipes, override
from keras_parc.training.sampler import batch_of, epoch_plan
from keras_parc.training.schedule import WarmUpCosine, learning_rate

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "recipe.npz")
# start, peak, end, warm-up: the same function serves the recipes of all tasks.
RATES = {
    "parcnet_s": (4e-4, 4e-3, 4e-4, 3000, 300),
    "ssd_parcnet_s": (9e-5, 9e-4, 1e-6, 500, 200),
    "deeplabv3_parcnet_s": (9e-5, 9e-4, 1e-6, 500, 50),
}


def test_the_crop_of_validation_goes_with_the_model():
    recipe = override(find_recipe("digit_scenes"), ["short_side=60", "model=parc_net_tiny"])
    for side in (48, None):
        assert crop_of(ClassificationLearner(recipe, 10).build(side, {})) == 48 / 60


@pytest.mark.parametrize("name", RATES)
def test_learning_rate_is_the_authors(name):
    start, peak, end, warm_up, epochs = RATES[name]
    theirs = GOLDEN[f"lr/{name}/values"]
    ours = [
        [
            learning_rate(
                step, epoch / epochs, start=start, peak=peak, end=end, warm_up_steps=warm_up
            )
            for step in GOLDEN[f"lr/{name}/iters"]
        ]
        for epoch in GOLDEN[f"lr/{name}/epochs"]
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.any_backend
def test_schedule_of_the_recipe_looks_up_the_authors_values():
    """In float32, at each golden epoch's steps after the warm-up, and along the warm-up."""
    schedule = rate_schedule(find_recipe("parc_net_s_imagenet"), [1000] * 300)
    theirs = GOLDEN["lr/parcnet_s/values"].astype("float32")
    for row, epoch in zip(theirs, GOLDEN["lr/parcnet_s/epochs"], strict=True):
        if epoch > 2:
            for step in (epoch * 1000, epoch * 1000 + 999):
                assert float(schedule(int(step))) == row[-1]
    for value, step in zip(theirs[0], GOLDEN["lr/parcnet_s/iters"], strict=True):
        if step < 3000:
            assert float(schedule(int(step))) == value


def test_schedule_counts_updates_and_survives_serialization():
    accumulating = dataclasses.replace(
        find_recipe("digit_scenes"), gradient_accumulation=4, cosine_by="epoch"
    )
    assert rate_schedule(accumulating, [10, 10, 10]).steps_per_epoch == [2, 3, 2]
    with pytest.raises(ValueError, match="at least one step"):
        rate_schedule(accumulating, [3, 3, 3])
    schedule = rate_schedule(find_recipe("digit_scenes"), [250] * 3)
    again = WarmUpCosine.from_config(schedule.get_config())
    assert [float(again(s)) for s in (0, 74, 75, 400, 749)] == [
        float(schedule(s)) for s in (0, 74, 75, 400, 749)
    ]
    assert float(schedule(0)) == np.float32(2e-4)
    assert float(schedule(75)) > float(schedule(400)) > float(schedule(749)) > 2e-5
    with pytest.raises(ValueError, match="'epoch' or 'step'"):
        WarmUpCosine([1], start=0, peak=1, end=0, warm_up_steps=0, by="day")


@pytest.mark.parametrize("replicas", [1, 4, 8])
def test_sampler_makes_the_authors_batches(replicas):
    theirs = GOLDEN[f"vbs/n_gpus_{replicas}"]
    recipe = dataclasses.replace(find_recipe("parc_net_s_imagenet"), replicas=replicas)
    assert [(size, size, total // replicas) for size, total in recipe.choices] == [
        tuple(row) for row in theirs
    ]


def test_plan_is_uniform_and_a_function_of_seed_and_epoch():
    choices = find_recipe("parc_net_s_imagenet").choices
    plan = epoch_plan(1_281_167, choices, seed=0, epoch=3)
    assert plan == epoch_plan(1_281_167, choices, seed=0, epoch=3)
    assert plan != epoch_plan(1_281_167, choices, seed=0, epoch=4)
    assert plan != epoch_plan(1_281_167, choices, seed=1, epoch=3)
    left = 1_281_167 - sum(batch for _, batch in plan)
    assert 0 <= left < max(batch for _, batch in choices)
    counts = [sum(size == each for each, _ in plan) for size in (160, 192, 256, 288, 320)]
    expected, steps = len(plan) / 5, len(plan)
    # Five standard deviations of a binomial count.
    assert max(abs(count - expected) for count in counts) < 5 * (steps * 0.2 * 0.8) ** 0.5
    assert batch_of(256, 128, 256, 1) == 128
    with pytest.raises(ValueError, match="fewer than one batch"):
        epoch_plan(100, choices, seed=0, epoch=0)


@pytest.mark.any_backend
def test_training_loss_is_the_authors():
    logits, target = GOLDEN["label_smoothing/logits"], GOLDEN["label_smoothing/target"]
    truth = np.eye(1000, dtype="float32")[target]
    smoothing = find_recipe("parc_net_s_imagenet").options.label_smoothing
    for value, name in ((smoothing, "train_loss"), (0.0, "eval_loss")):
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=value)
        theirs = float(GOLDEN[f"label_smoothing/{name}"])
        assert float(loss(truth, logits)) == pytest.approx(theirs, rel=1e-6)


def test_published_recipes():
    s, h, m = (
        find_recipe(f"{name}_imagenet") for name in ("parc_net_s", "parc_net_h", "mobilevit_s")
    )
    assert (s.weight_decay, h.weight_decay, m.weight_decay) == (0.025, 0.05, 0.01)
    assert (m.start_rate, m.peak_rate, m.end_rate) == (2e-4, 2e-3, 2e-4)
    assert s.batch * s.replicas == 1024
    assert list_recipes()
    for recipe in list_recipes():
        assert find_model(recipe.model).task in ("classification", recipe.task)
        assert Recipe.from_json(recipe.to_json()) == recipe


def test_overrides():
    recipe = override(
        find_recipe("parc_net_s_imagenet"),
        [
            "epochs=10",
            "sizes=64,96",
            "decay_all=false",
            "clip_norm=1",
            "data=a folder",
            "mixup=0.2",
            "model.kernel=big_1/4",
            "model.channel_attention=false",
        ],
    )
    assert (recipe.epochs, recipe.sizes, recipe.decay_all) == (10, (64, 96), False)
    assert recipe.clip_norm == 1.0
    assert isinstance(recipe.clip_norm, float)
    assert recipe.model_arguments == {"kernel": "big_1/4", "channel_attention": False}
    assert (recipe.data, recipe.options.augmentation.mixup) == ("a folder", 0.2)


def test_a_momentum_is_left_to_the_number_of_steps_again():
    recipe = override(find_recipe("digit_scenes"), ["ema_momentum=0.9"])
    assert recipe.ema_momentum == 0.9
    assert override(recipe, ["ema_momentum=none"]).ema_momentum is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "Expected field=value, got 'epochs'"),
        ("epoch=3", "no field 'epoch'. Did you mean 'epochs'"),
        ("epochs=many", "`epochs` must be of type int, got 'many'"),
        ("epochs=0", "`epochs` must be at least 1"),
        ("decay_all=maybe", "must be true or false"),
        ("sizes=64,big", "numbers separated by commas"),
        ("sizes=16,64", "sides of at least 32"),
        ("ema_momentum=1", "less than 1"),
        ("mixed_precision=int8", "must be one of"),
        ("scale=0.5,0.1", "0 < least <= largest"),
        ("short_side=100", "at least `size`"),
        ("flip=2", "0 to 1"),
        ("mixup=-1", "at least 0"),
    ],
)
def test_wrong_overrides_are_explained(setting, message):
    with pytest.raises(ValueError, match=message):
        override(find_recipe("parc_net_s_imagenet"), [setting])
