"""Figures of a report beside the same worked out by hand, for models whose answers are known."""

import io

import numpy as np
import pytest
from known_answers import SIDE, Known, folder, in_order, models
from PIL import Image
from rich.console import Console

from keras_parc.data.sets.found import Box
from keras_parc.tasks.analysis import Gallery, Matrix, Table, bootstrap
from keras_parc.tasks.classification.analysis import analyse as analyse_classifiers
from keras_parc.tasks.detection import analysis as detection
from keras_parc.tasks.detection.matches import Matches
from keras_parc.tasks.segmentation.analysis import analyse as analyse_segmenters

QUIET = Console(quiet=True)
NAMES = ["cat", "dog", "bird"]
# Of six images the class, and what the models say; there is no bird.
CLASSES = [0, 0, 0, 1, 1, 1]
KERAS = np.array(
    [[0.92, 0.08, 0], [0.8, 0.2, 0], [0.4, 0.6, 0], [0, 1, 0], [0.08, 0.92, 0], [0.25, 0.75, 0]]
)
INT8 = KERAS.copy()
INT8[1] = [0.3, 0.1, 0.6]  # a cat becomes a bird
INT8[3] = [0.95, 0.05, 0.0]  # a dog becomes a cat


def analyse(root, keras=KERAS, int8=INT8, names=NAMES, classes=CLASSES):
    builder = folder(root, "classification", names, [{"label": each} for each in classes])
    found = analyse_classifiers(
        models(keras, int8), names, builder, "validation", size=SIDE, console=QUIET
    )
    return found, builder


def parts(analysis, kind):
    return [part for section in analysis.sections for part in section.parts if type(part) is kind]


def test_figures_of_classifiers(tmp_path):
    found, _ = analyse(tmp_path)
    assert found.images == 6
    assert found.measures["keras"] == {"top1": pytest.approx(5 / 6)}
    assert found.measures["float32"] == found.measures["keras"]
    assert found.measures["int8"] == {"top1": pytest.approx(3 / 6)}
    assert found.int8_cost["top1"]["difference"] == pytest.approx(-2 / 6)
    assert found.int8_cost["agreement"] == pytest.approx(4 / 6)
    by_name = {each["class"]: each for each in found.facts["per_class"]}
    assert by_name["cat"] == {
        "class": "cat",
        "images": 3,
        "keras": {"precision": 1.0, "recall": pytest.approx(2 / 3)},
        "float32": {"precision": 1.0, "recall": pytest.approx(2 / 3)},
        "int8": {"precision": 0.5, "recall": pytest.approx(1 / 3)},
    }
    # Nobody says bird but the int8 file, and there is none.
    assert by_name["bird"]["images"] == 0
    assert by_name["bird"]["keras"] == {"precision": None, "recall": None}
    assert by_name["bird"]["int8"] == {"precision": 0.0, "recall": None}
    assert found.facts["confusion"] == [[1, 1, 1], [1, 2, 0], [0, 0, 0]]
    (matrix,) = parts(found, Matrix)
    assert matrix.counts.tolist() == found.facts["confusion"]
    assert any("No image to judge by: bird" in each for each in found.warnings)
    assert any("cat (3), dog (3)" in each for each in found.warnings)


def test_mistakes_and_changes_are_named_the_surest_first(tmp_path):
    found, _ = analyse(tmp_path)
    first = found.facts["mistakes"][0]
    assert (first["image"], first["answer"], first["truth"]) == ("3.png", "cat", "dog")
    assert sorted(each["image"] for each in found.facts["mistakes"]) == ["1.png", "2.png", "3.png"]
    assert sorted(found.facts["changed"]) == ["1.png", "3.png"]
    mistakes, changes = parts(found, Gallery)
    assert mistakes.pictures[0].says == "said cat (95 %), is dog"
    assert {each.name: each.says for each in changes.pictures}["1.png"] == (
        "Keras: cat (80 %), int8: bird (60 %), is cat"
    )
    # The picture is that of the file.
    assert np.asarray(mistakes.pictures[0].views[""]).max() == 3


def test_intervals_are_those_of_images_drawn_again(tmp_path):
    """Shares of drawn images are binomial; those of the difference are of the same images."""
    found, _ = analyse(tmp_path)
    draws = np.random.default_rng(7).binomial(6, 0.5, 200_000) / 6
    low, high = np.percentile(draws, (2.5, 97.5))
    assert found.intervals["int8"]["top1"] == pytest.approx((low, high), abs=1e-9)
    # Drawn apart, a difference of two shares would reach above 0 much further.
    assert found.int8_cost["top1"]["interval"] == pytest.approx((-4 / 6, 0), abs=1e-9)
    assert analyse(tmp_path)[0].intervals == found.intervals  # seeded


