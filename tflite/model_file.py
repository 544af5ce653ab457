"""Reading a .tflite file without a runtime: are its parts in place, and what it says about itself.

Needs nothing but Python 3.9 or newer.
"""

import json
import mmap
import os
import struct
import zipfile
import zlib
from collections import namedtuple

MAX_LABELS = 2**22  # bytes

# The evaluation rule for classification: at input size 256, the short side goes to 288.
CROP = 256 / 288

# `said`: whether the file says what pixels the model takes.
Metadata = namedtuple("Metadata", "mean std channels crop output_names labels said")


class ToolError(Exception):
    """A mistake the caller can fix; printed as one line, exit code 2."""


def one_line(error):
    """The message of an error on one line, cut where it gets long."""
    return " ".join(str(error).split())[:300]


def check_is_file(path, what):
    """Refuse a folder, a pipe or a device, at which reading could wait for ever."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ToolError(f"expected a file as {what}, {path} is none")


def lines_of(text):
    """The lines of a text file; what else Unicode calls a line's end may be part of a name."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n").split("\n")


# --- structure ------------------------------------------------------------------------------------
# The tables of the schema. A field has a number and a kind: the name of a table, "string", the
# bytes of a number, a list of the kind of a vector's elements, or "union NAME", with the number of
# the table in the field before. Those of a union that are missing hold numbers, or are StableHLO's.

TABLES = {
    "Model": {
        **{0: 4, 1: ["OperatorCode"], 2: ["SubGraph"], 3: "string", 4: ["Buffer"], 5: [4]},
        **{6: ["Metadata"], 7: ["SignatureDef"]},
    },
    "OperatorCode": {0: 1, 1: "string", 2: 4, 3: 4},
    "SubGraph": {0: ["Tensor"], 1: [4], 2: [4], 3: ["Operator"], 4: "string"},
    "Tensor": {
        **{0: [4], 1: 1, 2: 4, 3: "string", 4: "Quantization", 5: 1, 6: "Sparsity", 7: [4], 8: 1},
        9: ["VariantSubType"],
    },
    "VariantSubType": {0: [4], 1: 1, 2: 1},
    "Quantization": {0: [4], 1: [4], 2: [4], 3: [8], 4: 1, 5: "union QuantizationDetails", 6: 4},
    "Sparsity": {0: [4], 1: [4], 2: ["DimensionMetadata"]},
    "DimensionMetadata": {
        **{0: 1, 1: 4, 2: 1, 3: "union SparseIndexVector"},
        **{4: 1, 5: "union SparseIndexVector"},
    },
    "Operator": {
        **{0: 4, 1: [4], 2: [4], 3: 1, 4: "union BuiltinOptions", 5: [1], 6: 1, 7: [1], 8: [4]},
        **{9: 8, 10: 8, 11: 1, 12: "union BuiltinOptions2"},
    },
    "Buffer": {0: [1], 1: 8, 2: 8},
    "Metadata": {0: "string", 1: 4},
    "SignatureDef": {0: ["TensorMap"], 1: ["TensorMap"], 2: "string", 4: 4},
    "TensorMap": {0: "string", 1: 4},
    "QuantizationDetails 1": {0: [1]},
    "SparseIndexVector 1": {0: [4]},
    "SparseIndexVector 2": {0: [2]},
    "SparseIndexVector 3": {0: [1]},
    "BuiltinOptions 3": {1: [4], 2: [4]},  # CONCAT_EMBEDDINGS
    "BuiltinOptions 17": {0: [4]},  # RESHAPE
    "BuiltinOptions 30": {0: [4]},  # SQUEEZE
    "BuiltinOptions 111": {0: "string", 1: "string"},  # VAR_HANDLE
    "BuiltinOptions 115": {0: [4]},  # BUCKETIZE
}
# Bits of an element, by the type of the tensor; others are not checked.
BITS = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 8: 64, 9: 8, 10: 64, 11: 128, 12: 64}
BITS.update({15: 32, 16: 16, 17: 4, 18: 16})


class DamageError(Exception):
    """What does not fit, for the message of `check_model`."""


