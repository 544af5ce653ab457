"""`.tflite` files that end the runtime, and with it any process that opens them."""

import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tflite_models import conv_net, convert

import keras_parc
from keras_parc.lite.file import flatbuffer, probe
from keras_parc.lite.quantize.traced_file import TracedFile

NO_DELEGATE = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
IMAGE = np.zeros((1, 32, 32, 3))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A float and an int8 file that this process has not made by `to_tflite`."""
    folder = tmp_path_factory.mktemp("hostile")
    return {
        "float": Path(convert(folder / "float.tflite", conv_net())),
        "int8": Path(convert(folder / "int8.tflite", conv_net(), io=tf.float32)),
    }


@pytest.fixture
def probes(monkeypatch):
    """The commands of the child processes that are started."""
    started, start = [], subprocess.run

    def counted(command, **settings):
        started.append(command)
        return start(command, **settings)

    monkeypatch.setattr(probe.subprocess, "run", counted)
    monkeypatch.setattr(probe, "_safe", set())
    return started


def changed(source, path, change):
    model = flatbuffer.read(source.read_bytes())
    change(model.subgraphs[0])
    path.write_bytes(flatbuffer.write(model))
    return path


def constant_input(graph):
    graph.inputs = next(each.inputs[1:2] for each in graph.operators if len(each.inputs) == 3)


def result_of_two(graph):
    graph.operators[2].outputs = graph.outputs


def huge_scale(graph):
    graph.tensors[int(graph.operators[3].outputs[0])].quantization.scale = np.float32([1e30])


@pytest.mark.parametrize(
    ("kind", "change", "opened", "signal"),
    [
        ("float", constant_input, keras_parc.TFLiteModel, "SIGSEGV"),
        ("int8", constant_input, keras_parc.inspect, "SIGSEGV"),
        ("int8", huge_scale, keras_parc.TFLiteModel, "SIGABRT"),
        ("float", result_of_two, TracedFile, "SIGSEGV"),
    ],
)
def test_a_file_that_ends_the_runtime(files, tmp_path, kind, change, opened, signal):
    path = changed(files[kind], tmp_path / "x.tflite", change)
    with pytest.raises(ValueError, match="cannot be run") as caught:
        opened(path)
    assert str(caught.value) == (
        f"{str(path)!r} cannot be run: the runtime dies of it ({signal}); export it again or "
        "fetch it again."
    )


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_any_damage_is_a_value_error(files, tmp_path, kind):
    content, numbers, path = files[kind].read_bytes(), random.Random(1), tmp_path / "x.tflite"
    outcomes = []
    for _ in range(8):
        data = bytearray(content)
        for _ in range(2):
            place = numbers.randrange(8, len(data) - 4) & ~3
            struct.pack_into("<i", data, place, numbers.choice((-1, 0, 255, 2**31 - 1, -(2**31))))
        path.write_bytes(data)
        try:
            keras_parc.TFLiteModel(path)(IMAGE)
            outcomes.append("runs")
        except ValueError as error:
            outcomes.append(str(error))
    assert len(set(outcomes)) > 1
    assert not any("\n" in outcome for outcome in outcomes)


def test_a_file_without_an_end(tmp_path, monkeypatch):
    def ever(image):
        return tf.while_loop(
            lambda x: tf.reduce_all(x < 1e30), lambda x: [tf.minimum(x * 1.0, 5.0)], [image]
        )[0]

    path = convert(tmp_path / "ever.tflite", ever)
    monkeypatch.setattr(probe, "SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(ValueError, match="two inferences do not end within 1 s; export"):
        keras_parc.TFLiteModel(path)
    assert time.monotonic() - start < 60


def test_a_file_that_needs_more_memory_than_there_is(files, tmp_path):
    """Its tensors and its image; none of it is ever touched."""
    path = convert(tmp_path / "double.tflite", lambda x: x * 2.0)
    rows = int(0.45 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) // (4 * 1024 * 3)

    def huge(graph):
        for tensor in (*graph.inputs, *graph.outputs):
            graph.tensors[tensor].shape = np.int32([1, rows, 1024, 3])

    path = changed(Path(path), tmp_path / "huge.tflite", huge)
    with pytest.raises(ValueError, match="cannot be run: it needs more memory than this machine"):
        keras_parc.inspect(path)


def test_a_detector_whose_options_only_the_runtime_reads(detector_files, tmp_path):
    content = detector_files[None, False].read_bytes()
    assert content.count(b"w_scale") == 1
    (tmp_path / "x.tflite").write_bytes(content.replace(b"w_scale", b"\xff_scale"))
    with pytest.raises(ValueError, match="cannot be run: the number of its classes cannot be read"):
        keras_parc.TFLiteDetector(tmp_path / "x.tflite")


def test_a_file_is_tried_once(files, tmp_path, probes):
    """By its content, not by its name; and as it is then run."""
    first = keras_parc.TFLiteModel(files["int8"])
    assert first(IMAGE).shape == (1, 10)
    assert [command[-2:] for command in probes] == [["AUTO", "1"]]
    (tmp_path / "copy.tflite").write_bytes(files["int8"].read_bytes())
    keras_parc.TFLiteModel(tmp_path / "copy.tflite")
    assert len(probes) == 1
    first.operators()
    keras_parc.TFLiteModel(files["int8"], threads=2)
    assert [command[-2:] for command in probes[1:]] == [[NO_DELEGATE, "1"], ["AUTO", "2"]]
    # The same name with other content.
    (tmp_path / "copy.tflite").write_bytes(files["float"].read_bytes())
    keras_parc.TFLiteModel(tmp_path / "copy.tflite")
    assert len(probes) == 4


def test_our_own_file_needs_no_probe(tmp_path, probes):
    image = tf.keras.Input((8, 8, 3))
    model = tf.keras.Model(image, tf.keras.layers.Conv2D(2, 3)(image))
    path = keras_parc.to_tflite(model, tmp_path / "m.tflite")
    keras_parc.inspect(path)
    keras_parc.TFLiteModel(path, threads=2)
    assert probes == []
    changed(path, path, lambda graph: setattr(graph, "name", b"other"))
    keras_parc.TFLiteModel(path)
    assert len(probes) == 1


def test_every_type_of_input_runs(files, tmp_path):
    """Random pixels of the type; of numbers that may be places in a table, zeros."""
    table = np.ones((3, 2), "float32")
    path = tmp_path / "places.tflite"
    module = tf.Module()
    module.call = tf.function(
        lambda places: tf.gather(table, places), [tf.TensorSpec((1, 4), tf.int32, "places")]
    )
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.call)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    path.write_bytes(converter.convert())
    for each in (path, convert(tmp_path / "uint8.tflite", conv_net(), io=tf.uint8)):
        probe.check_runs(Path(each), NO_DELEGATE, 1)


def test_the_probe_starts_without_tensorflow(files):
    """Its import alone takes 4 s."""
    code = "import sys, runpy; runpy.run_path(sys.argv[1], run_name='x'); "
    code += "print({'tensorflow', 'keras'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(probe._CHILD)], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")