def test_bootstrap_takes_as_many_images_each_time():
    drawn = bootstrap(lambda weights: np.stack([weights.sum(1), weights.max(1)], 1), 50)
    assert (drawn[:, 0] == 50).all()
    assert drawn[:, 1].max() > 1


def test_all_right_is_not_sure(tmp_path):
    """Every data set drawn from images that are all right is right; the truth may not be."""
    found, _ = analyse(tmp_path, int8=np.eye(3)[CLASSES])
    assert found.intervals["int8"]["top1"] == (pytest.approx(0.025 ** (1 / 6)), 1.0)
    (mistakes,) = [each.parts for each in found.sections if "mistakes" in each.title]
    assert mistakes == ["It made none."]


def test_calibration(tmp_path):
    found, _ = analyse(tmp_path)
    # int8: 0.92 right, 0.6 wrong twice, 0.95 wrong, 0.92 right, 0.75 right.
    fit = found.facts["calibration"]["int8"]
    assert fit["images"] == [0, 0, 0, 0, 0, 0, 2, 1, 0, 3]
    assert fit["accuracy"][6] == 0
    assert fit["accuracy"][9] == pytest.approx(2 / 3)
    error = 2 * 0.6 + 1 * 0.25 + 3 * ((0.92 + 0.95 + 0.92) / 3 - 2 / 3)
    assert fit["expected_calibration_error"] == pytest.approx(error / 6)


def test_logits_become_scores(tmp_path):
    found, _ = analyse(tmp_path, keras=np.log(KERAS + 1e-9), int8=np.log(INT8 + 1e-9))
    assert found.facts["mistakes"][0]["score"] == pytest.approx(0.95, abs=1e-6)


def test_a_model_that_says_nan_is_wrong(tmp_path):
    int8 = INT8.copy()
    int8[0] = np.nan  # its class is the first, which a sort of NaN would name
    found, _ = analyse(tmp_path, int8=int8)
    assert found.measures["int8"]["top1"] == pytest.approx(2 / 6)
    assert {"image": "0.png", "answer": None, "truth": "cat"}.items() <= {
        **found.facts["mistakes"][0],
    }.items()
    assert "The int8 file puts out values that are no numbers for 1 images." in found.warnings
    nothing, _ = analyse(tmp_path, int8=np.full_like(INT8, np.nan))
    assert nothing.measures["int8"]["top1"] == 0
    assert "int8" not in nothing.facts["calibration"]


def test_one_image_of_one_class(tmp_path):
    found, _ = analyse(tmp_path, [[1.0]], [[1.0]], ["cat"], [0])
    assert found.measures["int8"] == {"top1": 1.0}
    assert found.intervals["int8"]["top1"] is None
    assert "100.0 % of 1 image that it was not trained on (no interval" in found.sentence


def test_fifty_thousand_classes(tmp_path):
    names = [f"class {number}" for number in range(50_000)]
    scores = np.zeros((3, len(names)), "float32")
    scores[[0, 1, 2], [7, 40_000, 8]] = 1
    found, _ = analyse(tmp_path, scores, scores, names, [7, 40_000, 49_999])
    assert found.measures["int8"] == {"top1": pytest.approx(2 / 3), "top5": pytest.approx(2 / 3)}
    assert [each["class"] for each in found.facts["per_class"]] == [
        *("class 7", "class 8", "class 40000", "class 49999")
    ]
    assert found.facts["confusion"] is None
    assert not parts(found, Matrix)
    pairs = parts(found, Table)[-1]
    assert pairs.rows == [["class 49999", "class 8", "1"]]


def test_classes_in_another_order_are_matched_by_name(tmp_path):
    builder = folder(tmp_path, "classification", NAMES, [{"label": each} for each in CLASSES])
    turn = [2, 0, 1]  # not its own inverse
    found = analyse_classifiers(
        models(KERAS[:, turn], INT8[:, turn]),
        [NAMES[place] for place in turn],
        builder,
        "validation",
        size=SIDE,
        console=QUIET,
    )
    assert found.measures["keras"]["top1"] == pytest.approx(5 / 6)
    assert found.measures["int8"]["top1"] == 0.5


def test_damaged_images_are_left_out_and_the_others_keep_their_names(tmp_path):
    builder = folder(tmp_path, "classification", NAMES, [{"label": each} for each in CLASSES])
    first = builder.paths["validation"][0]
    gone = in_order(builder)[0]
    with open(first, "wb") as file:
        file.write(b"no image")
    found = analyse_classifiers(
        models(KERAS, INT8), NAMES, builder, "validation", size=SIDE, console=QUIET
    )
    assert found.images == 5
    assert list(found.skipped) == [first]
    wrong = {1, 2, 3} - {gone}
    assert {each["image"] for each in found.facts["mistakes"]} == {f"{i}.png" for i in wrong}


