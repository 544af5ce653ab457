"""Metadata in .tflite files: content, determinism, reading back, mistakes."""

import dataclasses
import hashlib
import io
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tflite_models import HALVES, SIDE, attach_metadata, convert, detector, halves, scores

import keras_parc
from keras_parc.lite.file.metadata import Metadata, add_metadata, read_metadata
from keras_parc.lite.file.metadata_tables import decode, encode

sys.path.insert(0, str(Path(__file__).parents[2] / "tflite"))
import run

FULL = Metadata(
    labels=["Grüße", "猫", "a, b", ""],
    name="halves",
    description="Which half is bright, and why? Wärme",
    version="1.0",
    author="keras_parc",
    licence="Apache-2.0",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """The bytes of a classifier of four classes, float32."""
    path = convert(tmp_path_factory.mktemp("metadata") / "halves.tflite", halves)
    return Path(path).read_bytes()


def write(path, content):
    path.write_bytes(content)
    return path


def table(content):
    """The metadata in a file, found and decoded with LiteRT's schema."""
    model = schema.Model.GetRootAs(content, 0)
    entries = {model.Metadata(i).Name(): model.Metadata(i) for i in range(model.MetadataLength())}
    data = model.Buffers(entries[b"TFLITE_METADATA"].Buffer()).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"
    return decode("ModelMetadata", data)


# --- content --------------------------------------------------------------------------------------


def test_read_back_equal(classifier, tmp_path):
    path = write(tmp_path / "model.tflite", add_metadata(classifier, FULL))
    assert read_metadata(path) == FULL


def test_defaults_read_back_equal(classifier, tmp_path):
    metadata = Metadata(labels=HALVES)
    path = write(tmp_path / "model.tflite", add_metadata(classifier, metadata))
    assert read_metadata(path) == metadata


def test_device_tool_reads_it(classifier, tmp_path):
    path = write(tmp_path / "model.tflite", add_metadata(classifier, FULL))
    mean, std, _, _, names, labels, said = run.read_metadata(path)
    assert said
    assert (np.float32(mean) == np.float32(FULL.mean)).all()
    assert (np.float32(std) == np.float32(FULL.std)).all()
    assert (names, labels) == (["score"], list(FULL.labels))


def test_table(classifier):
    content = table(add_metadata(classifier, FULL))
    assert content["description"] == FULL.description
    assert content["license"] == "Apache-2.0"
    assert content["min_parser_version"] == "1.0.0"
    (graph,) = content["subgraph_metadata"]
    (image,) = graph["input_tensor_metadata"]
    assert image["content"] == {"content_properties": ("ImageProperties", {"color_space": 1})}
    (output,) = graph["output_tensor_metadata"]
    (file,) = output["associated_files"]
    assert (file["name"], file["type"]) == ("labels.txt", 2)


def test_archive_is_plain(classifier):
    """MediaPipe reads stored entries only; the date is zip's first day."""
    with zipfile.ZipFile(io.BytesIO(add_metadata(classifier, FULL))) as archive:
        (entry,) = archive.infolist()
        assert archive.read(entry).decode() == "Grüße\n猫\na, b\n\n"
    assert entry.compress_type == zipfile.ZIP_STORED
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)


def test_model_computes_the_same(classifier, tmp_path):
    before = write(tmp_path / "before.tflite", classifier)
    after = write(tmp_path / "after.tflite", add_metadata(classifier, FULL))
    images = np.random.default_rng(0).uniform(0, 255, (3, SIDE, SIDE, 3))
    one, other = keras_parc.TFLiteModel(before), keras_parc.TFLiteModel(after)
    np.testing.assert_array_equal(one(images), other(images))
    signatures = [Interpreter(str(path)).get_signature_list() for path in (before, after)]
    assert signatures[0] == signatures[1]


def test_deterministic(classifier):
    first = add_metadata(classifier, FULL)
    time.sleep(2.1)  # zip counts in steps of two seconds
    assert add_metadata(classifier, FULL) == first


@pytest.mark.slow
@pytest.mark.slow
def test_deterministic_in_another_process(classifier, tmp_path):
    path = write(tmp_path / "model.tflite", classifier)
    program = (
        "import hashlib, sys; from keras_parc.lite.file.metadata import *;"
        "content = add_metadata(open(sys.argv[1], 'rb').read(), Metadata(labels='abcd'.split()*4));"
        "print(hashlib.sha256(content).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=120
    )
    here = add_metadata(classifier, Metadata(labels=["abcd"] * 4))
    assert done.stdout.strip() == hashlib.sha256(here).hexdigest(), done.stderr


def test_uint8_input(tmp_path):
    path = convert(tmp_path / "plain.tflite", halves, io=tf.uint8)
    metadata = Metadata(labels=HALVES)
    path = write(tmp_path / "model.tflite", add_metadata(Path(path).read_bytes(), metadata))
    assert read_metadata(path) == metadata


