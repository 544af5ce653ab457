"""A signature of a TensorFlow SavedModel as a Keras model."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers

from keras_parc.support import compat
from keras_parc.support.text import first_of, one_line, without_colours

log = logging.getLogger(__name__)

_DEFAULT = "serving_default"


def is_saved_model(path: str | os.PathLike) -> bool:
    """Whether a path is the folder of a SavedModel."""
    return (Path(path) / "saved_model.pb").is_file()


class SavedModel(layers.Layer):
    """Calls a signature of a SavedModel, its variables as constants."""

    def __init__(self, function, names: Sequence[str], **arguments):
        super().__init__(**arguments)
        self._function, self._names = function, list(names)

    def call(self, inputs):
        # Images of uint8 come as float32, as the file takes them.
        kinds = [each.dtype.name for each in self._function.inputs]
        results = self._function(*map(keras.ops.cast, inputs, kinds))
        return dict(zip(self._names, results, strict=True))


def of_saved_model(folder: Path) -> keras.Model:
    """The default signature of a SavedModel, or its first one, as a model.

    Raises:
        ValueError: It cannot be loaded, or has no signature whose inputs and outputs begin with a
            batch.
    """
    import tensorflow as tf

    text = f"The SavedModel {str(folder)!r}"
    try:
        loaded = tf.saved_model.load(str(folder))  # held, as it holds the variables
        signatures = loaded.signatures
    except Exception as error:  # whatever the content of the folder provokes
        words = one_line(f"{type(error).__name__}: {error}")
        raise ValueError(f"TensorFlow cannot load {str(folder)!r}: {words}") from error
    if not signatures:
        raise ValueError(
            f"{text} has no signature to export: save it with `model.export`, or with "
            "`tf.saved_model.save` and its `signatures`."
        )
    name = _DEFAULT if _DEFAULT in signatures else next(iter(signatures))
    if name != _DEFAULT and len(signatures) > 1:
        log.warning(
            "%s has no %r: its signature %r is exported, of %s.",
            text,
            _DEFAULT,
            name,
            first_of(list(signatures)),
        )
    function = signatures[name]
    specs = function.structured_input_signature[1]
    _check(text, specs, function.structured_outputs)
    names = sorted(function.structured_outputs)
    frozen = compat.frozen(function)
    if any(each.dtype == tf.resource for each in frozen.inputs):
        raise ValueError(
            f"{text} looks up a table, which TensorFlow Lite does not have: export what follows it."
        )
    # The frozen function takes its inputs in an order of its own, and names them.
    keys = [each.name.partition(":")[0] for each in frozen.inputs]
    if set(keys) != set(specs):
        raise ValueError(
            f"The inputs of the SavedModel {str(folder)!r} cannot be told apart: {sorted(specs)} "
            f"in its signature, {sorted(keys)} in its graph."
        )
    inputs = {
        key: keras.Input(batch_shape=specs[key].shape, dtype=specs[key].dtype.name, name=key)
        for key in keys
    }
    called = folder.name or "saved_model"
    try:
        outputs = SavedModel(frozen, names, name=called)([inputs[k] for k in keys])
    except Exception as error:  # whatever its graph provokes
        words = one_line(without_colours(str(error).rpartition("Error encountered:")[2]))
        raise ValueError(f"{text} cannot be called: {words}") from error
    alone = len(inputs) == 1
    return keras.Model(
        next(iter(inputs.values())) if alone else inputs,
        next(iter(outputs.values())) if len(outputs) == 1 else outputs,
        name=called,
    )


def _check(text: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """Refuse a signature that is no model of batches of numbers."""
    if not inputs or not outputs:
        raise ValueError(f"{text} has {len(inputs)} inputs and {len(outputs)} outputs.")
    for name, spec in inputs.items():
        kind = spec.dtype
        if kind.name == "string":
            raise ValueError(
                f"{text} takes text as {name!r}, which TensorFlow Lite does not compute with: "
                "export what follows, which takes numbers."
            )
        if kind.is_floating and kind.name != "float32":
            raise ValueError(f"{text} takes {kind.name} as {name!r}: save it with float32.")
        if not spec.shape.rank or spec.shape[0] not in (None, 1):
            raise ValueError(
                f"{text} takes {spec.shape} as {name!r}: its first side must be the batch, None or "
                "1. Save a signature that has it."
            )
    for name, spec in outputs.items():
        if not spec.shape.rank:
            raise ValueError(
                f"{text} returns {spec.shape} as {name!r}: its first side must be the batch. Save "
                "a signature that has it."
            )