# Detection: three images with two cats, one dog and nothing.
CAT, OTHER_CAT, DOG = (0.1, 0.1, 0.4, 0.4), (0.5, 0.5, 0.9, 0.9), (0.2, 0.2, 0.8, 0.8)
ASIDE = (0.0, 0.6, 0.2, 0.8)
TRUTH = [
    {"boxes": [Box(0, *CAT), Box(0, *OTHER_CAT)]},
    {"boxes": [Box(1, *DOG)]},
    {"boxes": []},
]


def found_boxes(*boxes):
    """Label, score and box of each."""
    return {
        "labels": np.array([each[0] for each in boxes], int),
        "scores": np.array([each[1] for each in boxes], float),
        "boxes": np.array([each[2] for each in boxes], float).reshape(-1, 4),
    }


KERAS_BOXES = [
    found_boxes((0, 0.9, CAT), (0, 0.6, OTHER_CAT)),
    found_boxes((1, 0.8, DOG)),
    found_boxes(),
]
INT8_BOXES = [
    found_boxes((0, 0.9, CAT), (0, 0.5, ASIDE), (0, 0.2, OTHER_CAT)),
    found_boxes((1, 0.8, DOG)),
    found_boxes((1, 0.85, ASIDE)),
]


def analyse_boxes(root, monkeypatch, keras=KERAS_BOXES, int8=INT8_BOXES):
    builder = folder(root, "detection", ["cat", "dog"], [dict(each) for each in TRUTH])
    monkeypatch.setattr(detection, "detector_of", lambda model, **_: model.boxes)
    known = models(None, None)
    for name, answers in (("keras", keras), ("float32", keras), ("int8", int8)):
        known[name].boxes = lambda images, answers=answers: [
            answers[round(float(each.mean()))] for each in images
        ]
    return detection.analyse(known, ["cat", "dog"], builder, "validation", size=SIDE, console=QUIET)


def test_figures_of_detectors(tmp_path, monkeypatch):
    found = analyse_boxes(tmp_path, monkeypatch)
    assert found.measures["keras"] == {"map": pytest.approx(1), "map50": pytest.approx(1)}
    # Cats: right, wrong, right: precision 1 up to recall 1/2, then 2/3. Dogs: wrong, right: 1/2.
    cats = (51 + 50 * 2 / 3) / 101
    assert found.measures["int8"]["map50"] == pytest.approx((cats + 0.5) / 2, abs=1e-6)
    by_name = {each["class"]: each for each in found.facts["per_class"]}
    assert by_name["cat"]["objects"] == 2
    assert by_name["dog"]["int8"]["map"] == pytest.approx(0.5, abs=1e-6)
    # Boxes by score: .9 right, .85 wrong, .8 right, .5 wrong, .2 right, of 3 objects.
    curve = found.facts["by_threshold"]["int8"]
    place = {round(t, 2): i for i, t in enumerate(found.facts["by_threshold"]["threshold"])}
    assert curve["precision"][place[0.8]] == pytest.approx(2 / 3)
    assert curve["recall"][place[0.8]] == pytest.approx(2 / 3)
    assert curve["f1"][place[0.2]] == pytest.approx(2 * 3 / (5 + 3))
    assert np.isnan(curve["precision"][place[0.95]])
    assert found.facts["threshold"] == 0.01  # the first of the best
    assert [(e["image"], e["missed"], e["false"]) for e in found.facts["mistakes"]] == sorted(
        [("0.png", 0, 1), ("2.png", 0, 1)],
        key=lambda each: [f"{i}.png" for i in in_order_of(tmp_path)].index(each[0]),
    )
    # The second cat has a score of 0.2 now, but is found; boxes were added in images 0 and 2.
    assert sorted(found.facts["changed"]) == ["0.png", "2.png"]
    assert found.int8_cost["agreement"] == pytest.approx(1 / 3)


def in_order_of(root):
    return in_order(folder(root, "detection", ["cat", "dog"], [dict(each) for each in TRUTH]))


def test_resampled_map50_is_that_of_images_that_count_twice(tmp_path, monkeypatch):
    """Weights of 1 give COCO's figure; a weight of 2 that of a set with the image in it twice."""
    seen = {}
    monkeypatch.setattr(
        Matches,
        "of",
        classmethod(lambda cls, each, of=Matches.of: seen.setdefault(id(each), of(each))),
    )
    found = analyse_boxes(tmp_path, monkeypatch)
    last = list(seen.values())[-1]
    whole = last.map50(np.ones((1, 3)))
    assert whole == pytest.approx([found.measures["int8"]["map50"]], abs=1e-6)
    order = in_order_of(tmp_path)
    weights = np.zeros((1, 3))
    weights[0, order.index(0)], weights[0, order.index(1)] = 1, 2
    # Without the empty image dogs are all right.
    cats = (51 + 50 * 2 / 3) / 101
    assert last.map50(weights) == pytest.approx([(cats + 1) / 2], abs=1e-6)


