"""Other people's models: ours is right where a plain conversion is, and no worse; its tables."""

import dataclasses
import functools
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from experiments import export_zoo, zoo_row
from experiments.zoo_models import MODELS, SIGNED, ZooModel
from keras_parc.support.files import read_rows

ROOT = Path(__file__).parents[2]
# About a tenth of the rows, each at a size that takes seconds.
SMALL = {
    "keras.applications/EfficientNetV2B0": {"side": 64},
    "keras.applications/MobileNetV3Small": {"side": 64},
    "keras.io/CCT": {},
    "keras.io/CRNN": {"shape": (80, 32, 1)},
    "keras.io/Siamese": {},
    "keras.io/U-Net": {"shape": (32, 32, 3)},
    "keras.io/ViT": {"depth": 2},
    "keras.io/captioning encoder": {"shape": (75, 75, 3), "width": 64},
}
CRASHES = {("keras.io/CRNN", "int8")}  # TensorFlow's calibration of the plain file


def small(key: str) -> ZooModel:
    zoo = next(each for each in MODELS if each.key == key)
    return dataclasses.replace(zoo, make=functools.partial(zoo.make, **SMALL[key]))


@functools.cache
def built(key: str) -> keras.Model:
    return small(key).build()


@pytest.mark.slow
@pytest.mark.parametrize("precision", zoo_row.PRECISIONS)
@pytest.mark.parametrize("key", SMALL)
def test_ours_is_right_where_a_plain_conversion_is_and_no_worse(key, precision, tmp_path):
    zoo, model = small(key), built(key)
    ours = zoo_row.measure(zoo, model, "ours", precision, tmp_path / "ours.tflite")
    assert ours["converts"] == "yes"
    if precision == "float32":
        assert float(ours["difference"]) <= 1e-4
    if (key, precision) in CRASHES:
        return
    plain = zoo_row.measure(zoo, model, zoo_row.BASE, precision, tmp_path / "plain.tflite")
    if plain["converts"] != "yes":
        return
    assert ours["partitions"] <= plain["partitions"]
    assert ours["outside"] <= plain["outside"]
    if precision == "int8":
        assert float(ours["decibels"]) >= float(plain["decibels"]) - 0.5


def test_the_models_are_there_once_and_what_they_need_is_known():
    keys = [each.key for each in MODELS]
    assert len(set(keys)) == len(keys) > 60
    assert set(SMALL) <= set(keys)
    assert {each.needs for each in MODELS} == {"keras", "kimm", "keras_hub"}
    assert all(each.installed for each in MODELS if each.needs == "keras")


def two_inputs() -> keras.Model:
    a, b = keras.Input((4, 4, 1), name="left_right"), keras.Input((4, 4, 1), name="left")
    pooled = keras.layers.GlobalAveragePooling2D()
    return keras.Model([a, b], {"wide": keras.layers.Dense(3)(pooled(a)), "sum": pooled(a + 2 * b)})


ZOO = ZooModel("two", "tests", two_inputs, SIGNED)


def test_the_same_weights_and_images_every_time():
    first, second = ZOO.build(), ZOO.build()
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    images = ZOO.inputs(first, 3, seed=5)
    assert [each.shape for each in images] == [(3, 4, 4, 1)] * 2
    assert -1 <= min(map(np.min, images)) < -0.1 < 0.1 < max(map(np.max, images)) <= 1
    np.testing.assert_array_equal(images, ZOO.inputs(first, 3, seed=5))
    assert np.abs(images[0] - ZOO.inputs(first, 3, seed=6)[0]).max() > 0.1


@pytest.mark.parametrize("way", ["plain", zoo_row.BASE])
def test_several_inputs_and_outputs_are_not_mixed_up(way, tmp_path):
    found = zoo_row.measure(ZOO, ZOO.build(), way, "float32", tmp_path / "file.tflite")
    assert found["converts"] == "yes"
    assert float(found["difference"]) < 1e-6
    assert found["partitions"] >= 1


