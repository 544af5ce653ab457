"""SSDLite against the authors' detector, on other backbones, and in training."""

import functools
import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_parc
import squares
from keras_parc.models import boxes
from keras_parc.models import losses as loss_classes
from keras_parc.weights import names
from keras_parc.weights.names import load_state_dict
from reference import TOLERANCE, error, image, outputs, state_dict

XYWH = [1, 0, 3, 2]  # the authors' order: x, y, width, height
SIZES = (320, 256)
numpy = ops.convert_to_numpy


@functools.cache
def detector(size):
    model = keras_parc.SSDParCNetS(input_shape=(size, size, 3), include_preprocessing=False)
    load_state_dict(model, state_dict("ssd_parcnet_s"), names.ssd_parc_net)
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


def same_matching(golden, anchors):
    deltas, labels = map(numpy, boxes.match(*golden_objects(golden), anchors))
    targets = deltas[labels > 0][:, XYWH]
    return (
        np.array_equal(labels, golden["match/target_labels"])
        and np.array_equal(np.argwhere(labels), golden["match/pos_index"])
        and error(targets, golden["match/pos_target_boxes"]) <= TOLERANCE
    )


@pytest.mark.any_backend
@pytest.mark.parametrize("size", SIZES)
def test_matching(size):
    assert same_matching(stored(size), stored(size)["anchors"][:, XYWH])


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


def test_mistakes_are_noticed(monkeypatch):
    golden = stored(256)
    anchors = golden["anchors"][:, XYWH]

    def unclipped(self, *arguments):
        with monkeypatch.context() as patched:
            patched.setattr(np, "clip", lambda values, low, high: values)
            return laid_out(self, *arguments)

    laid_out = boxes.Anchors.on
    with monkeypatch.context() as patched:
        patched.setattr(boxes.Anchors, "on", unclipped)
        wrong = keras_parc.ssd_anchors(detector(256))
    assert error(wrong, anchors) > TOLERANCE
    for name, value in (("MATCH_IOU", 0.45), ("VARIANCE", (0.1, 0.1, 0.1, 0.1))):
        with monkeypatch.context() as patched:
            patched.setattr(boxes, name, value)
            assert not same_matching(golden, anchors)
    assert not same_matching(golden, golden["anchors"])  # x before y
    monkeypatch.setattr(loss_classes, "NEGATIVES", 2)
    assert error(sum(losses(256, found(256)).values()), golden["loss"]) > TOLERANCE


# Parameters and multiply-adds at 320x320, counted on the authors' code.
COUNTS = [
    (keras_parc.ParCNetS, {}, 5_197_282, 2_747_360_544),
    (keras_parc.ParCNetS, {"position_embedding": False}, 5_171_682, 2_747_360_544),
    (keras_parc.MobileViTS, {}, 5_738_826, 3_426_732_960),
]


@pytest.mark.parametrize(("build", "ablation", "count", "macs"), COUNTS)
def test_counts(build, ablation, count, macs):
    model = keras_parc.SSDLite(build(include_top=False, input_shape=(320, 320, 3), **ablation))
    assert sum(math.prod(v.shape) for v in model.trainable_variables) == count
    assert keras_parc.count_macs(model) == pytest.approx(macs, rel=1e-9)


def mobilenet(include_top, input_shape):
    return keras.applications.MobileNetV2(
        include_top=include_top, input_shape=input_shape, weights=None, alpha=0.35
    )


FOREIGN = {"feature_names": ("block_13_expand_relu", "out_relu")}
BACKBONES = [
    (keras_parc.ParCNetTiny, {}),
    (keras_parc.MobileViTS, {}),
    (keras_parc.ParCMobileNetV2, {}),
    (keras_parc.ParCResNet50, {"feature_names": ("P3", "P4", "P5"), "projections": (32, 32, 32)}),
    (mobilenet, FOREIGN),
]


FAST = (keras_parc.ParCNetTiny, mobilenet)


