"""tflite/model_file.py: what does not fit in a file is found before a runtime opens it."""

import random
import struct
import subprocess
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from clients import TOOLS, run
from model_file import ToolError, check_model
from tflite_models import HALVES, attach_metadata, conv_net, convert, detector


def loops(image):
    """Subgraphs, and operations with tables of options of their own."""
    _, image = tf.while_loop(
        lambda i, x: i < 3, lambda i, x: (i + 1, tf.squeeze(x[None], 0)), (0, image)
    )
    return tf.reshape(image, (1, -1, 3))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Good files: float with metadata and labels, int8, four outputs, several subgraphs."""
    folder = tmp_path_factory.mktemp("good")
    return {
        "float": attach_metadata(
            convert(folder / "float.tflite", conv_net()), [0.0], [1.0], ["scores"], HALVES
        ),
        "int8": convert(folder / "int8.tflite", conv_net(), io=tf.int8),
        "detector": convert(folder / "detector.tflite", detector),
        "loops": convert(folder / "loops.tflite", loops),
    }


@pytest.fixture
def model(files):
    """The objects of the float file."""
    return schema.ModelT.InitFromPackedBuf(Path(files["float"]).read_bytes(), 0)


def write(path, model):
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def refusal(path):
    with pytest.raises(ToolError) as caught:
        check_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged: ")
    assert message.endswith(": copy or export it again")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    return message


def test_good_files(files):
    for path in files.values():
        check_model(path)
        run.open_model(path)


def test_nothing_but_python_is_needed(files):
    code = f"import sys; sys.path.insert(0, {str(TOOLS)!r}); import model_file as m; "
    code += f"m.check_model({files['float']!r}); print(m.read_metadata({files['float']!r}).labels)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{HALVES}\n", "")


@pytest.mark.parametrize("name", ["float", "int8", "loops"])
def test_every_cut_is_found(files, tmp_path, name):
    content, path = Path(files[name]).read_bytes(), tmp_path / "cut.tflite"
    end = content.find(b"PK\x03\x04") if b"PK\x03\x04" in content else len(content)
    for length in range(8, end - 16, 61):
        path.write_bytes(content[:length])
        refusal(path)


@pytest.mark.parametrize("name", ["float", "int8", "loops"])
def test_any_damage_is_one_line(files, tmp_path, name):
    """Bytes and numbers anywhere: refused, or not noticed, but no other error."""
    content, path, numbers = (
        Path(files[name]).read_bytes(),
        tmp_path / "odd.tflite",
        random.Random(0),
    )
    messages = []
    for _ in range(250):
        data = bytearray(content)
        for _ in range(numbers.choice((1, 1, 4))):
            place = numbers.randrange(8, len(data) - 4) & ~3
            value = numbers.choice((0, 1, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 8))
            struct.pack_into("<I", data, place, value)
        path.write_bytes(data)
        try:
            check_model(path)
        except ToolError as error:
            messages.append(str(error))
    assert len(messages) > 25
    assert not any("\n" in message for message in messages)


def change(name):
    """A function that damages the objects of a model, and what is said of it."""

    def tensor(graph):  # weights of the first convolution
        return graph.tensors[int(graph.operators[2].inputs[1])]

    def inputs(graph, value):
        graph.operators[2].inputs = np.int32([*graph.operators[2].inputs[:2], value])

    return {
        "buffer": (lambda m, g: setattr(tensor(g), "buffer", 999), "names buffer 999 of"),
        "no values": (lambda m, g: setattr(tensor(g), "buffer", 0), "operator 2 reads tensor"),
        "shape": (lambda m, g: setattr(tensor(g), "shape", np.int32([3, 3, 9, 9])), "bytes"),
        "scalar": (lambda m, g: setattr(tensor(g), "shape", None), "of the shape () has"),
        "negative": (lambda m, g: setattr(tensor(g), "shape", np.int32([-3, 3, 3, 16])), "(-3, "),
        "operand": (lambda m, g: inputs(g, 999), "operator 2 names tensor 999 of"),
        "result": (lambda m, g: setattr(g.operators[2], "outputs", [99]), "names tensor 99 of"),
        "negative operand": (lambda m, g: inputs(g, -2), "operator 2 names tensor -2 of"),
        "code": (lambda m, g: setattr(g.operators[0], "opcodeIndex", 50), "operator code 50 of"),
        "input": (lambda m, g: setattr(g, "inputs", np.int32([77])), "names tensor 77 of"),
        "output": (lambda m, g: setattr(g, "outputs", np.int32([-1])), "names tensor -1 of"),
        "constant": (lambda m, g: setattr(g, "inputs", np.int32([4])), "tensor 4 is a constant"),
        "overwritten": (
            lambda m, g: setattr(g.operators[0], "outputs", [4]),
            "4 is a const",
        ),
        "signature": (
            lambda m, g: setattr(m.signatureDefs[0].inputs[0], "tensorIndex", 55),
            "a signature names tensor 55 of",
        ),
        "subgraph": (
            lambda m, g: setattr(m.signatureDefs[0], "subgraphIndex", 2),
            "a signature names subgraph 2 of 1",
        ),
        "metadata": (lambda m, g: setattr(m.metadata[0], "buffer", 444), "names buffer 444 of"),
        "far buffer": (lambda m, g: far(m.buffers[tensor(g).buffer], 10**6), "bytes expected at"),
        "far options": (
            lambda m, g: vars(g.operators[0]).update(
                largeCustomOptionsOffset=16, largeCustomOptionsSize=2**40
            ),
            f"{2**40} bytes expected at 16",
        ),
    }[name]


def far(buffer, place):
    """A buffer as in files beyond 2 GB: outside of the tables."""
    buffer.offset, buffer.size, buffer.data = place, len(buffer.data), None


@pytest.mark.parametrize(
    "name",
    [
        *(
            "buffer",
            "no values",
            "shape",
            "scalar",
            "negative",
            "operand",
            "result",
            "negative operand",
            "code",
        ),
        *("input", "output", "constant", "overwritten", "signature", "subgraph", "metadata"),
        *("far buffer", "far options"),
    ],
)
def test_numbers_that_point_nowhere(model, tmp_path, name):
    damage, words = change(name)
    damage(model, model.subgraphs[0])
    assert words in refusal(write(tmp_path / "m.tflite", model))


def test_an_optional_operand_is_missing(model, tmp_path):
    graph = model.subgraphs[0]
    graph.operators[-1].inputs = np.int32([*graph.operators[-1].inputs[:2], -1])
    check_model(write(tmp_path / "m.tflite", model))


def test_buffers_behind_the_tables(model, tmp_path):
    """As the converter writes files beyond 2 GB."""
    weights = model.buffers[model.subgraphs[0].tensors[4].buffer]
    data = bytes(weights.data)
    far(weights, 2**20)
    path = write(tmp_path / "m.tflite", model)
    content = path.read_bytes()
    path.write_bytes(content + bytes(2**20 - len(content)) + data)
    check_model(path)
    run.open_model(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{len(data)} bytes expected at {2**20}" in refusal(path)


def test_a_text_without_an_end(files, tmp_path):
    content = Path(files["float"]).read_bytes()
    name = content.index(b"serving_default\0")
    path = tmp_path / "m.tflite"
    path.write_bytes(content[: name + 15] + b"x" + content[name + 16 :])
    assert f"the text at {name - 4} has no end" in refusal(path)


def test_parts_in_each_other_are_not_walked_for_ever(tmp_path):
    """3000 subgraphs that are one, of 3000 tensors that are one: 40 kB, nine million visits."""
    builder = flatbuffers.Builder()

    def table(fields):
        builder.StartObject(8)
        for number, offset in fields.items():
            builder.PrependUOffsetTRelativeSlot(number, offset, 0)
        return builder.EndObject()

    def many(offset):
        builder.StartVector(4, 3000, 4)
        for _ in range(3000):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    graphs = many(table({0: many(table({}))}))
    builder.Finish(table({2: graphs}), b"TFL3")
    (tmp_path / "m.tflite").write_bytes(builder.Output())
    assert "its parts overlap" in refusal(tmp_path / "m.tflite")
