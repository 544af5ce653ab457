"""Training segmenters: a rate of its own for the head, stop and go on, what is measured."""

import json

import keras
import masks
import numpy as np
import pytest
from keras import ops
from registered import register_for_test

import keras_parc
from keras_parc.models.deeplab_v3 import DeepLabV3
from keras_parc.models.registry import levels_of
from keras_parc.tasks.model_files import load_model
from keras_parc.tasks.segmentation.measuring import confusion_matrix, intersections_over_unions
from keras_parc.tasks.segmentation.training import SegmentationLearner
from keras_parc.training import fit as fitting
from keras_parc.training.compiling import rate_schedule, training_model
from keras_parc.training.optimizer import StagedAdamW
from keras_parc.training.recipes import Recipe, find_recipe, override


def small(input_shape, classes, include_preprocessing):
    return DeepLabV3(masks.backbone(input_shape[0]), classes, rates=(1, 2, 3))


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    levels = levels_of(masks.backbone(48))
    register_for_test(monkeypatch, small, "small_segmenter", task="segmentation", levels=levels)


SETTINGS = ("model=small_segmenter", "size=48", "sizes=48", "warm_up_steps=2")


@pytest.mark.any_backend
def test_the_head_moves_as_with_a_rate_of_its_own():
    """Gradients and weight decay of two plain optimizers, one for each part."""
    rng = np.random.default_rng(0)
    start, steps = rng.random((2, 3)), rng.standard_normal((4, 2, 3))
    shared = {"weight_decay": 0.1, "epsilon": 1e-8}
    ours = [keras.Variable(start, name=name) for name in ("body", "head")]
    optimizer = StagedAdamW(0.01, rates={ours[1].path: 10.0}, **shared)
    expected = []
    for rate in (0.01, 0.1):
        variable, plain = keras.Variable(start), keras.optimizers.AdamW(rate, **shared)
        for step in steps:
            plain.apply([ops.convert_to_tensor(step, "float32")], [variable])
        expected.append(ops.convert_to_numpy(variable))
    for step in steps:
        optimizer.apply([ops.convert_to_tensor(step, "float32")] * 2, ours)
    for variable, values in zip(ours, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), values, rtol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 0.1


@pytest.mark.any_backend
def test_the_learning_rate_is_computed_once_a_step():
    """Not once for each variable that decays, as in Keras."""

    class Counted(keras.optimizers.schedules.LearningRateSchedule):
        calls = 0

        def __call__(self, step):
            self.calls += 1
            return ops.convert_to_tensor(0.1)

    schedule, variables = Counted(), [keras.Variable(np.ones(2)) for _ in range(3)]
    optimizer = StagedAdamW(schedule, weight_decay=0.1)
    optimizer.apply([ops.zeros(2)] * 3, variables)
    assert schedule.calls == 1
    for variable in variables:
        np.testing.assert_allclose(ops.convert_to_numpy(variable), 0.99, rtol=1e-6)


def test_the_recipe_gives_the_head_its_rate():
    recipe = override(
        find_recipe("deeplab_v3_parc_net_s_voc"), [*SETTINGS, "mixed_precision=none", "weights="]
    )
    model = training_model(SegmentationLearner(recipe, classes=11), rate_schedule(recipe, [4] * 50))
    assert set(model.optimizer.rates.values()) == {10.0}
    heads = {path.split("/")[0] for path in model.optimizer.rates}
    assert {"aspp1_conv", "aspp_pool_bn", "segmentation_logits"} <= heads
    assert not any(name.startswith(("stem", "stage")) for name in heads)
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.fixture
def train_command(run_cli, tiny_scenes):
    """A short run of the command; the status, output and errors."""
    arguments = ["train", "--recipe", "digit_scenes_segmentation", "--data-dir", tiny_scenes]
    settings = (*SETTINGS, "data=digit_scenes/tiny", "train_split=train[:48]", "epochs=1")
    for setting in (*settings, "validation_split=validation[:40]"):
        arguments += ["--set", setting]
    return lambda out: run_cli(*arguments, "--checkpoint-steps", 2, "--out", out)


@pytest.mark.slow
def test_train_and_evaluate(train_command, run_cli, tiny_scenes, tmp_path):
    code, _, errors = train_command(tmp_path)
    assert code == 0, errors
    assert (tmp_path / "labels.txt").read_text().splitlines()[:2] == ["background", "0"]
    code, printed, errors = run_cli(
        *("evaluate", tmp_path / "model.keras", "--dataset", "digit_scenes/tiny"),
        *("--split", "validation[:40]", "--data-dir", tiny_scenes),
    )
    assert code == 0, errors
    assert "miou" in printed


@pytest.mark.slow
def test_train_stop_and_go_on(train_command, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    code, _, errors = train_command(whole)
    assert code == 0, errors
    after = fitting._Run.on_train_batch_end

    def terminate(self, *positional, **keywords):
        self.terminated = self.facts.step == 3
        after(self, *positional, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(fitting._Run, "on_train_batch_end", terminate)
        code, _, errors = train_command(stopped)
    assert code == 75
    assert "stopped after step 4 of epoch 1" in errors
    code, _, errors = train_command(stopped)
    assert code == 0, errors
    assert (whole / "history.csv").read_text() == (stopped / "history.csv").read_text()
    models = [load_model(each / "model.keras") for each in (whole, stopped)]
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_measured_after_an_epoch():
    recipe = override(find_recipe("digit_scenes_segmentation"), SETTINGS)
    task = SegmentationLearner(recipe, classes=11)
    model, rng = task.averaged(), np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 48, 48, 3)).astype("float32")
    truth = rng.integers(0, 11, (5, 48, 48)).astype("uint8")
    truth[:, :5] = 255
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((images, truth)).batch(3)
    calls = []
    metrics = task.evaluator(model, 4, lambda: calls.append(1))(data)
    found = model.predict(images, verbose=0).argmax(-1)
    expected = np.nanmean(intersections_over_unions(confusion_matrix(truth, found, 11)))
    assert metrics["miou"] == pytest.approx(expected, abs=1e-5)
    assert metrics["loss"] > 0
    assert len(calls) == 2


@pytest.mark.slow
def test_the_demonstration(run_cli, tmp_path):
    out = tmp_path / "report"
    code, printed, errors = run_cli("demo", "--task", "segmentation", "--quick", "--out", out)
    assert code == 0, errors
    assert "mean IoU" in printed
    report = json.loads((out / "report.json").read_text())
    assert (report["partitions"]["float32"], report["partitions"]["int8"]) == (1, 1)
    assert set(report["measures"]) == {"keras", "float32", "int8"}
    assert (out / "report.html").stat().st_size > 50_000
    assert keras_parc.read_metadata(out / "model_int8.tflite").task == "segmentation"
