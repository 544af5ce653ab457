"""From a rewritten model to a SavedModel for the converter, and its names back into the file."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import tree

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.rewrite.signature import ModelInputs


def save_function(model: keras.Model, inputs: ModelInputs, folder: str) -> None:
    """Write a model of batch 1 as a SavedModel, its inputs and outputs numbered in their order.

    Args:
        model: A model that `deploy` wrote.
        inputs: What it takes.
        folder: Where to write.
    """
    import tensorflow as tf

    # Weights become constants, and gradients are left out: otherwise TensorFlow traces functions to
    # save every weight and to derive every activation, which takes longer than the conversion.
    weights, state = (
        [variable.numpy() for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )

    def run(*tensors):
        given = tensors[0]
        if inputs.structure is not None:
            given = tree.pack_sequence_as(inputs.structure, list(tensors))
        results = model.stateless_call(weights, state, given, training=False)[0]
        # The converter takes no output that is an input, nor one twice.
        return {
            _numbered("output", number): tf.identity(each)
            for number, each in enumerate(tree.flatten(results))
        }

    specs = [
        tf.TensorSpec((1, *each.shape), each.dtype, name=_numbered("input", number))
        for number, each in enumerate(inputs.entries)
    ]
    function = tf.function(run, input_signature=specs)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    module = tf.Module()
    # Those that Keras does not know of, as of a layer that a Lambda calls.
    module.held = list(function.get_concrete_function().graph.variables)
    tf.saved_model.save(module, folder, signatures=function, options=options)


def with_names(content: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Give a converted file the names of inputs and outputs, in the order of the model.

    Args:
        content: What the converter made of a SavedModel of `save_function`.
        inputs: A name for each input.
        outputs: A name for each output.
    """
    model = flatbuffer.read(content)
    (signature,), graph = model.signatureDefs, model.subgraphs[0]
    for kind, names in (("input", inputs), ("output", outputs)):
        entries = {entry.name.decode(): entry for entry in getattr(signature, f"{kind}s")}
        ordered = [entries[_numbered(kind, number)] for number in range(len(names))]
        for entry, name in zip(ordered, names, strict=True):
            entry.name = name.encode()
        setattr(signature, f"{kind}s", ordered)
        setattr(graph, f"{kind}s", np.int32([entry.tensorIndex for entry in ordered]))
    for entry in signature.inputs:
        graph.tensors[entry.tensorIndex].name = entry.name
    return flatbuffer.write(model)


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number:03d}"  # TensorFlow sorts by name