def test_a_file_that_is_wrong_is_seen(tmp_path, monkeypatch):
    def wrong(model, path, precision, images):
        other = ZOO.make()
        other.set_weights([weight + 0.1 for weight in model.get_weights()])
        zoo_row.plain_batch_1(other, path, precision, images)

    monkeypatch.setitem(zoo_row.WAYS, "ours", wrong)
    found = zoo_row.measure(ZOO, ZOO.build(), "ours", "float32", tmp_path / "file.tflite")
    assert float(found["difference"]) > 1e-2


def test_the_worst_output_counts():
    a, b = np.array([1.0, 4.0]), np.array([2.0])
    expected, found = [[a, b], [a, b]], [[a, b], [a, b * 1.5]]
    difference, decibels = zoo_row.differences(expected, found)
    assert difference == pytest.approx(0.5)
    assert decibels == pytest.approx(10 * np.log10(4 / 0.5))
    assert np.isnan(zoo_row.differences(expected, [[a * np.nan, b], [a, b]])).all()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nTF Select ops: Erf, Roll\nDetails:", "operations that are not built in: Erf, Roll"),
        ("\n  first: \n second", "ValueError: first:"),
        ("warning\nx: error: this\nmore", "ValueError: x: error: this"),
        (
            "Exception encountered when calling L.call().\n\n\x1b[1mNo shape.\x1b[0m\nArguments",
            "ValueError: Exception encountered when calling L.call(). No shape.",
        ),
    ],
)
def test_why_a_conversion_failed_in_one_line(text, line):
    assert zoo_row.one_line(ValueError(text)) == line


CHILD = """
import json, os, sys
from pathlib import Path
folder, steps = Path(sys.argv[3]), sys.argv[4:]
for step in steps:
    if step == "plain":
        os.kill(os.getpid(), 11)
    times = {"ours": {"milliseconds": 2.0, "ratio": 0.5}}
    figures = times if step == "time" else {"converts": "yes"}
    (folder / f"{step}.json").write_text(json.dumps(figures))
"""


@pytest.fixture
def child(monkeypatch):
    """Puts other code into the child process; returns the arguments of each that was started."""
    started, start = [], export_zoo.subprocess.Popen

    def use(code):
        def begin(command, **settings):
            started.append(command[command.index("experiments.zoo_row") + 1 :])
            return start([sys.executable, "-c", code, *started[-1]], **settings)

        monkeypatch.setattr(export_zoo.subprocess, "Popen", begin)
        return started

    return use


def test_a_crash_costs_one_way_and_not_the_table(child):
    started = child(CHILD)
    found = {row["way"]: row for row in export_zoo.rows(ZOO, "int8")}
    assert found["plain"]["converts"] == f"the process ended with {signal.SIGSEGV.name}"
    assert found["ours"]["converts"] == found["plain, batch 1"]["converts"] == "yes"
    assert (found["ours"]["ratio"], found["plain"]["ratio"]) == (0.5, "")
    assert [each[3:] for each in started] == [
        ["ours", "plain", "plain, batch 1", "time"],
        ["plain, batch 1", "time"],
    ]


def test_a_conversion_that_does_not_end_is_ended(child):
    child("import time; time.sleep(60)")
    found = export_zoo.rows(ZOO, "int8", minutes=0.005, timed=False)
    assert {row["converts"] for row in found} == {"not done within 0.005 minutes"}


def test_rows_that_are_there_are_kept(tmp_path, monkeypatch):
    made = []

    def rows(zoo, precision, **_):
        made.append((zoo.name, precision))
        about = {"model": zoo.name, "source": zoo.source, "precision": precision}
        return [{**about, "way": way, "converts": len(made)} for way in zoo_row.WAYS]

    monkeypatch.setattr(export_zoo, "rows", rows)
    path, other = tmp_path / "zoo.csv", dataclasses.replace(ZOO, name="other")
    missing = dataclasses.replace(ZOO, name="missing", needs="no_such_package")
    export_zoo.run([ZOO], ["float32"], path, again=False)
    export_zoo.run([ZOO, missing, other], ["float32", "int8"], path, again=False)
    assert made == [("two", "float32"), ("two", "int8"), ("other", "float32"), ("other", "int8")]
    export_zoo.run([ZOO], ["int8"], path, again=True)
    assert made[4:] == [("two", "int8")]
    kept = {(row["model"], row["precision"]): row["converts"] for row in read_rows(path)}
    assert kept == {
        ("two", "float32"): "1",
        ("two", "int8"): "5",
        ("other", "float32"): "3",
        ("other", "int8"): "4",
    }
    assert len(read_rows(path)) == 12


