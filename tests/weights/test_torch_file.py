"""Reading PyTorch files: real ones, made ones, and thousands of hostile ones."""

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch_files import (
    FOLDER,
    Call,
    Global,
    Raw,
    examples,
    legacy_bytes,
    pickled,
    state_dict_bytes,
    tensor,
    with_torch,
    write_with_torch,
    zip_bytes,
)

from keras_parc.weights import torch_file
from keras_parc.weights.pickle_data import CheckpointError, read_pickle
from keras_parc.weights.torch_file import read_torch_file

ARRAY = np.arange(6, dtype="float32").reshape(2, 3)
STORAGE = {"0": ARRAY.tobytes()}


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype, name
        np.testing.assert_array_equal(state[name], value, err_msg=name)


@pytest.fixture
def read(tmp_path):
    def read_bytes(content):
        path = tmp_path / "checkpoint.pt"
        path.write_bytes(content)
        return read_torch_file(path)

    return read_bytes


def of_tree(tree, **records):
    return zip_bytes(pickled(tree), STORAGE, **records)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_that_pytorch_wrote(form):
    assert_same(read_torch_file(FOLDER / f"torch_{form}.pt"), examples())


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_that_pytorch_writes_now(form, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch to write files")
    path = tmp_path / "a.pt"
    legacy = form == "legacy"
    write_with_torch(path, legacy, with_torch())
    assert_same(read_torch_file(path), examples())

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).half()
    write_with_torch(path, legacy, model.state_dict())  # an OrderedDict with `_metadata`
    assert_same(read_torch_file(path), {k: v.numpy() for k, v in model.state_dict().items()})

    optimizer = torch.optim.AdamW(model.parameters())
    training = {
        "epoch": 3,
        "best_metric": 0.5,
        "model_state_dict": {f"module.{k}": v for k, v in model.state_dict().items()},
        "optim_state_dict": optimizer.state_dict(),
    }
    write_with_torch(path, legacy, training)
    assert_same(read_torch_file(path), {k: v.numpy() for k, v in model.state_dict().items()})

    write_with_torch(path, legacy, model)
    with pytest.raises(CheckpointError, match=r"asks for 'torch\.nn\.modules\.container\.Seq"):
        read_torch_file(path)


