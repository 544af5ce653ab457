"""What a `.tflite` file contains, and how much of it the XNNPACK delegate runs."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import tree

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.delegation import outside
from keras_parc.lite.file.runtime import (
    TFLiteModel,
    alone,
    file_tensors,
    first,
    open_file,
    operators,
    tensor_shape,
)
from keras_parc.models.deeplab_v3 import low_resolution
from keras_parc.support import compat

_BATCH = 8  # images at a time in `agreement`: three times as fast as one by one


@dataclass(frozen=True)
class Inspection:
    """The facts about a file; see `inspect`.

    Example:
        >>> import keras_parc, tempfile
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> found = keras_parc.inspect(path)
        >>> found.operations, found.outside, found.input_shape
        ({'CONV_2D': 1}, {}, (1, 8, 8, 3))
    """

    size: int  # bytes
    operations: dict[str, int]  # name to count, most frequent first
    partitions: int  # pieces of the graph that XNNPACK runs
    outside: dict[str, int]  # operations left to the runtime's own kernels
    input_shape: tuple[int, ...]  # of several inputs a dictionary by name, in order
    input_dtype: str  # the same
    output_dtypes: tuple[str, ...]
    smallest_runtime: str  # lowest version of TensorFlow Lite that has all operations; "": unknown
    names: tuple[tuple[str, ...], tuple[str, ...]]  # of the inputs and the outputs, in order
    arena: int  # bytes for inputs and results, as a runtime without XNNPACK plans them


def inspect(path: str | os.PathLike) -> Inspection:
    """Read a `.tflite` file with the current LiteRT runtime.

    Args:
        path: The file.

    Returns:
        An `Inspection`. One partition and nothing outside it is best.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be run.

    Example:
        >>> import keras_parc, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> keras_parc.inspect(path).partitions
        1
    """
    interpreter = open_file(path)
    nodes = compat.operation_details(interpreter)
    inputs, outputs = file_tensors(interpreter)
    left = outside(nodes, [each["index"] for each in outputs.values()])
    return Inspection(
        size=Path(path).stat().st_size,
        operations=dict(Counter(operators(path)).most_common()),
        partitions=sum(node["op_name"] == "DELEGATE" for node in nodes),
        outside=dict(Counter(each["op_name"] for each in left).most_common()),
        input_shape=alone({name: tensor_shape(each) for name, each in inputs.items()}),
        input_dtype=alone({name: np.dtype(each["dtype"]).name for name, each in inputs.items()}),
        output_dtypes=tuple(np.dtype(each["dtype"]).name for each in outputs.values()),
        names=(tuple(inputs), tuple(outputs)),
        smallest_runtime=_smallest_runtime(Path(path).read_bytes()),
        arena=_arena(path),
    )


def _smallest_runtime(content: bytes) -> str:
    """The version that the converter derived from the operations and wrote into the file."""
    model = flatbuffer.read(content)
    for entry in model.metadata or []:
        if entry.name == b"min_runtime_version":
            return bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()
    return ""


@dataclass(frozen=True)
class Agreement:
    """How close a file is to its model; see `agreement`.

    Example:
        >>> Agreement(same_class=0.99, signal_to_noise_db=32.2, largest_difference=0.01).same_class
        0.99
    """

    same_class: float  # fraction of images (or pixels) with the same largest value
    signal_to_noise_db: float  # power of the model's outputs to that of the differences, the least
    largest_difference: float  # of any output


def agreement(model: keras.Model, path: str | os.PathLike, images: Iterable) -> Agreement:
    """Compare a file with the Keras model it was made from.

    Args:
        model: The model; of a segmenter, the logits at low resolution are compared. Of several
            outputs the first with classes tells `same_class`.
        path: The file.
        images: As the model takes them, `(n, height, width, channels)`, at least one; of several
            inputs arrays, nested as the model takes them.

    Returns:
        An `Agreement` over all the images.

    Raises:
        ValueError: No images, or images of another size than the file's.

    Example:
        >>> import keras_parc, numpy, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> keras_parc.agreement(model, path, numpy.random.rand(3, 32, 32, 3)).same_class
        1.0
    """
    model, file = low_resolution(model), TFLiteModel(path)
    if isinstance(file.input_shape, dict):
        inputs = tree.map_structure(np.asarray, images)
    else:
        inputs = np.asarray(list(images), "float32")
    arrays = tree.flatten(inputs)
    if not len(arrays[0]):
        raise ValueError("`images` is empty.")
    found = file(dict(zip(file.names, arrays, strict=True)))
    try:
        expected = _outputs(model, inputs, len(arrays[0]), _BATCH)
    except Exception:  # of a model that is written for a batch of one
        expected = _outputs(model, inputs, len(arrays[0]), 1)
    results = found.values() if isinstance(found, dict) else [found]
    pairs = zip(results, zip(*expected, strict=True), strict=True)
    return compared([(np.asarray(a), np.stack(b)) for a, b in pairs])


def _outputs(model, inputs, count: int, size: int) -> list[list[np.ndarray]]:
    """What a model returns for each example, run in batches, as `TFLiteModel` returns it."""
    found = []
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        batch = tree.map_structure(lambda each, part=part: each[part], inputs)
        results = [np.asarray(each) for each in tree.flatten(model(batch, training=False))]
        by_example = all(each.shape[:1] == (part.stop - start,) for each in results)
        if not by_example and size > 1:
            raise ValueError("an output is not one for each example")
        found += zip(*results, strict=True) if by_example else [map(first, results)]
    return [list(each) for each in found]


def compared(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Agreement:
    """Compare outputs: of each what was found, and what was expected."""
    same, least, largest = None, np.inf, 0.0
    for a, b in pairs:
        a, b = a.astype("float64"), b.astype("float64")
        noise = np.mean((a - b) ** 2)
        if noise:
            least = min(least, 10 * np.log10(max(np.mean(b**2), 1e-300) / noise))
        largest = max(largest, float(np.abs(a - b).max()))
        if same is None and b.ndim > 1 and (b.shape[-1] > 1 or len(pairs) == 1):
            same = float(np.mean(a.argmax(-1) == b.argmax(-1)))
    return Agreement(1.0 if same is None else same, float(least), largest)


def _arena(path: str | os.PathLike) -> int:
    interpreter = open_file(path, delegate=False)
    indices = {each["index"] for each in interpreter.get_input_details()}
    for operation in compat.operation_details(interpreter):
        indices.update(operation["outputs"])
    places = [interpreter.tensor(index)() for index in sorted(indices)]
    first = min(each.ctypes.data for each in places)
    return max(each.ctypes.data + each.nbytes for each in places) - first
