"""Where an int8 file loses accuracy: the noise of each operation against the float file."""

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.outputs import Example, values_of
from keras_parc.lite.quantize.traced_file import Operation, TracedFile
from keras_parc.support.files import replacing

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_COMMON = 0.6  # of the operations of two files of one model


@dataclass(frozen=True)
class Noise:
    """One operation of an int8 file; see `explain`. Ratios are in dB, infinite without noise."""

    position: int  # in the float file, from 0
    operation: str
    tensor: str  # name of its result
    shape: tuple[int, ...]  # of its result
    scale: float  # of the int8 tensor; 0 for float
    low: float  # the least value that the int8 tensor can hold
    high: float  # and the largest
    seen_low: float  # the least value of the float tensor on the images given
    seen_high: float  # and the largest
    clipped: float  # fraction of the float values outside `low` to `high`, 0 to 1
    total_db: float  # signal to the noise of this operation and all before it
    own_db: float  # signal to the noise that this operation adds
    rounding_db: float  # signal to the noise of clipping and rounding to the int8 range alone


def explain(
    float_path: str | os.PathLike, int8_path: str | os.PathLike, images: Iterable[Example]
) -> list[Noise]:
    """Compare every tensor of an int8 file with its counterpart in the float file.

    An operation's own noise is how far its result is from that of the float operation on the same
    inputs, those of the int8 file. Where it is far above the noise of rounding, look at the weights
    or the kernel; where the two are equal, at the range. Noise that the next activation removes is
    not counted: a tensor that SiLU reads is compared after SiLU.

    Args:
        float_path: The float32 file. The one that the int8 file was made from, of which `to_tflite`
            returns the bytes as `reference`, has a counterpart of every operation.
        int8_path: The int8 file made from the same model.
        images: `(n, height, width, channels)`, as the model takes them; 16 are enough. Of several
            inputs, tuples of arrays.

    Returns:
        A `Noise` for each operation that both files have, sorted by `own_db`, the noisiest first.

    Raises:
        ValueError: No images, images of another size, or files of different models.

    Example:
        >>> import keras_parc, numpy, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> folder, images = tempfile.mkdtemp(), 255 * numpy.random.rand(4, 32, 32, 3)
        >>> float_path = keras_parc.to_tflite(model, folder + "/float.tflite")
        >>> int8_path = keras_parc.to_tflite(
        ...     model, folder + "/int8.tflite", quantize="int8", calibration=images
        ... )
        >>> rows = explain(float_path, int8_path, images)
        >>> rows[0].own_db <= rows[-1].own_db
        True
    """
    images = list(images)
    reference, coarse = TracedFile(str(float_path)), TracedFile(str(int8_path))
    if not images:
        raise ValueError("`images` is empty.")
    wanted = [reference.shape(each)[1:] for each in reference.inputs]
    for image in images:
        shapes = [np.shape(each) for each in values_of(image)]
        if shapes != wanted:
            raise ValueError(f"Images must be {wanted[0]}, got {shapes[0]}.")
    pairs = match(reference, coarse)
    isolated = IsolatedOperations(Path(float_path).read_bytes())
    totals = {ours: _Total(reference, coarse, ours, theirs) for _, ours, theirs in pairs}
    for image in images:
        reference.run(image)
        coarse.run(image)
        inputs = {t: coarse.value(total.theirs) for t, total in totals.items()}
        given = {t: value.reshape(reference.shape(t)) for t, value in inputs.items()}
        isolated.run(given, reference.as_inputs(image))
        for tensor, total in totals.items():
            total.add(reference.value(tensor), inputs[tensor], isolated.value(tensor))
    rows = [totals[ours].row(place, reference) for place, ours, _ in pairs]
    return sorted(rows, key=lambda row: row.own_db)


def match(reference: TracedFile, coarse: TracedFile) -> list[tuple[int, int, int]]:
    """Pair the operations of two files of one model, by kind and shape, in order.

    Operations that only one of the files has, such as conversions, are left out.

    Args:
        reference: The float32 file.
        coarse: The int8 file.

    Returns:
        `(position in the float file, number of its result there, in the int8 file)` of each pair.

    Raises:
        ValueError: Fewer than six in ten operations have a counterpart: a float file has HARD_SWISH
            where an int8 file has not, and maps in strips elsewhere.
    """
    found = pairs(reference, coarse)
    count = sum(_is_compared(reference, each) for each in reference.operations)
    if len(found) < _COMMON * count:
        raise ValueError(
            f"The two files are not of the same model: {len(found)} of {count} operations "
            "have a counterpart. If they are, export both with `cache_kib=0`."
        )
    return found


def pairs(reference: TracedFile, coarse: TracedFile) -> list[tuple[int, int, int]]:
    """As `match`, however few operations have a counterpart."""
    first = [
        (place, each)
        for place, each in enumerate(reference.operations)
        if _is_compared(reference, each)
    ]
    second = [each for each in coarse.operations if _is_compared(coarse, each)]
    kinds = [
        [(each.name, file.shape(each.outputs[0])) for each in operations]
        for file, operations in ((reference, [e for _, e in first]), (coarse, second))
    ]
    blocks = SequenceMatcher(None, *kinds, autojunk=False).get_matching_blocks()
    return [
        (first[i + k][0], first[i + k][1].outputs[0], second[j + k].outputs[0])
        for i, j, length in blocks
        for k in range(length)
    ]


