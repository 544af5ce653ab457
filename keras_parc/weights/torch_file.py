"""Reading PyTorch checkpoints without PyTorch: to numpy, and nothing in the file is run.

Both formats of `torch.save`: the zip archive (since 1.6) and the older sequence of pickles. Every
size is checked against the file before anything is allocated. A file may be of any size, since a
sparse one of terabytes takes no room on a disk: what is read of it has limits.
"""

import io
import logging
import math
import os
import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keras_parc.support.text import one_line
from keras_parc.weights.pickle_data import (
    MAX_BYTES,
    CheckpointError,
    Global,
    check_key,
    read_pickle,
)

log = logging.getLogger(__name__)

BFLOAT16 = "bfloat16"  # numpy has none: such tensors become float32, exactly
_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
MAX_DIMENSIONS, MAX_COUNT = 32, 2**48
MAX_WEIGHTS = 2**30  # bytes of what is read: a quarter of a billion weights of float32
# What `zipfile` raises on damage: it has an error of its own, but not for all of it.
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError),
    *(OSError, ValueError, EOFError, struct.error),
)
# Where training scripts put the state dict; averaged weights are preferred, as the authors do.
WRAPPERS = ("ema_state_dict", "ema", "state_dict", "model_state_dict", "model")


@dataclass(frozen=True, eq=False)
class _Storage:
    """A run of numbers in the file; tensors are views of it."""

    key: str
    dtype: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * (2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize)

    def array(self, data: bytes, byteorder: str) -> np.ndarray:
        array = self._array(data, byteorder)
        array.flags.writeable = False
        return array

    def _array(self, data: bytes, byteorder: str) -> np.ndarray:
        if self.dtype == BFLOAT16:
            high = np.frombuffer(data, np.dtype("u2").newbyteorder(byteorder)).astype("u4")
            high <<= 16
            return high.view("f4")
        if self.dtype == "?":
            return np.frombuffer(data, "u1") != 0
        dtype = np.dtype(self.dtype)
        return np.frombuffer(data, dtype.newbyteorder(byteorder)).astype(dtype, copy=False)


@dataclass(frozen=True, eq=False)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, storage: np.ndarray) -> np.ndarray:
        size = storage.itemsize
        strides = [step * size for step in self.strides]
        return np.ndarray(self.shape, storage.dtype, storage, self.offset * size, strides)


def read_torch_file(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the state dict in a file of `torch.save`, without PyTorch and without running anything.

    Handled: zip and legacy format, float64/32/16, bfloat16, integers and bool, views and shared
    storages, little and big endian, a wrapper key ("state_dict", "model", "ema", ...) and names
    that all begin with "module.".

    Only the tensors of the state dict are read, not those of an optimizer beside it; at most 1 GiB.

    Args:
        path: A checkpoint, usually `.pt` or `.pth`.

    Returns:
        Names to arrays in PyTorch's layout, read-only; bfloat16 becomes float32.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file holds anything but a state dict, is damaged or hostile.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "notes.pt"
        >>> _ = path.write_text("no checkpoint")
        >>> read_torch_file(path)
        Traceback (most recent call last):
            ...
        keras_parc.weights.pickle_data.CheckpointError: '...notes.pt' is no PyTorch ...
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}.")
    try:
        with _File(io.FileIO(path)) as file:
            read = _read_zip if file.read(4) == b"PK\x03\x04" else _read_legacy
            file.seek(0)
            return read(file)
    except MemoryError:
        raise CheckpointError(f"{str(path)!r} needs more memory than there is.") from None
    except CheckpointError as error:
        reason = one_line(str(error))  # the names in it are the file's
        message = f"{str(path)!r} is no PyTorch state dict that can be read: {reason}"
        raise CheckpointError(message) from None


class _File(io.BufferedReader):
    """A file that gives at most `most` bytes at once."""

    most = MAX_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if (size or 0) > self.most:
            raise CheckpointError(f"Its list of records has more than {self.most} bytes.")
        return super().read(size)


