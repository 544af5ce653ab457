"""Detectors as `.tflite` detector_files: the same boxes, one partition, wrong input."""

import sys

import numpy as np
import pytest
from clients import TOOLS, command
from PIL import Image

import keras_parc
import squares
from keras_parc.lite.file import flatbuffer
from keras_parc.tasks.detection.measuring import measure_detections
from keras_parc.tasks.detection.predicting import detector_of

OPERATION = "TFLite_Detection_PostProcess"


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_same_boxes_as_keras(detector_files, found_by_keras, quantize):
    images, theirs = found_by_keras
    found = keras_parc.TFLiteDetector(detector_files[quantize, False])(images)
    overlaps, differences = squares.paired(found, theirs)
    assert len(overlaps) >= 24
    assert overlaps.min() >= (0.95 if quantize else 0.9999)
    assert differences.max() <= (0.1 if quantize else 1e-4)
    extra, _ = squares.paired(theirs, found)
    assert extra.min() >= (0.95 if quantize else 0.9999)
    counts = [
        (len(ours["labels"]), len(each["labels"])) for ours, each in zip(found, theirs, strict=True)
    ]
    assert (0, 0) in counts
    assert all(ours == 0 for ours, each in counts if each == 0)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_as_precise_as_keras(detector_files, quantize):
    """COCO's mean average precision of what scores 0.5 or more."""
    model, _ = squares.detector()
    images, boxes, labels = squares.scenes(64, seed=3)
    truths = [{"boxes": each, "labels": some} for each, some in zip(boxes, labels, strict=True)]
    file = keras_parc.TFLiteDetector(detector_files[quantize, False])
    keras_finds = detector_of(model, score_threshold=0.5, max_boxes=10)(images)
    ours, theirs = (
        measure_detections(truths, found, images.shape[1:3], squares.LABELS)["map"]
        for found in (file(images), keras_finds)
    )
    assert theirs > 0.5
    assert ours == pytest.approx(theirs, abs=0.01 if quantize else 1e-4)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_what_is_in_the_file(detector_files, quantize):
    facts = keras_parc.inspect(detector_files[quantize, False])
    assert (facts.partitions, facts.outside) == (1, {OPERATION: 1})
    assert facts.output_dtypes == ("float32",) * 4
    raw = keras_parc.inspect(detector_files[quantize, True])
    assert (raw.partitions, raw.outside, raw.output_dtypes) == (1, {}, ("float32",) * 2)
    file = flatbuffer.read(detector_files[quantize, False].read_bytes())
    graph = file.subgraphs[0]
    shapes = [graph.tensors[number].shape.tolist() for number in graph.outputs]
    assert shapes == [[1, 10, 4], [1, 10], [1, 10], [1]]
    names = [entry.name.decode() for entry in file.signatureDefs[0].outputs]
    assert names == ["boxes", "classes", "scores", "count"]
    for each in detector_files.values():
        assert keras_parc.read_metadata(each) == squares.METADATA


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_raw_outputs(detector_files, found_by_keras, quantize):
    """Deltas and probabilities without the background: decoded, they are Keras's boxes."""
    images, theirs = found_by_keras
    model, _ = squares.detector()
    interpreter = keras_parc.lite.file.runtime.open_file(detector_files[quantize, True])
    run = interpreter.get_signature_runner()
    (name,) = run.get_input_details()
    values = [run(**{name: image[None]}) for image in images]
    deltas, scores = (np.concatenate([each[k] for each in values]) for k in ("boxes", "scores"))
    assert scores.shape[-1] == 2
    # Back to logits, so that the one decoder serves.
    scores = np.concatenate([1 - scores.sum(-1, keepdims=True), scores], -1)
    outputs = {"boxes": deltas, "scores": np.log(np.maximum(scores, 1e-30))}
    found = keras_parc.detections(
        outputs, keras_parc.ssd_anchors(model), score_threshold=0.5, max_boxes=10
    )
    overlaps, _ = squares.paired(found, theirs)
    assert overlaps.min() >= (0.95 if quantize else 0.9999)