def test_uint8_input_quantized_otherwise(tmp_path):
    path = convert(tmp_path / "plain.tflite", halves, io=tf.uint8)
    with pytest.raises(ValueError, match="uint8 input stands for 1 \\* \\(pixel - 0\\)"):
        add_metadata(Path(path).read_bytes(), Metadata(labels=HALVES, mean=127.5, std=127.5))


def test_detector(tmp_path):
    plain = Path(convert(tmp_path / "plain.tflite", detector)).read_bytes()
    metadata = Metadata(labels=["cat", "dog"], task="detection")
    path = write(tmp_path / "model.tflite", add_metadata(plain, metadata))
    assert read_metadata(path) == metadata
    (graph,) = table(path.read_bytes())["subgraph_metadata"]
    outputs = {each["name"]: each for each in graph["output_tensor_metadata"]}
    assert set(outputs) == {"location", "category", "score", "number of detections"}
    assert [file["type"] for file in outputs["category"]["associated_files"]] == [3]
    kind, box = outputs["location"]["content"]["content_properties"]
    assert (kind, box["index"]) == ("BoundingBoxProperties", [1, 0, 3, 2])
    interpreter = Interpreter(str(path))
    shapes = [detail["shape"].tolist() for detail in interpreter.get_output_details()]
    assert shapes[list(outputs).index("location")] == [1, 4, 4]
    assert shapes[list(outputs).index("number of detections")] == [1]


def test_classes_without_names(classifier, tmp_path):
    metadata = Metadata(description="four classes")
    path = write(tmp_path / "model.tflite", add_metadata(classifier, metadata))
    assert read_metadata(path) == metadata
    assert read_metadata(path).labels == ()
    assert not zipfile.is_zipfile(path)
    (graph,) = table(path.read_bytes())["subgraph_metadata"]
    assert "associated_files" not in graph["output_tensor_metadata"][0]
    detections = Path(convert(tmp_path / "plain.tflite", detector)).read_bytes()
    path.write_bytes(add_metadata(detections, Metadata(task="detection")))
    assert (read_metadata(path).task, read_metadata(path).labels) == ("detection", ())


@pytest.mark.parametrize(
    ("old", "task"),
    [("classify", "classification"), ("detect", "detection"), ("segment", "segmentation")],
)
def test_earlier_words_for_tasks(old, task):
    assert Metadata(task=old) == Metadata(task=task)


def test_segmenter(tmp_path):
    path = convert(tmp_path / "plain.tflite", lambda image: image[:, ::2, ::2, :2])
    metadata = Metadata(labels=["cat", "dog"], task="segmentation", activation="softmax")
    content = add_metadata(Path(path).read_bytes(), metadata)
    assert read_metadata(write(tmp_path / "model.tflite", content)) == metadata
    (graph,) = table(content)["subgraph_metadata"]
    (custom,) = graph["custom_metadata"]
    assert custom["name"] == "SEGMENTER_METADATA"
    assert custom["data"][4:8] == b"V001"
    assert decode("ImageSegmenterOptions", custom["data"]) == {"activation": 2}
    assert table(content)["min_parser_version"] == "1.5.0"


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": "abcd"}, "`labels` must be a list"),
        ({"labels": ["a", "b\nc"]}, "without line breaks, got 'b\\\\nc'"),
        ({"labels": ["a", "b\rc"]}, "without line breaks"),
        ({"labels": [1, 2]}, "A label must be a string"),
        ({"name": None}, "`name` must be a string, got None"),
        ({"mean": [0, 0]}, "1 or 3 values"),
        ({"mean": [0, 0, 0]}, "1 or 3 values"),
        ({"mean": float("nan")}, "finite"),
        ({"std": 0}, "`std` above 0"),
        ({"task": "draw"}, "`task` must be one of"),
        ({"activation": "softmax"}, "`activation` must be one of"),
        ({"task": "segmentation", "activation": "relu"}, "`activation` must be one of"),
    ],
)
def test_argument_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        Metadata(**change)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.name = "other"


@pytest.mark.parametrize("labels", [HALVES[:3], [*HALVES, "more"]])
def test_labels_must_match_classes(classifier, labels):
    message = f"must name each of the model's 4 classes, got {len(labels)}"
    with pytest.raises(ValueError, match=message):
        add_metadata(classifier, Metadata(labels=labels))


def test_wrong_task(classifier):
    with pytest.raises(ValueError, match="segmenter has one output"):
        add_metadata(classifier, Metadata(labels=HALVES, task="segmentation"))
    with pytest.raises(ValueError, match="detector has four outputs"):
        add_metadata(classifier, Metadata(labels=HALVES, task="detection"))