class _Contents:
    """What the pickle of a file may name, and the storages that it names."""

    def __init__(self):
        self.storages: dict[str, _Storage] = {}
        self.globals = {
            "collections.OrderedDict": self._ordered_dict,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            **{f"torch.{name}": dtype for name, dtype in _DTYPES.items()},
        }

    def read(self, stream: BinaryIO) -> object:
        return read_pickle(stream, self.globals, self._storage)

    @staticmethod
    def _ordered_dict(arguments: tuple) -> dict:
        if arguments:
            raise CheckpointError("It makes an OrderedDict of something.")
        return {}

    def _storage(self, identity) -> _Storage:
        """From `("storage", type, key, location, count)`; legacy files add a None."""
        if not (
            type(identity) is tuple and len(identity) in (5, 6) and identity[5:] in ((), (None,))
        ):
            raise CheckpointError("It names a storage in an unknown way.")
        word, kind, key, _, count = identity[:5]
        if not (type(word) is str and word == "storage" and type(key) is str):
            raise CheckpointError("It names a storage in an unknown way.")
        if not (type(kind) is Global and kind.meaning in _DTYPES.values()):
            raise CheckpointError("It names a storage of an unknown type.")
        _check_counts((count,), "size of a storage")
        check_key(key, "It has a storage with a key")
        storage = _Storage(key, kind.meaning, count)
        known = self.storages.setdefault(key, storage)
        if (known.dtype, known.count) != (storage.dtype, storage.count):
            raise CheckpointError(f"It describes the storage {key[:50]!r} in two ways.")
        return known

    @staticmethod
    def _tensor(arguments: tuple) -> _Tensor:
        """From `(storage, offset, shape, strides, requires_grad, hooks)`, later with metadata."""
        if len(arguments) not in (6, 7) or type(arguments[0]) is not _Storage:
            raise CheckpointError("It describes a tensor in an unknown way.")
        storage, offset, shape, strides = arguments[:4]
        if not (type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides)):
            raise CheckpointError("It has a tensor whose shape and strides do not match.")
        if len(shape) > MAX_DIMENSIONS:
            raise CheckpointError(f"It has a tensor of {len(shape)} dimensions.")
        _check_counts((offset, *shape, *strides), "shape of a tensor")
        sides = math.prod(side for side in shape if side)
        if sides >= MAX_COUNT or (0 not in shape and sides > storage.count):
            raise CheckpointError("It has a tensor larger than its storage.")
        if 0 in shape:
            return _Tensor(storage, 0, shape, (0,) * len(shape))
        # PyTorch leaves any number in the stride of a side of 1.
        strides = tuple(0 if side == 1 else step for side, step in zip(shape, strides, strict=True))
        last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
        if last >= storage.count:
            raise CheckpointError("It has a tensor that reaches beyond its storage.")
        return _Tensor(storage, offset, shape, strides)

    @staticmethod
    def _parameter(arguments: tuple) -> _Tensor:
        if not (arguments and type(arguments[0]) is _Tensor):
            raise CheckpointError("It describes a parameter in an unknown way.")
        return arguments[0]


def _check_counts(numbers: tuple, what: str) -> None:
    if not all(type(number) is int and 0 <= number < MAX_COUNT for number in numbers):
        raise CheckpointError(f"The {what} is not of whole numbers from 0.")


def _read_zip(file: _File) -> dict[str, np.ndarray]:
    contents = _Contents()
    try:
        with zipfile.ZipFile(file) as archive:  # reads its list of records at once, of any size
            file.most = sys.maxsize
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise CheckpointError(
                    "It is a TorchScript program. Expected what "
                    "`torch.save(model.state_dict(), path)` writes."
                )
            records = _records(archive, file)
            pickles = [name for name in records if f"/{name}".endswith("/data.pkl")]
            if len(pickles) != 1:
                raise CheckpointError(f"The archive has {len(pickles)} records data.pkl, not one.")
            prefix = pickles[0].removesuffix("data.pkl")
            if records[pickles[0]] > MAX_BYTES:
                raise CheckpointError(f"Its pickle has more than {MAX_BYTES} bytes.")
            byteorder = b"little"
            if f"{prefix}byteorder" in records:  # since PyTorch 2.1
                with archive.open(f"{prefix}byteorder") as record:
                    byteorder = record.read(len("little") + 1)
            if byteorder not in (b"little", b"big"):
                raise CheckpointError(f"Its byte order is {byteorder!r}.")
            tensors = _tensors(contents.read(io.BytesIO(archive.read(pickles[0]))))
            needed, arrays = _needed(tensors), {}
            for key, storage in contents.storages.items():
                size = records.get(f"{prefix}data/{key}")
                if size != storage.bytes:
                    raise CheckpointError(
                        f"The storage {key[:50]!r} should have {storage.bytes} bytes, "
                        f"the archive has {size}."
                    )
                if key in needed:
                    data = archive.read(f"{prefix}data/{key}")
                    arrays[key] = storage.array(data, {b"little": "<", b"big": ">"}[byteorder])
    except CheckpointError:
        raise
    except _ZIP_ERRORS as error:
        raise CheckpointError(f"The zip archive is damaged: {error}") from error
    return _views(tensors, arrays)


