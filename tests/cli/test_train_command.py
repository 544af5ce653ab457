"""`keras-parc train` as a user types it, on digit scenes: the whole path from record to model."""

import json
import math

import pytest

import small_training  # noqa: F401 (registers the model "small")
from image_files import encoded, picture
from keras_parc.models.registry import find_model
from keras_parc.tasks.model_files import load_model
from keras_parc.training import fit as fitting
from keras_parc.training.recipes import RECIPES, Recipe
from keras_parc.training.sampler import epoch_plan

ARGUMENTS = [
    *("train", "--recipe", "digit_scenes", "--set", "model=small", "--set", "epochs=1"),
    *("--set", "data=digit_scenes/tiny", "--set", "warm_up_steps=2", "--no-export"),
]


@pytest.mark.slow
def test_train_stop_and_go_on(run_cli, tiny_scenes, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = ["--data-dir", tiny_scenes, "--checkpoint-steps", 2]
    for split in ("train_split=train[:128]", "validation_split=validation[:40]"):
        options += ["--set", split]
    code, output, errors = run_cli(*ARGUMENTS, *options, "--out", whole)
    assert code == 0, errors
    assert "model.keras" in output

    after = fitting._Run.on_train_batch_end

    def terminate(self, *arguments, **keywords):
        self.terminated = self.facts.step == 2
        after(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(fitting._Run, "on_train_batch_end", terminate)
        code, _, errors = run_cli(*ARGUMENTS, *options, "--out", stopped)
    assert code == 75
    assert "stopped after step 3 of epoch 1 of digit_scenes; the same command goes on" in errors
    code, output, errors = run_cli(*ARGUMENTS, *options, "--out", stopped)
    assert code == 0, errors
    assert "going on after step 3 of epoch 1" in output
    assert (whole / "history.csv").read_text() == (stopped / "history.csv").read_text()
    for a, b in zip(
        load_model(whole / "model.keras").get_weights(),
        load_model(stopped / "model.keras").get_weights(),
        strict=True,
    ):
        assert (a == b).all()
    assert (whole / "labels.txt").read_text().splitlines() == [str(digit) for digit in range(10)]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["small", "parc_net_s"])
def test_the_recipe_of_imagenet_from_record_to_step(run_cli, mocked_imagenet, tmp_path, model):
    """As published but for the sizes, on the mock data of TFDS, which is noise."""
    settings = ("size=32", "short_side=36", "sizes=32,48", "batch=4", "replicas=2", "epochs=1")
    settings += (f"model={model}",)
    options = [option for each in settings for option in ("--set", each)]
    out = tmp_path / "s"
    options += ["--no-export"]
    arguments = ("train", "--recipe", "parc_net_s_imagenet", *options, "--out", out)
    code, output, errors = run_cli(*arguments, "--checkpoint-steps", 2)
    assert code == 0, errors
    assert "model.keras" in output
    recipe = Recipe.from_json((out / "recipe.json").read_text())
    assert recipe.data == "imagenet2012"
    assert (recipe.model == RECIPES["parc_net_s_imagenet"].model) == (model != "small")
    assert (recipe.mixed_precision, recipe.warm_up_steps) == ("float16", 3000)
    (row,) = json.loads((out / "result.json").read_text())["history"]
    assert row["loss"] == pytest.approx(math.log(1000), abs=2)  # of a guess
    # The rate of the last update, still in the warm-up; float16 leaves out steps that overflow.
    steps = len(epoch_plan(44, recipe.choices, seed=recipe.seed, epoch=0))
    assert steps >= 3
    rise = (recipe.peak_rate - recipe.start_rate) / recipe.warm_up_steps
    updates = (row["learning_rate"] - recipe.start_rate) / rise
    assert updates == pytest.approx(round(updates), abs=1e-3)
    assert 0 <= round(updates) < steps
    trained = load_model(out / "model.keras")
    assert trained.output_shape == (None, 1000)
    before = find_model(model).build(input_shape=(32, 32, 3), classes=1000)
    assert trained.count_params() == before.count_params()
    assert len((out / "labels.txt").read_text().splitlines()) == 1000


@pytest.mark.slow
def test_the_recipe_of_mobilevit_at_several_sizes(run_cli, mocked_imagenet, tmp_path):
    """In a graph for several sizes the sides of a map are tensors."""
    settings = ("size=64", "short_side=64", "sizes=64,96", "batch=4", "replicas=1", "epochs=1")
    options = [option for each in settings for option in ("--set", each)]
    options += ["--set", "model=mobilevit_tiny"]
    out = tmp_path / "run"
    code, _, errors = run_cli("train", "--recipe", "mobilevit_s_imagenet", *options, "--out", out)
    assert code == 0, errors
    (row,) = json.loads((out / "result.json").read_text())["history"]
    assert row["loss"] == pytest.approx(math.log(1000), abs=2)


def test_show_prints_the_resolved_recipe(run_cli, tmp_path):
    code, output, _ = run_cli(*ARGUMENTS, "--out", tmp_path / "x", "--show")
    assert code == 0
    assert json.loads(output)["epochs"] == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "parc_net_l"], "There is no recipe 'parc_net_l'. Did you mean 'ssd_parc_ne"),
        (["--set", "epoch=3"], "There is no field 'epoch'. Did you mean 'epochs'?"),
        (["--set", "data=no_such_set"], "neither a folder nor a data set"),
        (["--set", "data=./nowhere"], "There is no folder"),
        (["--recipe", "parc_net_s_imagenet", "--set", "data=imagenet2012"], "imagenet"),
        (["--set", "train_split=training"], "There is no split 'training'"),
        (["--hosts", "2"], "Several hosts need the `coordinator`"),
        pytest.param(["--set", "peak_rate=1e30"], "The loss is", marks=pytest.mark.slow),
    ],
)
def test_mistakes_end_in_one_line(run_cli, tiny_scenes, tmp_path, arguments, message):
    given = [*ARGUMENTS, "--data-dir", tiny_scenes, "--out", tmp_path / "x", *arguments]
    code, _, errors = run_cli(*given)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("x", ("--split-by", "folder"), "There are no images to learn from of"),
        ("x", ("--show",), "--show prints a recipe: name one with --recipe."),
        ("file", (), "file' is a file: choose a folder for the run with --out."),
        ("file/run", (), "file' is a file: choose a folder for the run with --out."),
    ],
)
def test_images_of_ones_own_are_refused_in_one_line(run_cli, tmp_path, out, options, message):
    """Before anything is fetched or written."""
    for name in ("cat", "dog"):  # a folder each: whole classes go to one side
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(
                encoded(picture(number), "PNG")
            )
    (tmp_path / "file").write_text("mine")
    code, output, errors = run_cli("train", tmp_path / "photos", "--out", tmp_path / out, *options)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert "Starting from" not in output
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "photos"]
    assert (tmp_path / "file").read_text() == "mine"
