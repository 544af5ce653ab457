"""`keras_parc.report.whole_run.train`: one call from pictures to files and a report."""

import io
import json
import shutil

import pytest
import staged_model
from rich.console import Console

from keras_parc.report import whole_run
from keras_parc.report.run import Run
from keras_parc.training import budget
from keras_parc.training import fit as fitting
from keras_parc.training.fit import Interrupted

FILES = {
    *("model.keras", "model_float32.tflite", "model_int8.tflite", "labels.txt", "recipe.json"),
    *("history.csv", "report.json", "report.html", "weights.json"),
}
THREE = {"blue": 12, "green": 12, "red": 12}


def train(data, out, **options):
    """The run, and what was printed."""
    console = Console(record=True, file=io.StringIO(), width=200)
    options = {"model": "staged", "epochs": 2} | options
    run = whole_run.train(data, out, console=console, **options)
    return run, console.export_text()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return staged_model.pictures(tmp_path_factory.mktemp("photos"), THREE)


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "first"
    run, said = train(photos, out)
    return run, said


def stopped_at_once(data, out, **options):
    """A run that is told to stop in its first step."""
    after = fitting._Run.on_train_batch_end

    def terminate(self, *arguments, **keywords):
        self.terminated = True
        after(self, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Run, "on_train_batch_end", terminate)
        with pytest.raises(Interrupted):
            train(data, out, **options)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_files_are_there_and_say_the_classes(finished, photos):
    run, said = finished
    assert {path.name for path in run.folder.iterdir()} >= FILES
    assert "Starting from random weights." in said
    assert run.labels == ["blue", "green", "red"]
    assert run.recipe.data == str(photos)
    assert run.recipe.batch == 4  # the fewest that BatchNorm learns from
    assert len(run.history) == 2
    assert run.report["result"] in " ".join(said.split())


def test_the_same_call_on_a_finished_run_does_nothing(finished, photos):
    run, _ = finished
    before = contents(run.folder)
    for options in ({}, {"epochs": None, "model": None}, {"export": False}):
        _, said = train(photos, run.folder, **options)
        assert "is finished" in said
        assert contents(run.folder) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3}, "epochs 2 there, 3 now"),
        ({"size": 48}, "size 32 there, 48 now"),
        ({"batch": 2}, "batch 4 there, 2 now"),
        ({"augment": "strong"}, "augmentation.rand_augment 0 there, 2 now"),
        ({"patience": 7}, "patience 30 there, 7 now"),
        ({"validation": 0.5}, "validation 0.2 there, 0.5 now"),
        ({"model": "small"}, "model 'staged' there, 'small' now"),
        ({"settings": ["peak_rate=1"]}, "peak_rate 0.002 there, 1.0 now"),
        ({"recipe": "digit_scenes"}, "has the recipe 'fine_tune', not 'digit_scenes'"),
        ({"task": "detection"}, "has the task 'classification', not 'detection'"),
    ],
)
def test_another_option_is_refused_by_name(finished, photos, options, message):
    import small_training  # noqa: F401 (registers the model "small")

    run, _ = finished
    before = contents(run.folder)
    with pytest.raises(ValueError, match=message):
        train(photos, run.folder, **options)
    assert contents(run.folder) == before


OPTIONS = {
    "size": 48,
    "batch": 4,
    "augment": "none",
    "freeze": True,
    "patience": 1,
    "balanced": True,
    "validation": 0.25,
    "weights": "none",
    "settings": ["peak_rate=1e-3", "short_side=56"],
    "export": False,
}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(OPTIONS, marks=pytest.mark.slow),
        pytest.param(
            {"settings": ["epochs=1"], "epochs": None, "freeze": True, "export": False},
            marks=pytest.mark.slow,
        ),
        pytest.param({"epochs": 1, "freeze": True, "export": False}, marks=pytest.mark.slow),
    ],
)
def test_every_option_again_goes_on(photos, tmp_path, options):
    stopped_at_once(photos, tmp_path / "run", **options)
    run, said = train(photos, tmp_path / "run", **options)
    assert "going on after step 1 of epoch 1" in said
    assert (run.folder / "model.keras").is_file()


