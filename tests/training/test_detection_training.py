"""Detection through `fit`: what is measured, going on after a stop, what does not fit."""

import dataclasses
import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import keras_parc
import squares
from keras_parc.data.augment.settings import BoxAugmentation
from keras_parc.models.registry import find_model
from keras_parc.tasks.detection.options import DetectionOptions
from keras_parc.tasks.detection.training import DetectionLearner
from keras_parc.training.fit import Interrupted, fit
from keras_parc.training.recipes import Recipe, find_recipe, override


def build(input_shape, classes, include_preprocessing):
    return squares.new_detector(classes)


keras_parc.register_model(build, key="squares", task="detection", listed=False)


RECIPE = Recipe(
    "squares",
    "squares",
    options=DetectionOptions(),
    size=squares.SIDE,
    sizes=(squares.SIDE,),
    batch=16,
    replicas=1,
    epochs=3,
    start_rate=1e-3,
    peak_rate=5e-3,
    end_rate=1e-3,
    warm_up_steps=3,
    ema_momentum=0.5,
    average_best=1,
    mixed_precision="none",
)


def targets(seed, count):
    images, boxes, labels = squares.scenes(count, seed)
    objects = keras_parc.ssd_targets(boxes, labels, classes=2, max_boxes=4)
    return images, {"boxes": objects[..., :4], "labels": objects[..., 4].astype("int32")}


def run(folder, recipe=RECIPE, stop_at=None):
    """`fit` on scenes; `stop_at`: ask it to stop at this batch of all."""
    made = [0]

    def training(epoch, plan, start):
        def batches():
            for step in range(start, len(plan)):
                made[0] += 1
                if made[0] == stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield targets(1000 * epoch + step, plan[step][1])

        first = targets(0, 1)
        signature = tf.nest.map_structure(
            lambda each: tf.TensorSpec((None, *each.shape[1:]), each.dtype), first
        )
        return tf.data.Dataset.from_generator(batches, output_signature=signature)

    validation = tf.data.Dataset.from_tensor_slices(targets(1, 40)).batch(16)
    console = Console(quiet=True)
    return fit(recipe, training, validation, folder, examples=256, classes=2, console=console)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def test_it_learns_and_says_so(whole):
    folder, model = whole
    result = json.loads((folder / "result.json").read_text())
    first, *_, last = result["history"]
    assert last["loss"] < first["loss"] / 2
    assert last["val_map50"] > first["val_map50"]
    best = max(row["val_map"] for row in result["history"])
    assert result["validation"]["map"] == pytest.approx(best, rel=1e-6)
    assert 0.2 < best < result["validation"]["map50"] <= 1
    loaded = keras.models.load_model(folder / "model.keras")
    np.testing.assert_array_equal(keras_parc.ssd_anchors(loaded), keras_parc.ssd_anchors(model))


def test_a_stopped_run_ends_with_the_same_bits(whole, tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, stop_at=20)
    assert not (tmp_path / "model.keras").exists()
    model = run(tmp_path)
    for ours, theirs in zip(model.get_weights(), whole[1].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (tmp_path / "history.csv").read_text() == (whole[0] / "history.csv").read_text()


def test_the_loss_of_evaluation_is_that_of_all_images(whole):
    """A last batch that is not full counts image by image."""
    _, model = whole
    task = DetectionLearner(RECIPE, classes=2)
    data = tf.data.Dataset.from_tensor_slices(targets(1, 40))
    checks = []
    evaluate = task.evaluator(model, 16, lambda: checks.append(1))
    measured = evaluate(data.batch(16))
    assert len(checks) == 3
    assert set(measured) == {"loss", "map", "map50"}
    images, truth = targets(1, 40)
    objects = np.concatenate([truth["boxes"], truth["labels"][..., None]], -1).astype("float32")
    outputs, losses = model.predict(images, verbose=0), keras_parc.ssd_losses(model)
    expected = 0
    for some in (slice(0, 16), slice(16, 32), slice(32, 40)):
        values = [float(losses[k](objects[some], outputs[k][some])) for k in losses]
        expected += sum(values) * len(objects[some]) / 40
    assert measured["loss"] == pytest.approx(expected, rel=1e-5)


def test_recipes():
    """The published one is that of the authors' code."""
    coco = find_recipe("ssd_parc_net_s_coco")
    assert (coco.size, coco.batch * coco.replicas, coco.epochs) == (320, 128, 200)
    assert (coco.start_rate, coco.peak_rate, coco.end_rate) == (9e-5, 9e-4, 1e-6)
    assert (coco.warm_up_steps, coco.weight_decay) == (500, 0.02)
    assert coco.options == DetectionOptions(BoxAugmentation())
    assert coco.weights == "imagenet"
    assert Recipe.from_json(coco.to_json()) == coco
    assert override(coco, ["flip=0.25"]).options.augmentation.flip == 0.25
    digits = find_recipe("digit_scenes_detection")
    without = find_model(digits.model).variants["no_position"]
    model = DetectionLearner(digits, 10).averaged()
    plain = DetectionLearner(dataclasses.replace(digits, model_arguments=without), 10).averaged()
    assert keras_parc.ssd_anchors(model).shape == (4 * (64 + 16 + 4 + 1), 4)
    assert plain.count_params() < model.count_params()


def test_what_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"expected `sizes` of only 64, got \(64, 96\)"):
        dataclasses.replace(RECIPE, sizes=(64, 96))
    with pytest.raises(ValueError, match="`augmentation` must be a BoxAugmentation"):
        DetectionOptions(augmentation=find_recipe("digit_scenes").options.augmentation)