def test_other_pickle_protocols_and_torchscript(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch to write files")
    path = tmp_path / "a.pt"
    for protocol in (2, 3, 4, 5):
        torch.save(with_torch(), path, pickle_protocol=protocol)
        assert_same(read_torch_file(path), examples())
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_torch_file(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_made_here_are_what_pytorch_reads(legacy, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch to read files")
    state = {name: value for name, value in examples().items() if value.flags["C_CONTIGUOUS"]}
    path = tmp_path / "a.pt"
    path.write_bytes(state_dict_bytes(state, legacy))
    loaded = torch.load(path, weights_only=True)
    assert_same({name: value.numpy() for name, value in loaded.items()}, state)
    assert_same(read_torch_file(path), state)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_made_here(read, legacy):
    state = {name: value for name, value in examples().items() if value.flags["C_CONTIGUOUS"]}
    assert_same(read(state_dict_bytes(state, legacy)), state)


def test_big_endian(read):
    content = zip_bytes(
        pickled({"a": tensor("0", ARRAY)}), {"0": ARRAY.astype(">f4").tobytes()}, byteorder=b"big"
    )
    assert_same(read(content), {"a": ARRAY})
    bfloat = np.array([0x3F80, 0xC020], ">u2")
    described = tensor("0", np.zeros(2, "float16"), storage="BFloat16Storage")
    content = zip_bytes(pickled({"a": described}), {"0": bfloat.tobytes()}, byteorder=b"big")
    assert_same(read(content), {"a": np.array([1.0, -2.5], "float32")})


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "ema", "model_state_dict"])
def test_wrappers_and_prefix(read, wrapper):
    inner = {"module.a": tensor("0", ARRAY)}
    assert_same(read(of_tree({wrapper: inner, "epoch": 3})), {"a": ARRAY})
    assert_same(read(of_tree({"model": {wrapper: inner}})), {"a": ARRAY})
    # A tensor of that name is no wrapper, and a prefix that only some have is part of the name.
    plain = {wrapper: tensor("0", ARRAY), "module.a": tensor("0", ARRAY)}
    assert_same(read(of_tree(plain)), {wrapper: ARRAY, "module.a": ARRAY})


def test_averaged_weights_are_preferred(read):
    other = np.ones((2, 3), "float32")
    trees = {"model": {"a": tensor("0", ARRAY)}, "ema": {"a": tensor("1", other)}}
    content = zip_bytes(pickled(trees), STORAGE | {"1": other.tobytes()})
    assert_same(read(content), {"a": other})


def test_nothing_can_be_changed_through_what_is_read(read):
    state = read(of_tree({"a": tensor("0", ARRAY), "b": tensor("0", ARRAY)}))
    assert np.shares_memory(state["a"], state["b"])
    with pytest.raises(ValueError, match="read-only"):
        state["a"][0, 0] = 1


def described(**changes):
    return {"a": tensor("0", ARRAY, **changes)}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": Call(Global("os", "system"), ("id",))}, r"asks for 'os\.system'.*refused"),
        ({"a": Call(Global("builtins", "eval"), ("1",))}, r"'builtins\.eval'"),
        ({"a": Raw(b"cos\nsystem\n")}, r"'os\.system'"),
        ({"a": Raw(b"(ios\nsystem\n")}, "operation INST"),
        ({"a": Raw(b")\x81")}, "operation NEWOBJ"),
        ({"a": Raw(b"\x82\x01")}, "operation EXT1"),
        ({"a": Raw(b"h\x07")}, "pickle is damaged"),
        ({"a": Call("torch", ())}, "calls something that is no function"),
        ({"a": Call(Global("torch", "FloatStorage"), ())}, "is no function"),
        ({"a": Call(Global("collections", "OrderedDict"), ([],))}, "an OrderedDict of something"),
        ({"a": Call(Global("torch._utils", "_rebuild_tensor_v2"), (1,))}, "in an unknown way"),
        ({(1, 2): 3}, "key of type tuple"),
        (described(offset=-1), "not of whole numbers"),
        (described(shape=(2, 2**70)), "not of whole numbers"),
        (described(shape=(2, True)), "not of whole numbers"),
        (described(strides=(-3, 1)), "not of whole numbers"),
        (described(shape=(10**6, 10**6), strides=(0, 0)), "larger than its storage"),
        (described(shape=(0, 10**14, 10**14)), "shape and strides do not match"),
        (described(shape=(0, 10**14, 10**14), strides=(1,) * 3), "larger than its storage"),
        (described(shape=(7,), strides=(0,)), "larger than its storage"),
        (described(offset=1), "reaches beyond"),
        (described(strides=(4, 1)), "reaches beyond"),
        (described(shape=(1,) * 33, strides=(1,) * 33), "33 dimensions"),
        (described(count=2**20), "should have 4194304 bytes, the archive has 24"),
        (described(count=2**28 + 1), "weights have 1073741828 bytes; at most 1073741824 are read"),
        (described() | {"b" * 1001: 1}, r"a key of 1001 characters, 'bbb+'\.\.\.; expected 1000"),
        ({"a": tensor("b" * 1001, ARRAY)}, "a storage with a key of 1001 characters"),
        ({number: 1 for number in range(10_001)}, "more than 10000 entries under numbers"),
        ({"a": 2**2040}, "operation LONG4"),
        ({"two\nlines\x1b": 1}, r"no tensors: two lines\?\."),
        (described(storage="DoubleStorage"), "should have 48 bytes, the archive has 24"),
        (described(storage="QInt8Storage"), r"'torch\.QInt8Storage'"),
        (described() | {"b": tensor("1", ARRAY)}, "'1' should have 24 bytes, the archive has None"),
        (described() | {"b": tensor("0", ARRAY, count=5)}, "in two ways"),
        (described() | {"epoch": 3}, "no tensors: epoch"),
        ({1: tensor("0", ARRAY)}, "numbers instead of names"),
        ({}, "no dict of tensors"),
        ([1, 2], "no dict of tensors"),
    ],
)
def test_refused(read, tree, message):
    with pytest.raises(CheckpointError, match=message):
        read(of_tree(tree))