def test_input_must_be_an_image(tmp_path):
    path = convert(tmp_path / "plain.tflite", lambda x: x * 2, shape=(1, 8))
    with pytest.raises(ValueError, match=r"one RGB image \(1, height, width, 3\), got \(1, 8\)"):
        add_metadata(Path(path).read_bytes(), Metadata(labels=["a"] * 8))


def test_metadata_twice(classifier):
    with pytest.raises(ValueError, match="already has metadata"):
        add_metadata(add_metadata(classifier, FULL), FULL)


@pytest.mark.parametrize("content", [b"", b"PK", bytes(100)])
def test_not_a_model(content, tmp_path):
    with pytest.raises(ValueError, match="not a TensorFlow Lite model"):
        add_metadata(content, FULL)
    with pytest.raises(ValueError, match="not a TensorFlow Lite model"):
        read_metadata(write(tmp_path / "model.tflite", content))


# --- files of others ------------------------------------------------------------------------------


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        read_metadata(tmp_path / "none.tflite")


def test_no_metadata(classifier, tmp_path):
    assert read_metadata(write(tmp_path / "model.tflite", classifier)) is None


def test_another_writer(tmp_path):
    path = convert(tmp_path / "model.tflite", scores)
    attach_metadata(path, [127.5], [127.5], ["probability"], HALVES)
    metadata = read_metadata(path)
    assert (metadata.mean, metadata.std) == ((127.5,), (127.5,))
    assert metadata.task == "classification"


def test_damaged_file(classifier, tmp_path):
    """Whatever byte is lost, the answer is metadata or a ValueError."""
    content = add_metadata(classifier, FULL)
    path = write(tmp_path / "model.tflite", content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"model\.tflite' cannot be read"):
        read_metadata(path)
    for cut in range(len(content) - 200, len(content), 7):
        with pytest.raises(ValueError, match="cannot be read"):
            read_metadata(write(path, content[:cut]))


def packed_anew(content, path, name, labels, compression=zipfile.ZIP_DEFLATED):
    """The file with another archive behind the model."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = min(each.header_offset for each in archive.infolist())
    write(path, content[:start])
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr(name, labels)
    return path


def test_a_label_may_hold_what_unicode_calls_a_line_end(classifier, tmp_path):
    """As in run.py and in a user's file of labels."""
    metadata = dataclasses.replace(FULL, labels=["a\u2028b", "c\x0cd", "e\x85f", " g "])
    path = write(tmp_path / "model.tflite", add_metadata(classifier, metadata))
    assert read_metadata(path) == metadata
    assert run.read_metadata(path).labels == list(metadata.labels)
    path = packed_anew(path.read_bytes(), path, "labels.txt", "\ufeffa\r\nb\r\nc\nd\n".encode())
    assert read_metadata(path).labels == ("a", "b", "c", "d")
    assert run.read_metadata(path).labels == ["a", "b", "c", "d"]


def test_packed_labels_that_cannot_be_used(classifier, tmp_path):
    """Not UTF-8, too large, another file, encrypted, damaged: one line each."""
    content, path = add_metadata(classifier, FULL), tmp_path / "model.tflite"

    def encrypted():  # bit 0 of the flags in the list at the end
        data = bytearray(packed_anew(content, path, "labels.txt", b"a\n").read_bytes())
        data[data.rindex(b"PK\x01\x02") + 8] |= 1
        write(path, bytes(data))

    def damaged():
        labels = np.random.default_rng(0).bytes(2000).hex().encode()
        packed_anew(content, path, "labels.txt", labels, zipfile.ZIP_LZMA)
        data = bytearray(path.read_bytes())
        data[-1500:-500] = bytes(1000)
        write(path, bytes(data))

    for make, words in [
        (lambda: packed_anew(content, path, "labels.txt", b"\xff\xfe"), "utf-8"),
        (lambda: packed_anew(content, path, "labels.txt", b"x" * 5_000_000), "take 5000000 bytes"),
        (lambda: packed_anew(content, path, "names.txt", b"a\n"), "labels.txt"),
        (encrypted, "encrypted"),
        (damaged, "orrupt"),
    ]:
        make()
        with pytest.raises(
            ValueError, match=r"model\.tflite' cannot be read: .*" + words
        ) as caught:
            read_metadata(path)
        assert "\n" not in str(caught.value)


def test_damaged_table():
    data = encode(
        "ModelMetadata",
        {"name": "x", "subgraph_metadata": [{"custom_metadata": [{"name": "y", "data": b"z"}]}]},
        b"M001",
    )
    generator = np.random.default_rng(0)
    caught = []
    for _ in range(500):
        broken = np.frombuffer(data, np.uint8).copy()
        broken[generator.integers(len(data))] = generator.integers(256)
        try:
            decode("ModelMetadata", broken.tobytes())
        except ValueError as error:
            caught.append(str(error))
    assert len(caught) > 50
    assert all(message.startswith("The table ModelMetadata is damaged") for message in caught)