@pytest.mark.parametrize(
    ("build", "options"),
    [
        pytest.param(build, options, marks=[] if build in FAST else pytest.mark.slow)
        for build, options in BACKBONES
    ],
)
def test_any_backbone_and_size(build, options, tmp_path):
    """Anchors fit the outputs of a rectangle, whether the sides were known or not."""
    if "projections" in options:
        options = options | {"extra_channels": (32, 32, 32)}
    model, flexible = (
        keras_parc.SSDLite(build(include_top=False, input_shape=shape), classes=3, **options)
        for shape in ((64, 96, 3), (None, None, 3))
    )
    flexible.set_weights(model.get_weights())
    x = np.random.default_rng(0).random((1, 64, 96, 3), "float32")
    here, there = model(x, training=False), flexible(x, training=False)
    for name, values in (("boxes", 4), ("scores", 4)):
        assert error(numpy(there[name]), numpy(here[name])) <= TOLERANCE
        assert model.output[name].shape == (None, here[name].shape[1], values)
    anchors = keras_parc.ssd_anchors(model)
    np.testing.assert_array_equal(keras_parc.ssd_anchors(flexible, (64, 96)), anchors)
    assert anchors.shape == here["boxes"].shape[1:]
    (result,) = keras_parc.detections(there, anchors, max_boxes=7)
    assert len(result["labels"]) == 7
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras_parc.ssd_anchors(loaded), anchors)
    assert error(numpy(loaded(x)["boxes"]), numpy(here["boxes"])) <= TOLERANCE


