"""COCO's mean average precision: known cases, `pycocotools` itself, a whole data set."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from keras_parc.data import digit_scene
from keras_parc.tasks.detection.measuring import coco_metrics, coco_results, evaluate_detector

IDS, NAMES = [1, 3], ["cat", "dog"]
NOTHING = {"boxes": np.zeros((0, 4)), "scores": [], "labels": []}


def truth(*boxes, labels=None, number=7, size=(100, 200), **more):
    labels = [0] * len(boxes) if labels is None else labels
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    return {"id": number, "size": size, "boxes": boxes, "labels": np.array(labels), **more}


def found(*boxes, scores=None, labels=None):
    count = len(boxes)
    return {
        "boxes": np.array(boxes, "float32").reshape(-1, 4),
        "scores": np.array([0.9] * count if scores is None else scores),
        "labels": np.array([0] * count if labels is None else labels),
    }


def measured(truths, detections):
    results = coco_results(
        [each["id"] for each in truths], [each["size"] for each in truths], detections, IDS
    )
    return coco_metrics(truths, results, IDS, NAMES)


SMALL, MEDIUM, LARGE = [0, 0, 0.3, 0.1], [0.4, 0.2, 0.9, 0.5], [0.0, 0.3, 1.0, 1.0]


def test_all_found_is_1():
    truths = [
        truth(SMALL, MEDIUM, labels=[0, 1], number=3),
        truth(LARGE, labels=[1], number=9, size=(300, 100)),
        truth(number=4),
    ]
    detections = [found(MEDIUM, SMALL, labels=[1, 0]), found(LARGE, labels=[1]), NOTHING]
    metrics = measured(truths, detections)
    for name in ("map", "map50", "map75", "map_small", "map_medium", "map_large"):
        assert metrics[name] == pytest.approx(1), name
    assert metrics["per_class"] == {"cat": pytest.approx(1), "dog": pytest.approx(1)}


@pytest.mark.parametrize(("iou", "thresholds"), [(0.52, 1), (0.61, 3), (0.78, 6), (0.96, 10)])
def test_a_detection_counts_up_to_its_overlap(iou, thresholds):
    """0.61 is enough at 0.5, 0.55 and 0.6, and not at the seven above."""
    box = [0.1, 0.1, 0.9, 0.5]
    part = [0.1, 0.1, 0.1 + 0.8 * iou, 0.5]
    metrics = measured([truth(box)], [found(part)])
    assert metrics["map"] == pytest.approx(thresholds / 10)
    assert metrics["map50"] == pytest.approx(1)
    assert metrics["map75"] == pytest.approx(float(iou > 0.75))


def test_one_of_two_found_beside_a_mistake():
    """Precision 1/2 up to recall 1/2, of the 101 points 0, 0.01 ... 1; with the mistake last, 1."""
    elsewhere = [0.0, 0.8, 0.1, 1.0]
    for scores, precision in (([0.5, 0.9], 0.5), ([0.9, 0.5], 1.0)):
        metrics = measured([truth(MEDIUM, SMALL)], [found(MEDIUM, elsewhere, scores=scores)])
        assert metrics["map"] == pytest.approx(precision * 51 / 101)


def test_classes_are_kept_apart():
    metrics = measured([truth(MEDIUM, labels=[0])], [found(MEDIUM, labels=[1])])
    assert metrics["per_class"] == {"cat": 0.0, "dog": None}
    assert metrics["map"] == 0


def test_crowds_count_neither_way():
    crowd = {"crowd": np.array([False, True])}
    detections = [found(MEDIUM, LARGE, LARGE, scores=[0.5, 0.9, 0.8])]
    assert measured([truth(MEDIUM, LARGE, **crowd)], detections)["map"] == pytest.approx(1)
    # Without the flag, the second find of the large box is a mistake.
    assert measured([truth(MEDIUM, LARGE)], detections)["map"] < 0.9
    only = measured([truth(MEDIUM, LARGE, crowd=np.array([True, True]))], detections)
    assert only["map"] is None


def test_nothing_found_is_0():
    metrics = measured([truth(SMALL, MEDIUM)], [NOTHING])
    assert (metrics["map"], metrics["map50"], metrics["per_class"]["cat"]) == (0, 0, 0)


def test_no_objects_at_all_have_no_precision():
    for detections in ([NOTHING], [found(MEDIUM)]):
        metrics = measured([truth()], detections)
        assert metrics.pop("per_class") == {"cat": None, "dog": None}
        assert set(metrics.values()) == {None}


def test_the_area_of_the_outline_decides_the_size():
    """A box of 5,000 pixels around an outline of 900: small, as in COCO's own evaluation."""
    box, area = [0.0, 0.0, 0.5, 0.5], {"area": np.array([900.0])}
    assert measured([truth(box, **area)], [found(box)])["map_small"] == pytest.approx(1)
    without = measured([truth(box, area=np.array([-1.0]))], [found(box)])
    assert (without["map_small"], without["map_medium"]) == (None, pytest.approx(1))