def _records(archive: zipfile.ZipFile, file: BinaryIO) -> dict[str, int]:
    """Names to sizes, after checking that each has bytes of its own, stored without compression."""
    records, spans = {}, []
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise CheckpointError(f"The record {info.filename[:50]!r} is compressed.")
        if info.filename in records:
            raise CheckpointError(f"The record {info.filename[:50]!r} is there twice.")
        records[info.filename] = info.file_size
        file.seek(info.header_offset)
        name_size, extra_size = struct.unpack("<26x2H", file.read(30))
        start = info.header_offset + 30 + name_size + extra_size
        spans.append((info.header_offset, start + info.file_size))
    spans.sort()
    ends = [end for _, end in spans]
    starts = [start for start, _ in spans[1:]] + [file.seek(0, io.SEEK_END)]
    if any(end > start for end, start in zip(ends, starts, strict=True)):
        raise CheckpointError("Records of the archive overlap or reach beyond its end.")
    return records


def _read_legacy(file: _File) -> dict[str, np.ndarray]:
    contents, stream = _Contents(), io.BytesIO(file.read(MAX_BYTES))
    if contents.read(stream) != MAGIC_NUMBER:
        raise CheckpointError("It does not begin as a checkpoint does.")
    if contents.read(stream) != PROTOCOL_VERSION:
        raise CheckpointError("It is of an unknown version of the legacy format.")
    contents.read(stream)  # the machine it was written on; the numbers are little endian anyway
    tensors = _tensors(contents.read(stream))
    keys, storages = contents.read(stream), contents.storages
    # In this order: a key that is none of the storages' may be long.
    named = type(keys) is list and all(type(key) is str and key in storages for key in keys)
    if not (named and len(keys) == len(storages) == len(set(keys))):
        raise CheckpointError("Its list of storages does not match its tensors.")
    position, end = stream.tell(), file.seek(0, io.SEEK_END)
    file.most = sys.maxsize
    needed, arrays = _needed(tensors), {}
    for key in keys:
        storage = storages[key]
        file.seek(position)
        count = int.from_bytes(file.read(8), "little")
        position += 8 + storage.bytes
        if count != storage.count or position > end:
            raise CheckpointError(
                f"The storage {key[:50]!r} should have {storage.count} numbers, the file says "
                f"{count} and ends {max(position - end, 0)} bytes too early."
            )
        if key in needed:
            arrays[key] = storage.array(file.read(storage.bytes), "<")
    return _views(tensors, arrays)


def _tensors(tree: object) -> dict[str, _Tensor]:
    """The state dict in what a pickle holds."""
    for _ in range(3):  # wrappers may be nested, and a hostile one without end
        found = [key for key in WRAPPERS if type(tree) is dict and type(tree.get(key)) is dict]
        if not found:
            break
        log.info("Reading %r of the checkpoint's keys %s.", found[0], found)
        tree = tree[found[0]]
    if type(tree) is not dict or not tree:
        raise CheckpointError("It holds no dict of tensors.")
    if not all(type(name) is str for name in tree):
        raise CheckpointError("Its tensors have numbers instead of names.")
    others = [name[:50] for name, value in tree.items() if type(value) is not _Tensor]
    if others:
        raise CheckpointError(f"These of its entries are no tensors: {', '.join(others[:5])}.")
    prefix = "module." if all(name.startswith("module.") for name in tree) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in tree.items()}


def _needed(tensors: dict[str, _Tensor]) -> set[str]:
    """The keys of the storages of these tensors, unless they are too large together."""
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if (size := sum(storage.bytes for storage in storages.values())) > MAX_WEIGHTS:
        raise CheckpointError(f"Its weights have {size} bytes; at most {MAX_WEIGHTS} are read.")
    return set(storages)


def _views(tensors: dict[str, _Tensor], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: tensor.view(arrays[tensor.storage.key]) for name, tensor in tensors.items()}