def test_anchors_of_a_rectangle_lie_in_their_cells():
    grid = keras_parc.Anchors(((2,), ()), smallest=0.2, largest=0.8).on([(2, 3), (1, 1)])
    assert grid.shape == (2 * 3 * 4 + 2, 4)
    cells = grid[:24].reshape(2, 3, 4, 4)
    np.testing.assert_allclose(cells[1, 2, 0], [3 / 4, 5 / 6, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(cells[0, 0, 2], [1 / 4, 1 / 6, 0.2 / 2**0.5, 0.2 * 2**0.5], 1e-6)
    np.testing.assert_allclose(grid[-1], [0.5, 0.5, 0.4**0.5, 0.4**0.5], rtol=1e-6)


@pytest.mark.any_backend
def test_matching_of_what_has_no_anchor_of_its_own():
    """Every object gets an anchor; padding and boxes without an area get none."""
    anchors = keras_parc.Anchors().on([(4, 4), (2, 2), (1, 1), (1, 1), (1, 1), (1, 1)])
    tiny = [[0.11, 0.11, 0.13, 0.12], [0.11, 0.11, 0.14, 0.12], [0.5, 0.5, 0.5, 0.9]]
    objects = np.float32([[*tiny, [0, 0, 1, 1]]])
    _, labels = boxes.match(objects, np.array([[4, 7, 2, -1]]), anchors)
    assert set(np.unique(numpy(labels))) <= {0, 5, 8}
    assert 8 in numpy(labels)  # both claim one anchor: the last has it
    deltas, labels = boxes.match(objects, np.array([[-1, -1, -1, 3]]), anchors)
    assert set(np.unique(numpy(labels))) == {0, 4}
    back = numpy(boxes.decode(deltas, anchors))[numpy(labels) > 0]
    np.testing.assert_allclose(back, np.tile([0, 0, 1, 1], (len(back), 1)), atol=1e-5)
    _, labels = boxes.match(objects, np.full((1, 4), -1), anchors)
    assert not numpy(labels).any()


@pytest.mark.any_backend
def test_training_finds_squares():
    """`compile` and `fit` with the losses, an image without objects in each batch."""
    model, losses = squares.detector()
    assert losses[-1] < losses[0] / 4
    images, some, labels = squares.scenes(64, seed=1)
    results = keras_parc.detections(
        model.predict(images, verbose=0),
        keras_parc.ssd_anchors(model),
        score_threshold=0.5,
        max_boxes=1,
    )
    right = 0
    for result, box, label in zip(results, some, labels, strict=True):
        if len(box):
            same = result["labels"].tolist() == label
            right += same and squares.overlap(result["boxes"], box)[0] > 0.6
        else:
            right += not len(result["labels"])
    assert right > 56


def test_a_loss_is_saved_with_its_model():
    loss = keras_parc.ssd_losses(detector(256))["scores"]
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()


def test_wrong_arguments():
    backbone = keras_parc.ParCNetTiny(
        include_top=False, input_shape=(32, 32, 3), include_preprocessing=False
    )
    foreign = mobilenet(False, (32, 32, 3))
    image = keras.Input((32, 32, 3))
    unknown = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    wrong = [
        ((backbone, 0), {}, "`classes` must be a whole number of at least 1, got 0"),
        ((backbone,), {"projections": (8,)}, "must be 2 numbers of channels"),
        ((backbone,), {"extra_channels": (8, 0)}, "must be at least 1"),
        ((backbone,), {"anchors": keras_parc.Anchors(((2,),) * 3)}, "for 3 feature maps, but"),
        ((unknown,), {}, "has the feature maps of no registered model"),
        ((foreign,), {"feature_names": ("Conv1", "end")}, r"has no layers \['end'\]"),
        ((keras.Sequential(),), {}, "must be a functional model of one image"),
    ]
    for arguments, options, message in wrong:
        with pytest.raises(ValueError, match=message):
            keras_parc.SSDLite(*arguments, **options)
    with pytest.raises(ValueError, match="at least 32, got 0"):
        keras_parc.SSDParCNetS(input_shape=(0, 320, 3), include_preprocessing=False)
    with pytest.raises(ValueError, match="SSDParCNetS has no pretrained"):
        keras_parc.SSDParCNetS(weights="imagenet", include_preprocessing=False)
    with pytest.raises(ValueError, match=r"is no `keras_parc\.SSDLite`"):
        keras_parc.ssd_anchors(backbone)
    with pytest.raises(ValueError, match=r"is built for images of \(256, 256\)"):
        keras_parc.ssd_anchors(detector(256), (320, 320))
    with pytest.raises(ValueError, match=r"There are 5 anchors, the outputs are"):
        keras_parc.detections(found(256), np.zeros((5, 4)))
    for options in (
        {"score_threshold": 2},
        {"iou_threshold": -1},
        {"per_class": 0},
        {"max_boxes": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            keras_parc.detections({}, np.zeros((5, 4)), **options)


def test_wrong_anchors():
    for ratios in ((), (2, 3), ((1.0,),), ((np.nan,),)):
        with pytest.raises(ValueError, match="`aspect_ratios` must be a list of ratios"):
            keras_parc.Anchors(ratios)
    with pytest.raises(ValueError, match="0 < smallest < largest"):
        keras_parc.Anchors(smallest=0.9, largest=0.2)
    with pytest.raises(ValueError, match="for 6 feature maps, there are 2"):
        keras_parc.Anchors().on([(2, 2), (1, 1)])
    with pytest.raises(ValueError, match="known sides of at least 1"):
        keras_parc.Anchors(((2,),)).on([(0, 2)])


WRONG_OBJECTS = [
    ([[[0.1, np.nan, 0.5, 0.5]]], [[0]], "Image 0 has a box that is not finite"),
    ([[], [[10, 10, 50, 50]]], [[], [0]], "Image 1 has a box that is not finite or not within"),
    ([[[0.1, 0.1, 0.1, 0.5]]], [[0]], "a box without an area"),
    ([[[0.1, 0.1, 0.5, 0.5]]], [[2]], "labels .2.; expected whole numbers from 0 to 1"),
    ([[[0.1, 0.1, 0.5, 0.5]]], [[-1]], "labels .-1.; expected"),
    ([[[0.1, 0.1, 0.5, 0.5]]], [[0, 1]], r"expected \(objects, 4\) and"),
    ([[[0.1, 0.1, 0.5]]], [[0]], r"expected \(objects, 4\) and"),
    ([[[0.1, 0.1, 0.5, 0.5]] * 3], [[0] * 3], "has 3 objects, more than 2"),
    ([[]], [], "boxes of 1 images and labels of 0"),
]


@pytest.mark.parametrize(("some", "labels", "message"), WRONG_OBJECTS)
def test_wrong_objects(some, labels, message):
    with pytest.raises(ValueError, match=message):
        keras_parc.ssd_targets(some, labels, classes=2, max_boxes=2)
