"""What `keras-parc export` takes: a `.keras` file, a SavedModel, or a function of a model."""

import contextlib
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from keras_parc.support.text import one_line
from keras_parc.tasks.model_files import load_model, model_file
from keras_parc.tasks.saved_model import is_saved_model, of_saved_model

log = logging.getLogger(__name__)


def is_reference(text: str | os.PathLike) -> bool:
    """Whether a text is `module:function`, and no path.

    Example:
        >>> is_reference("my_project.models:build"), is_reference("model.keras")
        (True, False)
    """
    module, colon, name = os.fspath(text).partition(":")
    words = [*module.split("."), *name.split(".")]
    return bool(colon) and all(word.isidentifier() for word in words)


def exportable(model: str | os.PathLike, imports: Sequence[str] = ()) -> keras.Model:
    """A model to export.

    Args:
        model: A `.keras` file, the folder of a run or of a SavedModel, or `module:function`: a
            function without arguments that returns a Keras model, or a model itself.
        imports: Modules to import first, which define the layers and functions of the user's own,
            registered or not.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no model, or cannot be loaded; the message says what is missing.

    Example:
        >>> exportable("keras_parc:ParCNetTiny").name
        'parc_net_tiny'
    """
    if ("" not in sys.path and imports) or is_reference(model):
        sys.path.insert(0, os.getcwd())  # as `python -m` has it
    own = {}
    for name in imports:
        own |= _defined(_module(name))
    if is_reference(model):
        return _referenced(os.fspath(model))
    if is_saved_model(model):
        return of_saved_model(Path(model))
    # A scope of Keras hides those around it.
    with keras.saving.custom_object_scope(own) if own else contextlib.nullcontext():
        loaded = load_model(model_file(model))
    if not isinstance(loaded, keras.Model):
        raise ValueError(f"Only a Keras model can be exported, got {str(model)!r}.")
    if not loaded.built:
        log.warning(
            "%s was saved before it was built: what has no weights in %s has random ones in the "
            "file. Call the model on an input, train it, and save it again.",
            loaded.name,
            model,
        )
    return loaded


def _defined(module: ModuleType) -> dict[str, Any]:
    """Classes and functions of a module by name, as Keras looks for those not registered."""
    return {
        name: each
        for name, each in vars(module).items()
        if (inspect.isclass(each) or inspect.isfunction(each))
        and str(each.__module__).partition(".")[0] != "keras"
    }


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        hint = " Give its name without .py." if name.endswith(".py") else ""
        raise ValueError(
            f"The module {name!r} cannot be imported: {_said(error)}.{hint}"
        ) from error


def _said(error: BaseException) -> str:
    return one_line(f"{type(error).__name__}: {error}")


def _referenced(text: str) -> keras.Model:
    module, _, name = text.partition(":")
    found = _module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{text!r}: there is no {part!r} in {module!r}.")
        found = getattr(found, part)
    if not isinstance(found, keras.Model) and callable(found):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise ValueError(f"{text!r} cannot be called: {_said(error)}") from error
    if not isinstance(found, keras.Model):
        raise ValueError(f"{text!r} is no Keras model, but {type(found).__name__}.")
    return found
