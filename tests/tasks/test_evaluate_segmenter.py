"""Mean IoU, against counting by hand; the authors' protocol and the native one."""

import keras
import numpy as np
import pytest

import keras_parc
from keras_parc.support.class_maps import painted, palette
from keras_parc.tasks.segmentation.measuring import (
    class_map,
    confusion_matrix,
    evaluate_segmenter,
    intersections_over_unions,
)


def test_counts_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 5, (6, 7)), rng.integers(0, 5, (6, 7))
    truth[0] = 255
    expected = np.zeros((5, 5), int)
    for row, column in np.ndindex(truth.shape):
        if truth[row, column] != 255:
            expected[truth[row, column], found[row, column]] += 1
    np.testing.assert_array_equal(confusion_matrix(truth, found, 5), expected)
    ious = intersections_over_unions(expected)
    counted = truth != 255
    for label in range(5):
        there, seen = (truth == label) & counted, (found == label) & counted
        assert ious[label] == (there & seen).sum() / (there | seen).sum()
    metric = keras.metrics.MeanIoU(5, ignore_class=255)
    metric.update_state(truth, found)
    assert float(metric.result()) == pytest.approx(ious.mean(), rel=1e-6)


def test_a_class_that_does_not_occur_has_no_iou():
    ious = intersections_over_unions(confusion_matrix(np.array([0, 1]), np.array([0, 0]), 3))
    assert ious[:2].tolist() == [0.5, 0.0]
    assert np.isnan(ious[2])


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [([0, 1], [0], "was expected"), ([0, 5], [0, 1], "0 to 2"), ([0, 1], [0, 3], "0 to 2")],
)
def test_what_cannot_be_counted(truth, found, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(truth), np.array(found), 3)


def test_the_two_ways_to_the_size_of_the_image():
    logits = np.random.default_rng(0).standard_normal((4, 4, 3)).astype("float32")
    large = keras.ops.convert_to_numpy(keras.ops.image.resize(logits, (16, 16)))
    expected = np.empty((10, 21), int)
    for row, column in np.ndindex(expected.shape):  # PyTorch's "nearest"
        expected[row, column] = large[row * 16 // 10, column * 16 // 21].argmax()
    np.testing.assert_array_equal(class_map(logits, (10, 21), (16, 16)), expected)
    native = keras.ops.convert_to_numpy(keras.ops.image.resize(logits, (10, 21))).argmax(-1)
    np.testing.assert_array_equal(class_map(logits, (10, 21)), native)
    assert (native != expected).any()


@pytest.fixture(scope="module")
def oracle():
    """Finds dark and light; in a set of ten digits it sees only the background and the 0."""
    image = keras.Input((48, 48, 3))
    grey = keras.layers.Rescaling(1.0)(image)
    grey = keras.ops.mean(grey, -1, keepdims=True)
    others = keras.ops.repeat(keras.ops.zeros_like(grey) - 1000.0, 9, axis=-1)
    return keras.Model(image, keras.ops.concatenate([grey, 255.0 - grey, others], -1))


def test_a_whole_set(oracle, tiny_scenes, tmp_path):
    found = {
        protocol: evaluate_segmenter(
            *(oracle, "digit_scenes/tiny", "test[:20]"),
            **{"protocol": protocol, "data_dir": tiny_scenes, "input_range": "0..255"},
        )
        for protocol in ("authors", "native")
    }
    # At the size of the images both are the same: count again by hand.
    from keras_parc.data import digit_scene

    total = np.zeros((11, 11), int)
    for index in range(20):
        scene = digit_scene(index, "test", "tiny")
        total += confusion_matrix(scene.mask, scene.image.mean(-1) < 127.5, 11)
    expected = np.nanmean(intersections_over_unions(total))
    for result in found.values():
        assert result["miou"] == pytest.approx(expected, abs=1e-3)
        assert result["images"] == 20
        assert result["classes"] == 11
    assert found["native"]["iou"]["background"] > 0
    with pytest.raises(ValueError, match="`protocol` must be one of"):
        evaluate_segmenter(oracle, "digit_scenes/tiny", protocol="mine")
    path = keras_parc.to_tflite(oracle, tmp_path / "oracle.tflite", input_range="0..255")
    of_file = evaluate_segmenter(
        keras_parc.TFLiteModel(path), "digit_scenes/tiny", "test[:20]", data_dir=tiny_scenes
    )
    assert of_file["miou"] == pytest.approx(found["authors"]["miou"], abs=1e-3)


def test_a_model_of_other_classes_is_refused(tiny_scenes):
    image = keras.Input((48, 48, 3))
    three = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    with pytest.raises(ValueError, match=r"has 3 classes, but .* has 11"):
        evaluate_segmenter(three, "digit_scenes/tiny", "test", data_dir=tiny_scenes)
    pooled = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    with pytest.raises(ValueError, match="is not a segmenter"):
        evaluate_segmenter(pooled, "digit_scenes/tiny", "test", data_dir=tiny_scenes)


def test_colours_of_voc():
    # Of the development kit: aeroplane, bicycle, person, tvmonitor, and the outline of 255.
    colours = palette(256)
    expected = {1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    expected[255] = (224, 224, 192)
    for number, colour in expected.items():
        assert tuple(colours[number].tolist()) == colour
    with pytest.raises(ValueError, match="pixels"):
        painted(np.zeros((4, 4, 3)), np.zeros((4, 5), int))