def test_times_are_added_to_files_that_are_kept(child, tmp_path):
    started, path = child(CHILD.replace("os.kill(os.getpid(), 11)", "pass")), tmp_path / "zoo.csv"
    how = {"again": False, "files": tmp_path / "files"}
    export_zoo.run([ZOO], ["int8"], path, timed=False, **how)
    assert {row["milliseconds"] for row in read_rows(path)} == {""}
    export_zoo.run([ZOO], ["int8"], path, timed=False, **how)
    export_zoo.run([ZOO], ["int8"], path, **how)
    assert [each[3:] for each in started] == [[*zoo_row.WAYS], [zoo_row.TIME]]
    found = {row["way"]: row["milliseconds"] for row in read_rows(path)}
    assert found == {"ours": "2.0", "plain": "", "plain, batch 1": ""}
    export_zoo.run([ZOO], ["int8"], path, again=True, files=tmp_path / "files")
    assert started[-1][3:] == [*zoo_row.WAYS, zoo_row.TIME]


def test_models_by_name_or_source():
    assert len(export_zoo.chosen(None)) == len(MODELS)
    assert {each.source for each in export_zoo.chosen(["ResNet18"])} == {"kimm", "KerasHub"}
    assert [each.name for each in export_zoo.chosen(["keras.io/U-Net"])] == ["U-Net"]
    assert {each.source for each in export_zoo.chosen(["kimm"])} == {"kimm"}
    with pytest.raises(ValueError, match="named 'VGG'"):
        export_zoo.chosen(["kimm", "VGG"])


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs/scripts")
    import zoo_tables

    return zoo_tables


def test_the_page_has_the_tables_of_the_file(tables):
    page = (ROOT / "docs/export_zoo.md").read_text()
    made = {"short": tables.short(), **{each: tables.full(each) for each in tables.PRECISIONS}}
    for name, text in made.items():
        assert f"<!-- export_zoo_{name} -->\n{text}\n<!-- /export_zoo_{name} -->" in page


def test_rounding_is_no_mistake(tables):
    def of(difference):
        return {**ROW, "precision": "float32", "difference": difference}

    assert tables.right(of("2e-04"), of("1.4e-04"))
    assert not tables.right(of("3e-04"), of("1.4e-04"))
    assert not tables.right(of("2e-04"), {**ROW, "converts": "no"})
    assert not tables.right(of("2e-02"), of("1e-02"))
    assert not tables.right(of("nan"), of("1e-06"))


ROW = {
    "model": "net",
    "source": "them",
    "parameters": "9",
    "converts": "yes",
    "difference": "1e-06",
    "decibels": "30.0",
    "partitions": "2",
    "outside": "0",
    "megabytes": "1.00",
    "milliseconds": "3",
    "ratio": "1.000",
}


def test_the_tables_say_who_is_worse_and_who_refuses(tables, monkeypatch):
    def of(precision, way, **changes):
        return {**ROW, "precision": precision, "way": way, **changes}

    rows = [
        of("float32", "ours", difference="0.01"),
        of("float32", "plain", converts="no `Erf`"),
        of("float32", "plain, batch 1"),
        of("int8", "ours", decibels="29.4", partitions="1", outside="3"),
        of("int8", "plain", ratio=""),
        of("int8", "plain, batch 1"),
    ]
    monkeypatch.setattr(tables, "read", lambda _: rows)
    float32, int8 = (line.split("|") for line in tables.short().splitlines()[2:])
    assert [each.strip() for each in float32[2:-1]] == ["1", "0", "0", "1", "0 of 0", "0 of 0"]
    assert [each.strip() for each in int8[2:-1]] == ["1", "1", "1", "1", "1 of 1", "0 of 1"]
    assert "0.01 / - / 1e-06" in tables.full("float32")
    assert tables.full("float32").endswith("- net (them), plain: `no 'Erf'`")
    assert "29.4 / 30.0 / 30.0 | 1 + 3 / 2 / 2" in tables.full("int8")
    assert "1.000 / ? / 1.000" in tables.full("int8")
    assert "Not converted" not in tables.full("int8")
