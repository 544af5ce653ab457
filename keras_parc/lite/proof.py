"""Conversion with a proof: a file is compared with its model before anybody gets it."""

import dataclasses
import logging
import re
import tempfile
from collections.abc import Sequence

import keras
import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.outputs import OpenFile
from keras_parc.lite.process import ConversionProcess, TaskError
from keras_parc.lite.rewrite.checked import Reference
from keras_parc.lite.rewrite.deploy import rewritten, unchanged
from keras_parc.lite.rewrite.emission import emit
from keras_parc.lite.rewrite.graph import Graph
from keras_parc.lite.rewrite.operations import ACTIVATION, SIGMOID, SOFTMAX
from keras_parc.lite.rewrite.rules_activation import expand_hard_silu
from keras_parc.lite.rewrite.signature import output_names
from keras_parc.lite.tracing import save_function, with_names
from keras_parc.support import compat
from keras_parc.support.text import one_line

log = logging.getLogger(__name__)

# What the rounding of weights may do to a model that is not trained: here only a file that fails.
_ROUNDED = {"float16": 1.0, "dynamic": 1e3}
_OUTPUTS = {"segmentation": "mask", "embed": "embedding"}


@dataclasses.dataclass(frozen=True)
class Converted:
    """A file, and what it was made from.

    Args:
        content: Its bytes.
        model: The model that was converted: without a last softmax if it was cut.
        softmax: Whether a last softmax was cut.
    """

    content: bytes
    model: keras.Model
    softmax: bool = False


def converted(
    reference: Reference,
    quantize: str | None,
    process: ConversionProcess,
    *,
    task: str | None = None,
    target: str = "litert",
    rewrite: bool = True,
    strict: bool = False,
) -> Converted:
    """Convert a model, rewritten, and compare the file with it.

    Args:
        reference: The model, with samples of its inputs.
        quantize: See `to_tflite`; for "int8" the file is float32, without a last softmax.
        process: The process of the converter.
        task: What the outputs are for, where it is known.
        target: See `to_tflite`.
        rewrite: See `to_tflite`.
        strict: See `to_tflite`.

    Raises:
        RuntimeError: The model cannot be converted so that the file computes the same.
        ValueError: `strict`, and something had to be left out of the rewrite.
    """
    name = repr(reference.model.name)
    precision = None if quantize == "int8" else quantize
    made, wrong = None, ""
    if rewrite:
        without = () if quantize == "int8" else (expand_hard_silu,)
        graph, model, left = rewritten(reference, target, strict, without)
        names = _output_names(reference.model, graph, task)
        softmax = quantize == "int8" and _cut_softmax(graph)
        made = emit(graph) if softmax else model
        content, wrong = _proved(made, reference, precision, process, names, softmax)
        if content is not None:
            return Converted(content, made, softmax)
        if left.whole:
            raise RuntimeError(f"{name} {wrong}{_culprit(made, reference, process)}")
        if strict:
            raise ValueError(f"{name} as rewritten {wrong}.")
    graph, whole = unchanged(reference)
    names = names if rewrite else _output_names(reference.model, graph, task)
    content, problem = _proved(whole, reference, precision, process, names)
    if content is None:
        raise RuntimeError(f"{name} {problem}{_culprit(made or whole, reference, process)}")
    if rewrite:
        log.warning("%s as rewritten %s: it is converted as it is.", name, wrong)
    return Converted(content, whole)


def _proved(
    model: keras.Model,
    reference: Reference,
    precision: str | None,
    process: ConversionProcess,
    names: Sequence[str],
    softmax: bool = False,
) -> tuple[bytes | None, str]:
    """A file that computes what the reference does; or None, and what is wrong with it.

    `softmax`: whether a last softmax was cut off the model.
    """
    try:
        content = _convert(model, reference, precision, process, names)
    except TaskError as error:
        return None, f"cannot be converted to built-in operations: {_reason(str(error))}"
    try:
        run = OpenFile(content)
        found = [run(each) for each in reference.samples]
    except (RuntimeError, ValueError) as error:
        return None, f"makes a file that the runtime does not run: {error}"
    if softmax:
        found = [[_softmax(each) for each in outputs] for outputs in found]
    gap = reference.gap(found)
    if gap <= _ROUNDED.get(precision, 0.0):
        return content, ""
    return None, f"differs in TensorFlow Lite by {gap:.2g} of its largest output"


def _reason(message: str) -> str:
    """What the converter says in many lines, in one: the operations that there are not, if so."""
    found = re.search(r"^\s*(?:TF Select|Custom) ops: (.+)$", message, re.MULTILINE)
    return f"TensorFlow Lite has no {found[1]}" if found else one_line(message, 200)


def _softmax(x: np.ndarray) -> np.ndarray:
    exponents = np.exp(x - x.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def _culprit(model: keras.Model, reference: Reference, process: ConversionProcess) -> str:
    """The first layer with which a model cannot be converted, and what to do, as a sentence."""
    calls = [call for call in compat.calls(model) if not call.is_input]

    def fails(number: int) -> bool:
        part = keras.Model(model.input, calls[number].outputs[0])
        own = Reference(part, reference.inputs, reference.samples)
        return _proved(part, own, None, process, ["output"])[0] is None

    low, high = 0, len(calls) - 1
    while low < high:
        middle = (low + high) // 2
        if fails(middle):
            high = middle
        else:
            low = middle + 1
    operation = calls[low].operation
    operation = getattr(operation, "operation", operation)  # of a `Kept`
    return (
        f". It begins with {operation.name!r} ({type(operation).__name__}): replace it by layers "
        "that TensorFlow Lite has."
    )


def _output_names(model: keras.Model, graph: Graph, task: str | None) -> list[str]:
    names = output_names(model, graph.structure)
    if len(names) > 1 or isinstance(graph.structure, dict):
        return names
    (last,) = graph.outputs
    if task in _OUTPUTS:
        return [_OUTPUTS[task]]
    if last.op is ACTIVATION and last["function"] in (SOFTMAX, SIGMOID):
        return ["scores"]
    return ["logits"] if len(last.shape) == 1 else names


def _cut_softmax(graph: Graph) -> bool:
    last = graph.outputs[0]
    if len(graph.outputs) > 1 or last.op is not ACTIVATION or last["function"] is not SOFTMAX:
        return False
    graph.outputs = list(last.inputs)
    return True


def _convert(
    model: keras.Model, reference: Reference, precision, process: ConversionProcess, names
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        try:
            save_function(model, reference.inputs, folder)
        except Exception as error:  # whatever the code of a layer raises in a graph
            raise TaskError(f"{type(error).__name__}: {error}") from error
        content = process.run("convert", folder, precision)
    if precision == "dynamic":
        file = flatbuffer.read(content)
        flatbuffer.float_depthwise(file)
        content = flatbuffer.write(file)
    return with_names(content, [each.name for each in reference.inputs.entries], names)
