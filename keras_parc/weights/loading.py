"""From published files and users' checkpoints into models."""

import contextlib
import inspect
import logging
import math
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from keras_parc.support.files import replacing
from keras_parc.weights.cache import converted_weights
from keras_parc.weights.names import load_state_dict, official_name
from keras_parc.weights.presets import Preset
from keras_parc.weights.torch_file import CheckpointError, read_torch_file

log = logging.getLogger(__name__)

HEAD = "predictions"
# What depends on the number of classes.
SCORES = re.compile(rf"{HEAD}|head\d+_scores|segmentation_logits")
# Layers of the zoo; others lie before an `input_tensor`.
PARTS = ("stem_", "stage", "head", "extra", "aspp", "segmentation_logits", HEAD)
EXPANSION = ("head_expand_conv", "head_expand_bn")  # absent from detectors and segmenters


def preset_file(preset: Preset) -> Path:
    """Find the converted weights of a preset in the cache, or download and convert them.

    Args:
        preset: One of `keras_parc.list_presets()`.

    Returns:
        A verified `.weights.h5` file, for `load_preset`.

    Raises:
        OSError: The file cannot be had or cached.
        ValueError: The published file is not as expected.
    """
    import keras_parc

    return converted_weights(
        preset, lambda source, out: _convert(preset, source, out), keras_parc.__version__
    )


def load_preset(model: keras.Model, preset: Preset, path: Path) -> None:
    """Load published weights into a model; what the file or the model does without is logged.

    Args:
        model: A model made by the constructor that `preset` names.
        preset: One of `keras_parc.list_presets()`.
        path: What `preset_file` returned.

    Raises:
        ValueError: The model is not built as the published one, apart from its head.
    """
    published = _published(preset)
    published.load_weights(path)
    theirs, ours = _weights(published), _weights(model)
    unused = theirs.keys() - ours.keys()
    fresh = ours.keys() - theirs.keys()
    for name in theirs.keys() & ours.keys():
        if [v.shape for v in theirs[name]] != [v.shape for v in ours[name]]:
            fresh.add(name)
    optional = {name for name in unused | fresh if SCORES.fullmatch(name)}
    problems = sorted((unused | fresh) - optional - set(EXPANSION if preset.scope else ()))
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


def _weights(model: keras.Model) -> dict[str, list]:
    found = {
        layer.name: [v for v in layer.weights if "seed_generator" not in v.path]
        for layer in model.layers
        if layer.name.startswith(PARTS)
    }
    return {name: variables for name, variables in found.items() if variables}


def _published(preset: Preset) -> keras.Model:
    """The model that the converted file of a preset fits."""
    build = constructor(preset.model)
    with _aside():
        if preset.scope:
            import keras_parc

            return keras_parc.features(build(include_top=False))
        return build(classes=preset.classes)


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Build in float32 and leave the user's random numbers and settings as they were."""
    state, policy = random.getstate(), keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        random.setstate(state)
        keras.config.set_dtype_policy(policy)


def _convert(preset: Preset, source: Path, out: Path) -> None:
    model = _published(preset)
    load_state_dict(model, read_torch_file(source), scope=preset.scope, ignored=preset.ignored)
    _save(model, out)


def _save(model: keras.Model, path: Path) -> None:
    """Write `.weights.h5`, or raise OSError if there is no room for it.

    HDF5 crashes the process at its end after a failed write, so plain zeros try the room first.
    """
    size = sum(math.prod(variable.shape) * 4 for variable in model.weights)
    with path.open("wb") as file:
        for _ in range(int(1.25 * size) // 2**20 + 2):  # HDF5 adds about 2 kB for a variable
            file.write(bytes(2**20))
    model.save_weights(path)


def constructors() -> dict[str, Callable[..., keras.Model]]:
    """The constructors of `keras_parc` that make classifiers, by their names, sorted."""
    return _taking("include_top")


def _taking(argument: str) -> dict[str, Callable[..., keras.Model]]:
    import keras_parc

    return {
        name: value
        for name, value in sorted(vars(keras_parc).items())
        if inspect.isfunction(value) and argument in inspect.signature(value).parameters
    }


def constructor(name: str) -> Callable[..., keras.Model]:
    """A constructor of `keras_parc` that takes weights, by its name.

    Raises:
        ValueError: There is none of this name.

    Example:
        >>> constructor("ParCNetXS")(input_shape=(32, 32, 3)).name
        'parc_net_xs'
    """
    found = _taking("weights")
    if name not in found:
        raise ValueError(f"There is no model {name!r}; there are {', '.join(found)}.")
    return found[name]


def import_checkpoint(
    checkpoint: str | os.PathLike, model: str, out: str | os.PathLike
) -> keras.Model:
    """Convert a checkpoint trained with the authors' code to a Keras weights file.

    Nothing in the checkpoint is run. For a model with other arguments, such as an ablation, use
    `read_torch_file` and `load_state_dict`.

    Args:
        checkpoint: A file of `torch.save` with a state dict.
        model: Name of the constructor, such as "ParCNetS". The number of classes is the file's.
        out: The `.weights.h5` file to write.

    Returns:
        The model with these weights, at its default size.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The checkpoint cannot be read or does not fit the model, the model is unknown,
            or `out` does not end in `.weights.h5`.
        OSError: `out` cannot be written.

    Example:
        >>> import_checkpoint("none.pt", "ParCNetS", "out.weights.h5")
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no checkpoint 'none.pt'.
    """
    build = constructor(model)
    if not os.fspath(out).endswith(".weights.h5"):
        raise ValueError(f"The file to write must end in .weights.h5, got {str(out)!r}.")
    state = read_torch_file(checkpoint)
    built = build()
    head = _scoring(built)
    kernel = official_name(built, head, head.kernel)
    if kernel not in state:
        raise CheckpointError(
            f"{str(checkpoint)!r} has no {kernel!r}: it is no checkpoint of {model}. Its names "
            f"begin with {next(iter(state))!r}."
        )
    rows, *features = state[kernel].shape or (0,)
    classes = _classes(built, rows - _box_rows(built))
    if classes not in (0, class_count(built)) and features[:1] == [head.kernel.shape[-2]]:
        built = build(classes=classes)
    load_state_dict(built, state)
    with replacing(out) as temporary:
        _save(built, temporary)
    return built


def class_count(model: keras.Model) -> int:
    """The number of classes of a model of this package; of a detector, without background.

    Example:
        >>> import keras_parc
        >>> class_count(keras_parc.ParCNetXS(input_shape=(32, 32, 3), classes=7))
        7
    """
    return _classes(model, _scoring(model).kernel.shape[-1])


def _scoring(model: keras.Model) -> keras.layers.Layer:
    """The last layer whose size depends on the number of classes."""
    return [layer for layer in model.layers if SCORES.fullmatch(layer.name)][-1]


def _box_rows(model: keras.Model) -> int:
    """How many outputs of the authors' last convolution are boxes and no scores."""
    name = _scoring(model).name
    boxes = name.replace("scores", "boxes")
    return 0 if boxes == name else model.get_layer(boxes).filters


def _classes(model: keras.Model, scores: int) -> int:
    """The classes that so many outputs of the scoring layer stand for."""
    boxes = _box_rows(model)
    return max(scores // (boxes // 4) - 1, 0) if boxes else scores