def _is_compared(file: TracedFile, operation: Operation) -> bool:
    return operation.name not in CONVERSIONS and file.is_real(operation.outputs[0])


class IsolatedOperations:
    """A float file whose operations do not feed each other: each takes the inputs it is given."""

    def __init__(self, content: bytes):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        model = flatbuffer.read(content)
        graph = model.subgraphs[0]
        self._inputs = [int(each) for each in graph.inputs]
        made = {int(tensor) for each in graph.operators for tensor in each.outputs}
        self._places: dict[int, int] = {}
        for operator in graph.operators:
            operator.inputs = np.int32(
                [self._place(graph, int(t)) if int(t) in made else t for t in operator.inputs]
            )
        graph.inputs = np.int32([*self._inputs, *self._places.values()])
        graph.outputs = np.int32(sorted(made))
        model.signatureDefs = []
        self._interpreter = Interpreter(
            model_content=flatbuffer.write(model),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()

    def _place(self, graph, tensor: int) -> int:
        if tensor not in self._places:
            copy, source = flatbuffer.schema.TensorT(), graph.tensors[tensor]
            copy.name, copy.type, copy.shape = source.name + b"_given", source.type, source.shape
            graph.tensors.append(copy)
            self._places[tensor] = len(graph.tensors) - 1
        return self._places[tensor]

    def run(self, values: dict[int, np.ndarray], example: dict[int, np.ndarray]) -> None:
        """Run every operation once; `values` are the inputs, by their number in the file.

        `example`: what the file takes, as `TracedFile.as_inputs` gives it.
        """
        for tensor in self._inputs:
            self._interpreter.set_tensor(tensor, example[tensor])
        for tensor, place in self._places.items():
            if tensor in values:
                self._interpreter.set_tensor(place, values[tensor])
        self._interpreter.invoke()

    def value(self, tensor: int) -> np.ndarray:
        """The result of the operation that makes a tensor, from the inputs given to it."""
        return self._interpreter.get_tensor(tensor)


class _Total:
    """Sums over the images, for one tensor."""

    def __init__(self, reference: TracedFile, coarse: TracedFile, ours: int, theirs: int):
        self.ours, self.theirs = ours, theirs
        self.seen = reference.activation_after(ours)
        self.scale, self.zero = coarse.quantization(theirs)
        self.low, self.high = (
            (self._real(-128), self._real(127)) if self.scale else (-np.inf, np.inf)
        )
        self.seen_low, self.seen_high = np.inf, -np.inf
        self.values = self.outside = 0
        self.power = np.zeros(4)  # signal; noise in all, own, of rounding

    def _real(self, code):
        return (code - self.zero) * self.scale

    def add(self, exact: np.ndarray, found: np.ndarray, isolated: np.ndarray) -> None:
        self.seen_low = min(self.seen_low, float(exact.min()))
        self.seen_high = max(self.seen_high, float(exact.max()))
        half = self.scale / 2
        self.outside += int(((exact < self.low - half) | (exact > self.high + half)).sum())
        self.values += exact.size
        rounded = exact
        if self.scale:
            rounded = self._real(np.clip(np.rint(exact / self.scale) + self.zero, -128, 127))
        exact, found, isolated, rounded = map(
            self.seen, (exact, found.reshape(exact.shape), isolated, rounded)
        )
        differences = exact, found - exact, found - isolated, rounded - exact
        self.power += [float(np.sum(np.square(each, dtype="float64"))) for each in differences]

    def row(self, position: int, reference: TracedFile) -> Noise:
        signal, *noises = self.power
        ratios = (10 * np.log10(signal / n) if n and signal else np.inf for n in noises)
        operation = reference.operations[position].name
        return Noise(
            position,
            operation,
            reference.name(self.ours),
            reference.shape(self.ours),
            float(self.scale),
            float(self.low),
            float(self.high),
            self.seen_low,
            self.seen_high,
            self.outside / max(self.values, 1),
            *(float(ratio) for ratio in ratios),
        )


def noise_table(rows: Sequence[Noise], limit: int = 15):
    """The first rows as a `rich.table.Table`.

    Args:
        rows: What `explain` returns.
        limit: How many rows to show at most.

    Returns:
        A table, to print with `rich`.
    """
    from rich.table import Table

    table = Table(title=f"The {min(limit, len(rows))} noisiest of {len(rows)} operations")
    table.add_column("operation")
    table.add_column("tensor", overflow="fold")
    for name in ("clipped", "own dB", "all dB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:limit]:
        table.add_row(
            row.operation,
            row.tensor.split(";")[-1].split("/", 1)[-1],  # without the model's name
            f"{100 * row.clipped:.2f} %",
            *(f"{value:.1f}" for value in (row.own_db, row.total_db)),
        )
    return table


def write_noise(rows: Sequence[Noise], path: str | os.PathLike) -> None:
    """Write rows as a CSV file, in the order given.

    Args:
        rows: What `explain` returns.
        path: The file; replaced as a whole.

    Raises:
        OSError: The file cannot be written.
    """
    names = [each.name for each in fields(Noise)]
    with replacing(Path(path)) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            values = (getattr(row, name) for name in names)
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])