def test_boxes_are_scaled_and_clipped():
    (result,) = coco_results([5], [(100, 200)], [found([-0.1, 0.25, 0.5, 1.5], labels=[1])], IDS)
    assert (result["image_id"], result["category_id"]) == (5, 3)
    np.testing.assert_allclose(result["bbox"], [50, 0, 150, 50], atol=1e-4)
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (found([0, 0, np.nan, 1]), "not a number"),
        (found(MEDIUM, scores=[np.inf]), "not a number"),
        (found(MEDIUM, labels=[2]), "Labels must be 0 to 1"),
        (found(MEDIUM, labels=[-1]), "Labels must be 0 to 1"),
        (found(MEDIUM, scores=[0.5, 0.5]), "as many boxes as scores"),
    ],
)
def test_wrong_detections(wrong, words):
    with pytest.raises(ValueError, match=words):
        measured([truth(MEDIUM)], [wrong])


def test_no_images_and_unknown_images():
    with pytest.raises(ValueError, match="no images"):
        coco_metrics([], [], IDS, NAMES)
    stranger = {"image_id": 8, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
    with pytest.raises(ValueError, match=r"images that are not there: \[8\]"):
        coco_metrics([truth(MEDIUM)], [stranger], IDS, NAMES)


def test_the_figures_are_those_of_pycocotools_on_files(tmp_path):
    """Random scenes and finds with ties, duplicates, crowds: written down and read by COCO."""
    rng = np.random.default_rng(0)
    truths, detections, objects = [], [], []
    for number in range(30):
        size, count = rng.integers(50, 400, 2), rng.integers(5)
        low = rng.uniform(0, 0.6, (count, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.05, 0.4, (count, 2))], 1)
        labels, crowd = rng.integers(0, 2, count), rng.random(count) < 0.2
        truths.append(truth(*boxes, labels=labels, number=number, size=size, crowd=crowd))
        near = np.repeat(boxes, 2, 0) + rng.normal(0, 0.02, (2 * count, 4))
        scores = np.round(rng.random(2 * count), 1)
        detections.append(found(*near, scores=scores, labels=np.repeat(labels, 2)))
        for box, label, flag in zip(truths[-1]["boxes"].astype(float), labels, crowd, strict=True):
            top, left, bottom, right = box * np.tile(size, 2)
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": number,
                    "category_id": IDS[label],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": int(flag),
                }
            )
    file = {
        "info": {},
        "images": [{"id": number} for number in range(30)],
        "categories": [{"id": number} for number in IDS],
        "annotations": objects,
    }
    (tmp_path / "truth.json").write_text(json.dumps(file))
    results = coco_results(range(30), [each["size"] for each in truths], detections, IDS)
    (tmp_path / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        there = COCO(str(tmp_path / "truth.json"))
        theirs = COCOeval(there, there.loadRes(str(tmp_path / "results.json")), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    ours = coco_metrics(truths, results, IDS, NAMES)
    names = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
    figures = [-1 if ours[name] is None else ours[name] for name in names]
    np.testing.assert_allclose(figures, theirs.stats[:6], rtol=1e-9)
    assert 0.1 < ours["map"] < 0.9


# --- a whole data set -------------------------------------------------------------------------


def knowing(share):
    """A detector that knows the answers, and leaves all images but the first `share` of them."""
    seen = 0

    def detect(images):
        nonlocal seen
        assert images.shape[1:] == (64, 64, 3)
        answers = []
        for _ in images:
            scene = digit_scene(seen, "test", "tiny")
            boxes = {"boxes": scene.boxes, "labels": scene.labels, "scores": scene.labels * 0 + 0.5}
            answers.append(boxes if seen < share else NOTHING)
            seen += 1
        return answers

    return detect


def test_a_data_set(tmp_path):
    path = tmp_path / "new" / "results.json"
    metrics = evaluate_detector(
        knowing(100), "digit_scenes/tiny", "test", size=64, batch_size=32, results_path=path
    )
    assert metrics["map"] == pytest.approx(1)
    assert set(metrics["per_class"]) == set("0123456789")
    assert (metrics["images"], metrics["detections"]) == (100, 100)
    assert metrics["model_images_per_second"] >= metrics["images_per_second"] > 0
    results = json.loads(path.read_text())
    assert [each["image_id"] for each in results] == list(range(100))
    scene = digit_scene(8, "test", "tiny")
    top, left, bottom, right = scene.boxes[0] * 48.0
    assert results[8]["category_id"] == scene.label + 1
    np.testing.assert_allclose(results[8]["bbox"], [left, top, right - left, bottom - top])
    half = evaluate_detector(knowing(50), "digit_scenes/tiny", "test", size=64)
    assert 0.4 < half["map"] < 0.6


def test_a_detector_that_does_not_answer_each_image(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(ValueError, match="gave 1 results for 10 images"):
        evaluate_detector(
            lambda images: [NOTHING], "digit_scenes/tiny", "test[:10]", size=64, results_path=path
        )
    assert not path.exists()
