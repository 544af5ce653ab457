"""SSDLite against the authors' detector, on other backbones, and in training."""

import functools
import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_parc
from keras_parc import boxes, ssd_lite
from keras_parc.weights.names import load_state_dict
from reference import TOLERANCE, error, image, outputs, state_dict

XYWH = [1, 0, 3, 2]  # the authors' order: x, y, width, height
SIZES = (320, 256)
numpy = ops.convert_to_numpy


@functools.cache
def detector(size):
    model = keras_parc.SSDParCNetS(input_shape=(size, size, 3))
    load_state_dict(model, state_dict("ssd_parcnet_s"))
    return model


@functools.cache
def found(size):
    result = detector(size)(image(size), training=False)
    return {name: numpy(value) for name, value in result.items()}


def stored(size):
    golden = outputs("ssd_parcnet_s")
    return {key.split("/", 1)[1]: golden[key] for key in golden if key.startswith(f"S{size}/")}


def golden_objects(golden):
    """The made-up objects as this package has them."""
    return golden["match/gt_boxes_corner"][..., XYWH], golden["match/gt_labels"] - 1


@pytest.mark.any_backend
@pytest.mark.parametrize("size", SIZES)
def test_outputs_and_anchors(size):
    golden = stored(size)
    assert error(found(size)["scores"], golden["scores"]) <= TOLERANCE
    assert error(found(size)["boxes"][..., XYWH], golden["locations"]) <= TOLERANCE
    assert error(keras_parc.ssd_anchors(detector(size))[:, XYWH], golden["anchors"]) <= TOLERANCE


def check_matching(golden, anchors):
    deltas, labels = boxes.match(*golden_objects(golden), anchors)
    deltas, labels = numpy(deltas), numpy(labels)
    np.testing.assert_array_equal(labels, golden["match/target_labels"])
    np.testing.assert_array_equal(np.argwhere(labels), golden["match/pos_index"])
    targets = deltas[labels > 0][:, XYWH]
    assert error(targets, golden["match/pos_target_boxes"]) <= TOLERANCE


@pytest.mark.any_backend
@pytest.mark.parametrize("size", SIZES)
def test_matching(size):
    check_matching(stored(size), stored(size)["anchors"][:, XYWH])


def losses(size, predicted):
    some, labels = golden_objects(stored(size))
    objects = np.concatenate([some, labels[..., None]], -1)
    # Two objects of padding change nothing.
    padding = np.tile(np.float32([0, 0, 0, 0, -1]), (2, 2, 1))
    objects = np.concatenate([padding, objects], 1)
    return {
        name: float(loss(objects, predicted[name]))
        for name, loss in keras_parc.ssd_losses(detector(size)).items()
    }


@pytest.mark.any_backend
@pytest.mark.parametrize("size", SIZES)
def test_loss(size):
    golden = stored(size)
    for predicted in (
        found(size),
        {"boxes": golden["locations"][..., XYWH], "scores": golden["scores"]},
    ):
        assert error(sum(losses(size, predicted).values()), golden["loss"]) <= TOLERANCE


@pytest.mark.parametrize("threshold", ["0.05", "0.01"])
@pytest.mark.parametrize("size", SIZES)
def test_detections(size, threshold):
    golden = stored(size)
    predicted = {"boxes": golden["locations"][:1, :, XYWH], "scores": golden["scores"][:1]}
    anchors = golden["anchors"][:, XYWH]
    (result,) = keras_parc.detections(predicted, anchors, score_threshold=float(threshold))
    assert (np.diff(result["scores"]) <= 0).all()
    order = np.argsort(result["labels"], kind="stable")
    labels, scores, corners = (
        golden[f"predict_{threshold}/{name}"] for name in ("labels", "scores", "boxes")
    )
    np.testing.assert_array_equal(result["labels"][order] + 1, labels)
    assert error(result["scores"][order], scores) <= TOLERANCE
    # Boxes of nearly one score, or of nearly the least overlap, may change places.
    off = np.abs(result["boxes"][order][:, XYWH] - corners).max(1) > TOLERANCE * corners.max()
    assert off.mean() < 2e-3