def test_a_parc_net_is_one_partition(tmp_path):
    backbone = keras_parc.ParCNetTiny(
        include_top=False, input_shape=(64, 96, 3), include_preprocessing=True
    )
    model = keras_parc.SSDLite(backbone, classes=3)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3)).astype("float32")
    path = tmp_path / "int8.tflite"
    keras_parc.to_tflite(model, path, quantize="int8", calibration=images, io="uint8")
    facts = keras_parc.inspect(path)
    assert facts.partitions == 1
    assert facts.outside == {OPERATION: 1}
    assert facts.input_dtype == "uint8"
    assert facts.output_dtypes == ("float32",) * 4
    assert len(keras_parc.TFLiteDetector(path)(images)) == 4


def test_slots_past_the_count_are_not_read(detector_files, found_by_keras, monkeypatch):
    """Whatever the runtime left there."""
    images, _ = found_by_keras
    detector = keras_parc.TFLiteDetector(detector_files[None, False])
    before = detector(images[1:2])[0]
    count, value = len(before["labels"]), detector._value
    assert 0 < count < 10

    def poisoned(output):
        values = np.array(value(output))
        if values.ndim:
            values[count:] = np.nan
        return values

    monkeypatch.setattr(detector, "_value", poisoned)
    after = detector(images[1:2])[0]
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_device_tool(detector_files, found_by_keras, quantize, tmp_path):
    """run.py prints the boxes in pixels of the picture, and nothing where there is nothing."""
    images, theirs = found_by_keras
    number = 1
    Image.fromarray(images[number].astype("uint8")).resize((128, 64), 0).save(tmp_path / "a.png")
    empty = next(i for i, each in enumerate(theirs) if not len(each["labels"]))
    Image.fromarray(images[empty].astype("uint8")).save(tmp_path / "b.png")
    arguments = [
        tmp_path / "a.png",
        tmp_path / "b.png",
        detector_files[quantize, False],
        "--top",
        1,
    ]
    done = command(sys.executable, TOOLS / "run.py", *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    best = theirs[number]
    label = squares.LABELS[best["labels"][0]]
    y0, x0, y1, x1 = (best["boxes"][0] * [64, 128, 64, 128]).round()
    score, *words = lines[1].split()
    assert words[0] == label
    assert abs(float(score) - best["scores"][0]) < (0.1 if quantize else 0.02)  # resized twice
    printed = [float(word.rstrip(",")) for word in words if word.rstrip(",").lstrip("-").isdigit()]
    np.testing.assert_allclose(printed, [x0, x1, y0, y1], atol=3 if quantize else 1)
    assert lines[3].strip() == "nothing found"
    done = command(
        sys.executable, TOOLS / "run.py", tmp_path / "a.png", detector_files[quantize, True]
    )
    assert done.returncode == 2
    assert "the model has 2" in done.stderr


def test_wrong_arguments(tmp_path):
    model = squares.new_detector()
    classifier = keras_parc.ParCNetTiny(
        input_shape=(32, 32, 3), classes=2, include_preprocessing=False
    )
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match="`max_boxes` must be at least 1, got 0"):
        keras_parc.Postprocess(max_boxes=0)
    with pytest.raises(ValueError, match="`iou_threshold` must be 0 to 1, got 2"):
        keras_parc.Postprocess(iou_threshold=2)
    with pytest.raises(ValueError, match="`postprocess` is for an `SSDLite`"):
        keras_parc.to_tflite(classifier, path, postprocess=keras_parc.Postprocess())
    with pytest.raises(
        ValueError, match="for the task 'classification', which 'ssd_lite' does not do"
    ):
        keras_parc.to_tflite(model, path, metadata=keras_parc.Metadata(labels=squares.LABELS))
    wrong = keras_parc.Metadata(task="detection", labels=["a"])
    with pytest.raises(ValueError, match="has 1 labels, but 'ssd_lite' has 2 classes"):
        keras_parc.to_tflite(model, path, metadata=wrong)
    assert not list(tmp_path.iterdir())
    keras_parc.to_tflite(classifier, path)
    with pytest.raises(ValueError, match="is not a detector with post-processing inside"):
        keras_parc.TFLiteDetector(path)
