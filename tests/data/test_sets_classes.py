"""Folders of images with a class each: folders of classes, tables; the splits that are made."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_files import encoded
from keras_parc.data.sets.recognise import open_folder
from keras_parc.data.sets.splits import validation_part
from keras_parc.data.sources import num_examples, open_source
from keras_parc.tasks.classification.data import class_names, dataset

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def write(root, names, seed=0):
    """Images whose colour is that of the class in their name, each of another shade."""
    rng = np.random.default_rng(seed)
    for name in names:
        colour = next(COLOURS[each] for each in COLOURS if each in name)
        image = np.full((24, 30, 3), colour, "uint8") // 2 + rng.integers(60, 90, dtype="uint8")
        image[0, 0] = rng.integers(0, 256, 3)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(Image.fromarray(image), "PNG"))


def read(root, split, **options):
    """The label of every image, and what its colour says."""
    settings = {"batch": 3, "size": 16, "training": False, "short_side": 16, **options}
    labels, colours = [], []
    for images, numbers in dataset(root, split, **settings).as_numpy_iterator():
        labels += numbers.tolist()
        colours += images[:, 4, 4].argmax(-1).tolist()
    names = class_names(root)
    return [names[each] for each in labels], [("red", "green", "blue")[each] for each in colours]


def check(root, counts):
    for split, count in counts.items():
        labels, colours = read(root, split)
        assert (labels, len(labels)) == (colours, count)
    assert open_source(root).report.splits == counts


def test_a_folder_of_classes_without_splits(tmp_path):
    write(tmp_path, [f"{c}/{n // 5}/{n}.png" for c in COLOURS for n in range(10)] + ["red/x.png"])
    check(tmp_path, {"train": 25, "validation": 6})
    builder = open_source(tmp_path)
    assert builder.report.classes == {"blue": 10, "green": 10, "red": 11}
    assert builder.report.validation == "0.2 of train, by class, seed 0"
    assert sorted(read(tmp_path, "validation")[0]) == sorted(2 * list(COLOURS))


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    write(tmp_path, [f"{folder}/red{n}.png" for folder in ("train", "car") for n in range(4)])
    assert class_names(tmp_path) == ["car", "train"]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_splits_have_one_name(name, tmp_path):
    write(tmp_path, [f"{s}/{c}/{n}.png" for s in ("train", name) for c in COLOURS for n in "ab"])
    check(tmp_path, {"train": 6, "validation": 6})
    assert num_examples(tmp_path, f"{name}[:50%]") == 3


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_a_table(between, tmp_path):
    names = [f"photos/{c}_{n}.png" for c in COLOURS for n in range(3)]
    write(tmp_path, [*names, "photos/red_more.png"])
    rows = [("label", "filename", "split")]
    rows += [
        (name[7:-6], name, ("train", "val")[number % 3 == 2]) for number, name in enumerate(names)
    ]
    rows += [("red", "photos/gone.png", "train"), rows[1]]
    text = "\ufeff" + "\r\n".join(between.join(row) for row in rows) + "\r\n"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8", newline="")
    check(tmp_path, {"train": 6, "validation": 3})
    assert open_source(tmp_path).report.notes == {
        "images named that do not exist": ["photos/gone.png"],
        "images without a label": ["photos/red_more.png"],
        "rows there twice": ["labels.csv, line 12"],
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"file,label\nred.png,\n", "line 2: there is no label"),
        (b"file,label\nred.png,a\nred.png,b\n", "line 3: 'red.png' is there twice, as 'a' and 'b'"),
        (b"file,label\nred.png,\xe9t\xe9\n", "line 2: not UTF-8"),
        (b'file,label\n"red.png"x,a\n', "line 2: not CSV"),
        (b"file,label\ngone.png,a\n", "no images to use .*gone.png"),
    ],
)
def test_a_wrong_row_is_named(rows, message, tmp_path):
    write(tmp_path, ["red.png"])
    (tmp_path / "table.csv").write_bytes(rows)
    with pytest.raises(ValueError, match=message) as error:
        open_source(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_no_set_says_what_was_expected(tmp_path):
    with pytest.raises(
        ValueError, match=r"no images with labels .*a CSV file .*class/image .folders"
    ):
        open_source(tmp_path)


def test_the_same_content_stays_on_one_side(tmp_path):
    write(tmp_path, [f"{c}/{n}.png" for c in COLOURS for n in range(10)])
    for path in list(tmp_path.glob("*/*.png")):
        for copy in range(2):
            path.with_name(f"copy{copy}_{path.name}").write_bytes(path.read_bytes())
    builder = open_source(tmp_path)
    assert builder.report.splits == {"train": 72, "validation": 18}
    sides = [{Path(p).read_bytes() for p in builder.paths[s]} for s in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert builder.paths == open_folder(tmp_path).paths
    assert builder.paths != open_folder(tmp_path, seed=1).paths
    assert open_folder(tmp_path, validation=0.5).report.splits["validation"] == 45


def test_frames_of_a_folder_stay_together():
    paths = [f"video{n // 7}/{n}.png" for n in range(70)]
    chosen = validation_part(
        paths, [[n % 3] for n in range(70)], share=0.2, seed=0, split_by="folder"
    )
    assert len(chosen) == 14
    assert len({paths[number].partition("/")[0] for number in chosen}) == 2


@pytest.mark.parametrize("name", [" cat", "a\nb"])
def test_a_class_has_a_name_of_one_line(name, tmp_path):
    """Names are written down, one a line."""
    write(tmp_path, [f"{name}/red.png"])
    with pytest.raises(ValueError, match="is no name for a class"):
        open_source(tmp_path)


def test_no_class_loses_its_only_image(tmp_path):
    write(tmp_path, [f"{c}{n}/{c}.png" for c in COLOURS for n in range(5)])
    assert open_source(tmp_path).report.splits == {"train": 15}