@pytest.mark.parametrize(
    "step", [pytest.param("export_run", marks=pytest.mark.slow), "make_report"]
)
def test_what_a_stop_after_training_left_out_is_made_by_the_same_call(
    finished, photos, tmp_path, monkeypatch, step
):
    run, _ = finished
    shutil.copytree(run.folder, tmp_path / "run")
    for name in ("model_int8.tflite", "report.json", "report.html"):
        (tmp_path / "run" / name).unlink()

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(whole_run, step, killed)
        with pytest.raises(KeyboardInterrupt):
            train(photos, tmp_path / "run")
    weights = Run(tmp_path / "run").model.get_weights()
    train(photos, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} >= FILES
    for a, b in zip(weights, run.model.get_weights(), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ({"red": 9}, {}, "There is one class only"),
        ({"red": 1, "blue": 1}, {}, "no images to measure on"),
        ({"red": 9, "blue": 9}, {"validation": 0.0}, "no images to measure on"),
        ({"red": 9, "blue": 9}, {"batch": 64}, "14 images, fewer than one batch of 64"),
        ({"red": 9, "blue": 9}, {"task": "detection"}, "detection"),
        ({"red": 9, "blue": 9}, {"weights": "imagenet"}, "weights"),
        ({"red": 9, "blue": 9}, {"weights": "nowhere.weights.h5"}, "nowhere"),
        ({"red": 9, "blue": 9}, {"weights": "runs/nowhere"}, "nowhere"),
        ({"red": 9, "blue": 9}, {"weights": "nowhere.keras"}, "no model file"),
        ({"red": 9, "blue": 9}, {"augment": "much"}, "no augmentation 'much'"),
        ({"red": 9, "blue": 9}, {"size": 4}, "size"),
        ({"red": 9, "blue": 9}, {"settings": ["stage_rate=0"]}, "stage_rate"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_nothing(tmp_path, counts, options, message):
    data = staged_model.pictures(tmp_path / "data", counts)
    before = contents(tmp_path)
    with pytest.raises((ValueError, OSError), match=message) as error:
        train(data, tmp_path / "runs" / "run", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()
    assert contents(tmp_path) == before


def test_a_folder_that_is_no_run_is_untouched(photos, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"holds files that are no run's, such as 'letter.txt'"):
        train(photos, tmp_path)
    assert contents(tmp_path) == {type(tmp_path)("letter.txt"): b"dear"}
    with pytest.raises((ValueError, OSError), match=r"letter\.txt"):
        train(photos, tmp_path / "letter.txt")
    assert (tmp_path / "letter.txt").read_text() == "dear"


@pytest.mark.slow
def test_a_time_gives_the_epochs_and_the_same_call_goes_on(photos, tmp_path, monkeypatch):
    # 27 training images in batches of 9 and 9 to look at: 0.5 s * (3 + 0.4 * 1) an epoch.
    monkeypatch.setattr(budget, "_step_seconds", lambda *arguments: 0.5)
    options = {"epochs": None, "batch": 9, "validation": 0.25, "export": False}
    with pytest.raises(
        ValueError, match=r"0.02 minutes are not enough: an epoch takes about 0.028"
    ):
        train(photos, tmp_path / "run", minutes=0.02, **options)
    for twice in ({"epochs": 2}, {"settings": ["epochs=2"]}):
        with pytest.raises(ValueError, match="either --time or --epochs"):
            train(photos, tmp_path / "run", minutes=1, **options | twice)
    assert not (tmp_path / "run").exists()
    run, said = train(photos, tmp_path / "run", minutes=3.9 / 60, **options)
    assert "2 epochs in 0.065 minutes" in said
    assert run.recipe.epochs == len(run.history) == 2
    train(photos, tmp_path / "run", minutes=3.9 / 60, **options)


@pytest.mark.slow
def test_a_trial_tells_how_long_an_epoch_takes(photos, tmp_path):
    with pytest.raises(ValueError, match="minutes are not enough: an epoch takes about"):
        train(photos, tmp_path / "run", epochs=None, minutes=0.001)
    assert not (tmp_path / "run").exists()


def test_a_set_of_tfds(tiny_scenes, tmp_path, monkeypatch):
    """Up to the training, which knows no difference."""
    seen = []
    monkeypatch.setattr(whole_run, "train_recipe", lambda recipe, *_, **__: seen.append(recipe))
    splits = ["train_split=train[:32]", "validation_split=validation[:16]"]
    options = {"data_dir": tiny_scenes, "settings": splits, "export": False}
    with pytest.raises(ValueError, match="say --task"):
        train("digit_scenes/tiny", tmp_path / "run", **options)
    options["task"] = "classification"
    train("digit_scenes/tiny", tmp_path / "run", **options)
    assert (seen[0].data, seen[0].batch, seen[0].name) == ("digit_scenes/tiny", 4, "fine_tune")
    for split in ("train", "validation"):
        options["settings"] = [f"{split}_split=dev"]
        with pytest.raises(ValueError, match=r"no split 'dev' to (learn|measure).*train and val"):
            train("digit_scenes/tiny", tmp_path / "run", **options)


def test_a_folder_of_a_test_split_only(tmp_path):
    staged_model.pictures(tmp_path / "data" / "test", {"red": 3, "blue": 3})
    with pytest.raises(ValueError, match="no split 'train' to learn from, but test: choose with"):
        train(tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_weights_of_another_run_and_their_licence_outlive_it(finished, photos, tmp_path):
    first = tmp_path / "first"
    shutil.copytree(finished[0].folder, first)
    (first / "weights.json").write_text(
        json.dumps({"weights": "imagenet", "source": "Someone", "licence": "CC-BY-4.0"})
    )
    out = tmp_path / "second"
    stopped_at_once(photos, out, weights=first, export=False, epochs=1, batch=9)
    shutil.rmtree(first)
    run, said = train(None, out, model=None, epochs=None, export=False)
    assert "from Someone; licence: CC-BY-4.0" in " ".join(said.split())
    assert json.loads((run.folder / "weights.json").read_text())["licence"] == "CC-BY-4.0"


def test_other_images_are_not_gone_on_with(photos, tmp_path):
    """The order of the images would be another: no longer the run that began."""
    shutil.copytree(photos, tmp_path / "photos")
    options = {"batch": 9, "validation": 0.25, "export": False}
    stopped_at_once(tmp_path / "photos", tmp_path / "run", **options)
    (tmp_path / "photos").rename(tmp_path / "moved")
    before = contents(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        train(None, tmp_path / "run", export=False)
    for number in range(4):
        (tmp_path / "moved" / "red" / f"red{number:03d}.png").unlink()
    (tmp_path / "moved").rename(tmp_path / "photos")
    with pytest.raises(ValueError, match="began with 27 training images, the data now has 24"):
        train(None, tmp_path / "run", export=False)
    after = contents(tmp_path / "run")
    assert {k: v for k, v in after.items() if k.name != ".lock"} == {
        k: v for k, v in before.items() if k.name != ".lock"
    }
