"""Published files and users' checkpoints into models, and models into weights files."""

import contextlib
import json
import logging
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_parc.support.random_state import undisturbed
from keras_parc.support.version import VERSION
from keras_parc.weights.cache import converted_weights
from keras_parc.weights.names import NameMap, load_state_dict
from keras_parc.weights.presets import Preset
from keras_parc.weights.torch_file import read_torch_file

log = logging.getLogger(__name__)

_UNSET = -0.0123456  # in every place of a variable: no file has that


def preset_file(preset: Preset, published: Callable[[], keras.Model], name_map: NameMap) -> Path:
    """Find the converted weights of a preset in the cache, or download and convert them.

    Args:
        preset: One of `keras_parc.list_presets()`.
        published: Builds the model that the published file fits.
        name_map: The names of its tensors in the file.

    Returns:
        A verified `.weights.h5` file, for `load_preset`.

    Raises:
        OSError: The file cannot be had or cached.
        ValueError: The published file is not as expected.
    """

    def convert(source: Path, out: Path) -> None:
        with _aside():
            model = published()
        tensors = read_torch_file(source)
        load_state_dict(model, tensors, name_map, scope=preset.scope, ignored=preset.ignored)
        save_weights(model, out)

    return converted_weights(preset, convert, VERSION)


def load_preset(
    model: keras.Model,
    preset: Preset,
    path: Path,
    published: Callable[[], keras.Model],
    optional: tuple[str, ...] = (),
) -> None:
    """Load published weights into a model; what the file or the model does without is logged.

    Args:
        model: A model made by the constructor that `preset` names.
        preset: One of `keras_parc.list_presets()`.
        path: What `preset_file` returned.
        published: Builds the model that the file fits.
        optional: Names of layers that may be missing, or of another size, on either side: those
            that depend on the number of classes.

    Raises:
        ValueError: The model is not built as the published one, apart from its head.
    """
    with _aside():
        source = published()
    source.load_weights(path)
    theirs, ours = _weights(source), _weights(model)
    unused = theirs.keys() - ours.keys()
    fresh = ours.keys() - theirs.keys()
    for name in theirs.keys() & ours.keys():
        if [v.shape for v in theirs[name]] != [v.shape for v in ours[name]]:
            fresh.add(name)
    problems = sorted((unused | fresh) - {*optional, *preset.absent})
    if problems:
        raise ValueError(
            f"`weights={preset.weights!r}` are of {preset.model} with its default arguments and "
            f"three input channels; these layers are not as there: {', '.join(problems)}."
        )
    for name in ours.keys() - fresh:
        for variable, value in zip(ours[name], theirs[name], strict=True):
            variable.assign(value)
    if fresh:
        log.warning(
            "weights=%r: everything but %s is loaded; these layers keep their random values.",
            preset.weights,
            ", ".join(sorted(fresh)),
        )
    elif unused:
        log.info("weights=%r: everything but the head is loaded.", preset.weights)


def load_own(model: keras.Model, path: str, optional: tuple[str, ...] = ()) -> None:
    """Load a user's file; weights of another number of classes are loaded but for the head.

    Args:
        model: The model; unchanged after an error.
        path: A `.weights.h5` or `.keras` file.
        optional: Names of the layers that depend on the number of classes: where the file has
            others, they keep their random values, which is logged.

    Raises:
        ValueError: The file is damaged, or holds the weights of another model.
    """
    layers, before = _weights(model), model.get_weights()
    for variable in model.weights:
        if keras.backend.is_float_dtype(variable.dtype):
            variable.assign(ops.full(variable.shape, _UNSET, variable.dtype))
    try:
        # Keras takes the layers in the order of the model, and warns of each that does not fit.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.load_weights(path, skip_mismatch=True)
        missing = sorted(name for name, variables in layers.items() if any(map(_unset, variables)))
        loaded = model.get_weights()
    except Exception as error:  # Of HDF5, zip and Keras, whatever the file provokes.
        words = " ".join(str(error).split())
        raise ValueError(f"`weights`: {path!r} cannot be read: {words}") from error
    finally:
        model.set_weights(before)
    if strangers := [name for name in missing if name not in optional]:
        raise ValueError(
            f"`weights`: {path!r}{_name_in(path)} does not hold the weights of {model.name!r}: "
            f"nothing in it fits {len(missing)} of the {len(layers)} layers that have any, such as "
            f"{strangers[0]!r}. Expected what `save_weights` or `save` of this model wrote."
        )
    kept = {id(variable) for name in missing for variable in layers[name]}
    for variable, value in zip(model.weights, loaded, strict=True):
        if id(variable) not in kept:
            variable.assign(value)
    if not all(np.isfinite(value).all() for value in loaded):
        log.warning("weights=%r: some of the weights are NaN or infinite.", path)
    if missing:
        log.warning(
            "weights=%r: everything but %s is loaded; these layers keep their random values.",
            path,
            ", ".join(missing),
        )


def _unset(variable: keras.Variable) -> bool:
    return bool(ops.all(variable == ops.cast(_UNSET, variable.dtype)))


def _name_in(path: str) -> str:
    """What a `.keras` file says its model is, for a message."""
    if not path.endswith(".keras"):
        return ""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    return f", the model {config['config'].get('name')!r},"


def _weights(model: keras.Model) -> dict[str, list]:
    found = {
        layer.name: [v for v in layer.weights if "seed_generator" not in v.path]
        for layer in model.layers
    }
    return {name: variables for name, variables in found.items() if variables}


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Build in float32 and leave the user's random numbers and settings as they were."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with undisturbed():
            yield
    finally:
        keras.config.set_dtype_policy(policy)


def save_weights(model: keras.Model, path: Path) -> None:
    """Write a model's weights.

    HDF5 crashes the process at its end after a failed write, so plain zeros try the room first.

    Args:
        model: A built model.
        path: The `.weights.h5` file to write.

    Raises:
        OSError: There is no room for it.
    """
    size = sum(math.prod(variable.shape) * 4 for variable in model.weights)
    with path.open("wb") as file:
        for _ in range(int(1.25 * size) // 2**20 + 2):  # HDF5 adds about 2 kB for a variable
            file.write(bytes(2**20))
    model.save_weights(path)
