"""Conversion with a proof: a file is compared with its model before anybody gets it."""

import dataclasses
import logging
import tempfile
from collections.abc import Sequence

import keras

from keras_parc.lite.file.outputs import OpenFile
from keras_parc.lite.process import ConversionProcess, TaskError
from keras_parc.lite.rewrite.checked import Reference, difference
from keras_parc.lite.rewrite.deploy import rewritten, unchanged
from keras_parc.lite.rewrite.emission import emit
from keras_parc.lite.rewrite.graph import Graph
from keras_parc.lite.rewrite.operations import ACTIVATION, SIGMOID, SOFTMAX
from keras_parc.lite.rewrite.signature import output_names
from keras_parc.lite.tracing import save_function, with_names
from keras_parc.support import compat

log = logging.getLogger(__name__)

# What the rounding of weights alone may cost; "dynamic" rounds more than "float16".
_ROUNDED = {"float16": 0.05, "dynamic": 0.5}
_OUTPUTS = {"segmentation": "mask", "embed": "embedding"}


@dataclasses.dataclass(frozen=True)
class Converted:
    """A file, and what it was made from.

    Args:
        content: Its bytes.
        reference: The model that was converted, with samples: without a last softmax if it was cut.
        softmax: Whether a last softmax was cut.
    """

    content: bytes
    reference: Reference
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
    name, names, precision = repr(reference.model.name), None, None
    if quantize != "int8":
        precision = quantize
    if rewrite:
        graph, model, left = rewritten(reference, target, strict)
        names = _output_names(reference.model, graph, task)
        softmax = quantize == "int8" and _cut_softmax(graph)
        made = Reference(emit(graph) if softmax else model, reference.inputs, reference.samples)
        content, wrong = _proved(made, precision, process, names)
        if content is not None:
            return Converted(content, made, softmax)
        if left.whole:
            raise RuntimeError(f"{name} {wrong}{_culprit(made, process)}")
        if strict:
            raise ValueError(f"{name} as rewritten {wrong}.")
    graph, model = unchanged(reference)
    whole = Reference(model, reference.inputs, reference.samples)
    names = names or _output_names(reference.model, graph, task)
    content, problem = _proved(whole, precision, process, names)
    if content is None:
        raise RuntimeError(f"{name} {problem}{_culprit(made if rewrite else whole, process)}")
    if rewrite:
        log.warning("%s as rewritten %s: it is converted as it is.", name, wrong)
    return Converted(content, whole)


def _proved(
    made: Reference, precision: str | None, process: ConversionProcess, names: Sequence[str]
) -> tuple[bytes | None, str]:
    """A file that computes what its model does; or None, and what is wrong with it."""
    try:
        content = _convert(made, precision, process, names)
    except TaskError as error:
        return None, f"cannot be converted to built-in operations: {error}"
    try:
        gap = _gap(content, made)
    except ValueError as error:
        return None, f"makes a file that the runtime does not take: {error}"
    if gap <= _ROUNDED.get(precision, made.tolerance):
        return content, ""
    return None, f"differs in TensorFlow Lite by {gap:.2g} of its largest output"


def _culprit(made: Reference, process: ConversionProcess) -> str:
    """The first layer with which the model cannot be converted, and what to do, as a sentence."""
    calls = [call for call in compat.calls(made.model) if not call.is_input]

    def fails(number: int) -> bool:
        tensor = calls[number].outputs[0]
        part = Reference(keras.Model(made.model.input, tensor), made.inputs, made.samples)
        return _proved(part, None, process, ["output"])[0] is None

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


def _convert(made: Reference, quantize, process: ConversionProcess, names) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_function(made.model, made.inputs, folder)
        content = process.run("convert", folder, quantize)
    return with_names(content, [each.name for each in made.inputs.entries], names)


def _gap(content: bytes, made: Reference) -> float:
    """How far a file is from its model on the samples."""
    if not made.repeats:
        return 0.0
    run = OpenFile(content)
    return difference([run(each) for each in made.samples], made.outputs)