def test_boxes_that_are_no_numbers_are_left_out(tmp_path, monkeypatch):
    bad = found_boxes((0, np.nan, CAT), (0, 0.9, CAT), (0, 0.6, OTHER_CAT))
    found = analyse_boxes(tmp_path, monkeypatch, int8=[bad, *KERAS_BOXES[1:]])
    assert found.measures["int8"]["map50"] == pytest.approx(1)
    assert any("int8 file puts out values that are no numbers" in w for w in found.warnings)


def test_a_detector_that_finds_nothing(tmp_path, monkeypatch):
    found = analyse_boxes(tmp_path, monkeypatch, int8=[found_boxes()] * 3)
    assert found.measures["int8"]["map50"] == 0
    assert found.facts["threshold"] is None
    (section,) = [each for each in found.sections if "threshold" in each.title]
    assert section.parts == ["The int8 file finds no box that is right, whatever the threshold."]


def mask(rows):
    file = io.BytesIO()
    Image.fromarray(np.array(rows, "uint8").repeat(8, 0).repeat(8, 1)).save(file, "PNG")
    return file.getvalue()


def analyse_masks(root, int8, keras=lambda truth: truth):
    # Two images of 4 x 4 cells: the left half of the first is a cat; the second is background.
    left = np.zeros((4, 4), int)
    left[:, :2] = 1
    truth = [left, np.zeros((4, 4), int)]
    items = [{"mask": lambda each=each: mask(each), "classes": (0, 1)} for each in truth]
    builder = folder(root, "segmentation", ["background", "cat", "dog"], items)
    keras = [np.eye(3, dtype="float32")[each].repeat(8, 0).repeat(8, 1) for each in keras(truth)]
    int8 = [np.eye(3, dtype="float32")[each].repeat(8, 0).repeat(8, 1) for each in int8(truth)]
    return analyse_segmenters(
        models(keras, int8),
        ["background", "cat", "dog"],
        builder,
        "validation",
        size=SIDE,
        console=QUIET,
    )


def missed(truth):
    worse = truth[0].copy()
    worse[:, 1] = 0  # half of the cat
    return [worse, truth[1]]


def test_the_interval_of_what_int8_costs_is_of_the_same_images(tmp_path):
    found = analyse_masks(tmp_path, missed, missed)
    low, high = found.intervals["int8"]["miou"]
    assert low < high
    assert found.int8_cost["miou"] == {"difference": 0, "interval": (0, 0)}


def test_figures_of_segmenters(tmp_path):
    found = analyse_masks(tmp_path, missed)
    assert found.measures["keras"] == {"miou": 1.0, "pixel_accuracy": 1.0}
    # Cells of 64 pixels: 4 of 8 of the cat; of the background 24 of 24 and 4 too many.
    assert found.measures["int8"]["miou"] == pytest.approx((0.5 + 24 / 28) / 2)
    assert found.measures["int8"]["pixel_accuracy"] == pytest.approx(28 / 32)
    by_name = {each["class"]: each for each in found.facts["per_class"]}
    assert by_name["cat"]["images"] == 1
    assert by_name["cat"]["int8"] == {"iou": 0.5}
    assert by_name["dog"]["int8"] == {"iou": None}
    assert found.facts["confusion"] == [[64 * 24, 0, 0], [64 * 4, 64 * 4, 0], [0, 0, 0]]
    assert found.int8_cost["agreement"] == pytest.approx(28 / 32)
    assert found.facts["changed"] == ["0.png"]
    assert found.facts["mistakes"][0]["image"] == "0.png"
    assert found.facts["mistakes"][0]["miou"] == pytest.approx((0.5 + 8 / 12) / 2)
    # Drawn are both images, or one of them twice: of the second alone nothing changes.
    low, high = found.int8_cost["miou"]["interval"]
    assert (low, high) == pytest.approx(((0.5 + 8 / 12) / 2 - 1, 0))


def test_only_the_worst_images_are_kept(tmp_path):
    from keras_parc.tasks.segmentation.analysis import _Kept

    kept, pixels = _Kept(2), np.zeros((4, 4, 3))
    for number, value in enumerate((0.5, 0.1, 0.9, np.nan, 0.3, 0.1)):
        kept.offer(value, number, (pixels, np.zeros((4, 4), int)))
    assert [(value, number) for value, number, _ in kept.best()] == [(0.1, 1), (0.1, 5)]


def test_known_answers_tell_images_apart():
    images = np.stack([np.full((SIDE, SIDE, 3), level, "float32") for level in (2, 0)])
    assert Known(np.arange(3)).predict(images).tolist() == [2, 0]