def test_refused_archives(read, tmp_path):
    good = pickled(described())
    with pytest.raises(CheckpointError, match="byte order is b'middle'"):
        read(zip_bytes(good, STORAGE, byteorder=b"middle"))
    with pytest.raises(CheckpointError, match=r"2 records data\.pkl"):
        read(zip_bytes(good, STORAGE, **{"again/data.pkl": good}))
    with pytest.raises(CheckpointError, match="more than 4194304 bytes"):
        read(zip_bytes(good + bytes(2**22), STORAGE))
    with pytest.raises(CheckpointError, match="more than 500000 pickle operations"):
        read(zip_bytes(b"\x80\x02" + b"N" * 600_000, STORAGE))
    with pytest.raises(CheckpointError, match="does not begin as a checkpoint does"):
        read(pickled({"a": 1}))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt.*pickle is damaged"):
        read(b"<!DOCTYPE html>")
    with pytest.raises(CheckpointError, match="list of storages"):
        read(legacy_bytes(pickled({"a": tensor("0", ARRAY, True)}), {"1": ARRAY}))
    with pytest.raises(CheckpointError, match="says 6 and ends 4 bytes too early"):
        read(legacy_bytes(pickled({"a": tensor("0", ARRAY, True)}), {"0": ARRAY})[:-4])
    with pytest.raises(FileNotFoundError, match=r"no checkpoint '.*none\.pt'"):
        read_torch_file(tmp_path / "none.pt")


@pytest.mark.parametrize("wanted", [True, False])
def test_a_sparse_file_of_64_gib(tmp_path, wanted):
    """It takes no room on a disk. Numbers beside the state dict are not read, of any size."""
    count = 2**34
    huge = {"huge": tensor("1", ARRAY, True, count=count, shape=(count,), strides=(1,))}
    model = {"a": tensor("0", ARRAY, True)}
    tree = {"model": model | huge} if wanted else {"model": model, "optimizer": huge}
    content = legacy_bytes(pickled(tree), {"0": ARRAY, "1": np.zeros(0, "float32")})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content[:-8] + struct.pack("<q", count))
    os.truncate(path, len(content) + 4 * count)
    if wanted:
        with pytest.raises(CheckpointError, match="weights have 68719476760 bytes; at most 1073"):
            read_torch_file(path)
    else:
        assert_same(read_torch_file(path), {"a": ARRAY})


def test_a_list_of_records_that_is_too_long(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled({}))
        for number in range(70):
            info = zipfile.ZipInfo(str(number))
            info.comment = bytes(2**16 - 1)
            archive.writestr(info, b"")
    with pytest.raises(CheckpointError, match="list of records has more than 4194304 bytes"):
        read_torch_file(path)


def test_names_of_records_in_an_error_are_cut(tmp_path):
    path, name = tmp_path / "checkpoint.pt", "x" * 60_000 + "/data.pkl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, pickled({}))
    path.write_bytes(path.read_bytes().replace(b"xx", b"yx", 1))  # not so in the list of records
    with pytest.raises(CheckpointError, match="archive is damaged: File name in dir") as caught:
        read_torch_file(path)
    assert len(str(caught.value)) < 1000


def test_too_little_memory(read, monkeypatch):
    def array(*_):
        raise MemoryError

    monkeypatch.setattr(torch_file._Storage, "array", array)
    with pytest.raises(CheckpointError, match="needs more memory than there is"):
        read(of_tree(described()))


def test_pickle_of_python(tmp_path):
    value = {"a": [1, -2.5, None, True, ("b", 2**100)], 3: {"c": ()}}
    for protocol in (2, 3, 4, 5):
        path = tmp_path / "p"
        path.write_bytes(pickle.dumps(value, protocol))
        with path.open("rb") as stream:
            assert read_pickle(stream, {}, None) == value


@pytest.mark.slow
def test_thousands_of_hostile_files():
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "fuzz_torch_file.py"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["failures"] == []
    outcomes = result["outcomes"]
    assert sum(outcomes.values()) >= 3000
    assert outcomes["zip, damaged: loaded"] > 0  # damage that does not matter
    assert outcomes["nested: refused"] > 100