def check_model(path):
    """Refuse a file that is no model, or whose parts do not lie where it says they do.

    A runtime may end without a word on such a file. Not checked is what operations make of their
    options and shapes.
    """
    check_is_file(path, "the model")
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            if head[4:8] != b"TFL3":
                raise ToolError(
                    f"{path} is not a .tflite: expected TFL3 at bytes 4 to 8, got {head[4:8]!r}"
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _Structure(data).check()
    except OSError as error:
        raise ToolError(f"cannot read the model {path}: {error.strerror}") from error
    except DamageError as error:
        raise ToolError(f"{path} is damaged: {one_line(error)}: copy or export it again") from error


class _Structure:
    def __init__(self, data):
        self.data, self.size = data, len(data)
        self.left = self.size  # elements still to be visited: an honest file has fewer than bytes

    def check(self):
        """Every table, vector and string inside the file; then the numbers that point at others."""
        model = self.number("I", 0)
        self.table("Model", model)
        buffers = [self.buffer(each) for each in self.tables(model, 4)]
        codes = _span(self.data, model, 1)[1]
        graphs = self.tables(model, 2)
        for graph in graphs:
            self.graph(graph, codes, buffers)
        for entry in self.tables(model, 6):
            below(self.value("I", entry, 1), len(buffers), "metadata", "buffer")
        for signature in self.tables(model, 7):
            graph = self.value("I", signature, 4)
            below(graph, len(graphs), "a signature", "subgraph")
            tensors = _span(self.data, graphs[graph], 0)[1]
            for entry in self.tables(signature, 0) + self.tables(signature, 1):
                below(self.value("I", entry, 1), tensors, "a signature", "tensor")

    def table(self, name, start):
        """Check a table and all that it refers to."""
        vtable = start - self.number("i", start)
        length, size = self.number("H", vtable), self.number("H", vtable + 2)
        self.inside(vtable, length, 2)
        self.inside(start, size, 4)
        fields = TABLES.get(name, {})
        for number in range((length - 4) // 2):
            place = self.number("H", vtable + 4 + 2 * number)
            kind = fields.get(number, 1)
            if not place:
                continue
            if place + (kind if isinstance(kind, int) else 4) > size:
                raise DamageError(f"field {number} of {name} at {start} lies outside of it")
            if isinstance(kind, str) and kind.startswith("union "):
                kind = f"{kind[6:]} {self.value('B', start, number - 1)}"
            if not isinstance(kind, int):
                self.target(kind, start + place + self.number("I", start + place))

    def target(self, kind, start):
        """Check what an offset leads to: a string, a vector or a table."""
        if isinstance(kind, str) and kind != "string":
            self.table(kind, start)
            return
        length, element = self.number("I", start), 1 if kind == "string" else kind[0]
        width = element if isinstance(element, int) else 4
        self.inside(start + 4, length * width, width)
        if kind == "string" and self.number("B", start + 4 + length):
            raise DamageError(f"the text at {start} has no end")
        self.left -= length if width > 1 else 1
        if self.left < 0:
            raise DamageError("its parts overlap")
        if width is not element:
            for place in range(start + 4, start + 4 + 4 * length, 4):
                self.table(element, place + self.number("I", place))

    def inside(self, start, length, alignment):
        if not 0 <= start <= start + length <= self.size:
            raise DamageError(f"{length} bytes expected at {start}, the file has {self.size} bytes")
        if start % alignment:
            raise DamageError(f"a number of {alignment} bytes at {start}")

    def number(self, code, place):
        width = struct.calcsize(code)
        self.inside(place, width, width)
        return struct.unpack_from("<" + code, self.data, place)[0]

    def value(self, code, table, number):
        """A number in a table that has been checked."""
        field = _field(self.data, table, number)
        return self.number(code, field) if field else 0

    def tables(self, table, number):
        return _vector(self.data, table, number)

    def integers(self, table, number):
        start, length = _span(self.data, table, number)
        return struct.unpack_from(f"<{length}i", self.data, start)

    def buffer(self, buffer):
        """The bytes of a buffer: in a vector or, in files beyond 2 GB, behind the tables."""
        place, length = self.value("Q", buffer, 1), self.value("Q", buffer, 2)
        if place > 1:
            self.inside(place, length, 1)
            return length
        return _span(self.data, buffer, 0)[1]

    def graph(self, graph, codes, buffers):
        """Check the numbers in a subgraph."""
        tensors = self.tables(graph, 0)
        for index, tensor in enumerate(tensors):
            name, shape = f"tensor {index}", self.integers(tensor, 0)
            buffer = self.value("I", tensor, 2)
            below(buffer, len(buffers), name, "buffer")
            if min(shape, default=0) < 0:
                raise DamageError(f"{name} has the shape {shape}")
            bits, sparse = BITS.get(self.value("B", tensor, 1)), _field(self.data, tensor, 6)
            if buffers[buffer] and bits and not sparse:
                count = bits
                for side in shape:
                    count *= side
                if -(-count // 8) != buffers[buffer]:
                    raise DamageError(f"{name} of the shape {shape} has {buffers[buffer]} bytes")
        for index in self.integers(graph, 1) + self.integers(graph, 2):
            below(index, len(tensors), "the subgraph", "tensor")
        written = list(self.integers(graph, 1))
        # What has values before an operator runs: inputs, constants, variables, earlier results.
        empty = {
            index
            for index, tensor in enumerate(tensors)
            if not buffers[self.value("I", tensor, 2)]
            and not self.value("B", tensor, 5)
            and 0 not in self.integers(tensor, 0)
        }
        empty.difference_update(written)
        lacking = []
        for index, operator in enumerate(self.tables(graph, 3)):
            name = f"operator {index}"
            below(self.value("I", operator, 0), codes, name, "operator code")
            for field in (1, 2, 8):  # inputs, outputs, intermediates; -1: none
                for tensor in self.integers(operator, field):
                    if tensor != -1:
                        below(tensor, len(tensors), name, "tensor")
            lacking += [(name, each) for each in self.integers(operator, 1) if each in empty]
            written += self.integers(operator, 2)
            empty.difference_update(self.integers(operator, 2))
            place, length = self.value("Q", operator, 9), self.value("Q", operator, 10)
            if place > 1:
                self.inside(place, length, 1)
        for index in written:
            if index >= 0 and buffers[self.value("I", tensors[index], 2)]:
                raise DamageError(f"tensor {index} is a constant and would be written")
        for name, tensor in lacking:
            raise DamageError(f"{name} reads tensor {tensor}, which has no values")


def below(index, count, name, kind):
    """Refuse a number of something that is not there."""
    if not 0 <= index < count:
        raise DamageError(f"{name} names {kind} {index} of {count}")


# --- metadata -------------------------------------------------------------------------------------
# A flatbuffer table starts with the distance back to its vtable; the vtable lists where each field
# lies. Field numbers: tensorflow/lite/schema/schema.fbs and metadata_schema.fbs.


def read_metadata(path):
    """Read what a file says about itself: pixels and no names where it says nothing.

    What keras_parc records of the image goes before the metadata of other writers, which know
    neither the order of the channels nor a crop.
    """
    with open(path, "rb") as file:
        model = file.read()
    mean, std, channels, crop, names, said = [0.0], [1.0], "rgb", CROP, [], False
    try:
        data = _entry(model, "TFLITE_METADATA")
        if data:
            subgraph = _vector(data, _follow(data, 0), 3)[0]
            for tensor in _vector(data, subgraph, 2)[:1]:
                for unit in _vector(data, tensor, 4):
                    kind = _field(data, unit, 0)
                    if kind and data[kind] == 1:  # NormalizationOptions
                        options = _follow(data, _field(data, unit, 1))
                        mean, std = (_floats(data, options, field) for field in (0, 1))
                        said = True
            names = [_string(data, tensor, 0) for tensor in _vector(data, subgraph, 3)]
        record = _entry(model, "keras_parc_image")
        if record:
            facts = json.loads(record.decode())
            crop = float(facts["crop"])
            said = "mean" in facts
            if said:
                mean, std = ([float(each) for each in facts[name]] for name in ("mean", "std"))
                channels = facts["channels"]
        if channels not in ("rgb", "bgr") or not 0 < crop <= 1:
            raise ValueError
    except (struct.error, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"the metadata in {path} is damaged: export the model again") from error
    return Metadata(mean, std, channels, crop, names, _packed_labels(path), said)


def _entry(model, name):
    """What stands under a name in a file."""
    root = _follow(model, 0)
    buffers = _vector(model, root, 4)
    for entry in _vector(model, root, 6):
        if _string(model, entry, 0) == name:
            field = _field(model, entry, 1)
            index = struct.unpack_from("<I", model, field)[0] if field else 0
            return _bytes(model, buffers[index], 0)
    return b""


def _packed_labels(path):
    """The labels in the archive that metadata writers append to a .tflite, or None."""
    try:
        with zipfile.ZipFile(path) as archive:
            texts = [each for each in archive.infolist() if each.filename.endswith(".txt")]
            texts.sort(key=lambda each: "label" not in each.filename)
            if not texts:
                return None
            if texts[0].file_size > MAX_LABELS:
                raise ToolError(
                    f"the labels in {path} take {texts[0].file_size} bytes: give others (--labels)"
                )
            return lines_of(archive.read(texts[0]).decode())
    except zipfile.BadZipFile:
        return None
    except (RuntimeError, NotImplementedError, ValueError, OSError, zlib.error) as error:
        # encrypted, packed in an unknown way, damaged, or not UTF-8
        raise ToolError(
            f"the labels in {path} cannot be read ({one_line(error)}): give others (--labels)"
        ) from error


def _follow(data, position):
    return position + struct.unpack_from("<I", data, position)[0]


def _field(data, table, number):
    """Where field `number` of a table lies, or None where it is left at its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    entry = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + entry)[0] if entry < size else 0
    return table + offset if offset else None


def _span(data, table, number):
    """Start and length of a vector field."""
    field = _field(data, table, number)
    if field is None:
        return 0, 0
    start = _follow(data, field)
    return start + 4, struct.unpack_from("<I", data, start)[0]


def _vector(data, table, number):
    start, length = _span(data, table, number)
    return [_follow(data, start + 4 * i) for i in range(length)]


def _floats(data, table, number):
    start, length = _span(data, table, number)
    return list(struct.unpack_from(f"<{length}f", data, start))


def _bytes(data, table, number):
    start, length = _span(data, table, number)
    return data[start : start + length]


def _string(data, table, number):
    return _bytes(data, table, number).decode()
