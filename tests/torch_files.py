"""Files as `torch.save` writes them, made without PyTorch; the examples of the stored ones.

`python tests/torch_files.py` (with PyTorch) writes the stored files in `golden/` anew.
"""

import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "golden"
MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


@dataclass(eq=False)
class Global:
    module: str
    name: str


@dataclass(eq=False)
class Call:
    function: object
    arguments: object


@dataclass(eq=False)
class Persistent:
    identity: object


@dataclass(eq=False)
class Raw:
    """Pickle operations as they are."""

    code: bytes


def pickled(value) -> bytes:
    """A pickle of protocol 2 with the operations that `torch.save` uses, and no memo."""
    return b"\x80\x02" + _operations(value) + b"."


def _operations(value) -> bytes:
    if isinstance(value, Raw):
        return value.code
    if isinstance(value, Global):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return _operations(value.function) + _operations(value.arguments) + b"R"
    if isinstance(value, Persistent):
        return _operations(value.identity) + b"Q"
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        if len(data) > 255:
            return b"\x8b" + struct.pack("<i", len(data)) + data
        return b"\x8a" + bytes([len(data)]) + data
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_operations, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_operations, value)) + b"e"
    items = b"".join(_operations(part) for item in value.items() for part in item)
    return b"}(" + items + b"u"


def tensor(key: str, array: np.ndarray, legacy=False, **changes):
    """The description of a whole array in the storage `key`; `changes` make it hostile."""
    strides = tuple(step // array.itemsize for step in array.strides)
    parts = {"offset": 0, "shape": array.shape, "strides": strides, "count": array.size}
    parts |= {"storage": STORAGES[array.dtype.name]} | changes
    identity = ("storage", Global("torch", parts["storage"]), key, "cpu", parts["count"])
    storage = Persistent((*identity, None) if legacy else identity)
    described = (storage, parts["offset"], parts["shape"], parts["strides"], False)
    return Call(
        Global("torch._utils", "_rebuild_tensor_v2"),
        (*described, Call(Global("collections", "OrderedDict"), ())),
    )


def zip_bytes(pickle: bytes, storages: dict[str, bytes], **records: bytes) -> bytes:
    """A file of the zip format; `records` are added or replace those PyTorch writes."""
    file = io.BytesIO()
    contents = {"data.pkl": pickle, "byteorder": b"little", "version": b"3\n"}
    contents |= {f"data/{key}": data for key, data in storages.items()} | records
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in contents.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)  # of no particular time
    return file.getvalue()


def legacy_bytes(pickle: bytes, storages: dict[str, np.ndarray]) -> bytes:
    """A file of the legacy format."""
    machine = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": {}}
    parts = [pickled(MAGIC_NUMBER), pickled(PROTOCOL_VERSION), pickled(machine), pickle]
    parts.append(pickled(list(storages)))
    for array in storages.values():
        parts += [struct.pack("<q", array.size), array.tobytes()]
    return b"".join(parts)


def state_dict_bytes(state: dict[str, np.ndarray], legacy: bool = False) -> bytes:
    """A state dict as a file; arrays in C order."""
    arrays = {
        str(i): np.ascontiguousarray(a).reshape(a.shape) for i, a in enumerate(state.values())
    }
    tree = {
        name: tensor(key, array, legacy)
        for name, (key, array) in zip(state, arrays.items(), strict=True)
    }
    if legacy:
        return legacy_bytes(pickled(tree), arrays)
    return zip_bytes(pickled(tree), {key: array.tobytes() for key, array in arrays.items()})


def examples() -> dict[str, np.ndarray]:
    """What the stored files hold, as the reader should give it."""
    base = np.arange(24, dtype="float32")
    values = {dtype: (np.arange(6) - 2).reshape(2, 3).astype(dtype) for dtype in STORAGES}
    return values | {
        "bfloat16": np.array([1.0, -2.5, 3.140625, 1e30], "float32")
        .view("u4")
        .__and__(0xFFFF0000)
        .view("float32"),
        "scalar": np.array(7, "int64"),
        "empty": np.zeros((0, 3), "float32"),
        "whole": base.reshape(4, 6),
        "transposed": base.reshape(4, 6).T,
        "column": base.reshape(4, 6)[1:, 2],
        "parameter": np.array([0.5, 0.25], "float32"),
    }


def with_torch() -> dict:
    """The examples as tensors: views of one storage where their names say so."""
    import torch

    state = {
        name: torch.tensor(value).bfloat16() if name == "bfloat16" else torch.tensor(value)
        for name, value in examples().items()
    }
    whole = state["whole"]
    state |= {"transposed": whole.T, "column": whole[1:, 2]}
    return state | {"parameter": torch.nn.Parameter(state["parameter"])}


def write_with_torch(path: Path, legacy: bool, state: dict) -> None:
    import torch

    torch.save(state, path, _use_new_zipfile_serialization=not legacy)


if __name__ == "__main__":
    for format_ in ("zip", "legacy"):
        write_with_torch(FOLDER / f"torch_{format_}.pt", format_ == "legacy", with_torch())
