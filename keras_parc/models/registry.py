"""The registry: one entry for each model, which every table, command, test and page asks.

A file of this folder registers its constructors with `register_model`; a model of yours joins by
the same call and then has what the others have: recipes name it, `features` finds its maps, heads
build on it, commands and comparisons know it.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_parc.support.checks import unknown_name
from keras_parc.weights import presets
from keras_parc.weights.presets import Preset, published

TASKS = ("classification", "detection", "segmentation")
_ENTRIES: dict[str, "ModelEntry"] = {}


@dataclass(frozen=True)
class ModelEntry:
    """What is known of one model.

    Attributes:
        name: Name of the constructor, such as "ParCNetS".
        key: Name in recipes and files, such as "parc_net_s": the constructor's default for `name`.
        build: The constructor, with the arguments of `keras.applications`.
        family: Name of the file it is in, such as "parc_net".
        task: "classification", "detection" or "segmentation".
        input_size: `(height, width)` it was designed for, in pixels.
        takes: What it takes without preprocessing inside.
        levels: The levels of its feature pyramid, finest first: "P2" to "P5" (strides 4 to 32) to
            the name of the layer whose output is that level.
        class_layers: Names of the layers whose size depends on the number of classes.
        variants: Named settings of the constructor, such as the rows of the paper's ablation.
        presets: Published weights it brings along, beside those of `weights/presets.py`.
        own_weights: Names of weights that its constructor fetches by itself, to where they are from
            and their licence.
        recipes: Training runs it brings along: name to the fields that differ from a recipe's
            defaults, or from those of another recipe, named as "like".
        name_map: A function of a model, a layer and a variable that gives the tensor's name in the
            authors' checkpoints; None where there are none.
        listed: Whether tables of models show it; small models for tests and ablations are not.

    Raises:
        ValueError: A field out of its range.

    Example:
        >>> find_model("ParCNetS").variants["no_position"]
        {'position_embedding': False}
    """

    name: str
    key: str
    build: Callable[..., keras.Model]
    family: str
    task: str = "classification"
    input_size: tuple[int, int] = (256, 256)
    takes: str = "BGR 0..1"
    levels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    class_layers: tuple[str, ...] = ("predictions",)
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    presets: tuple[Preset, ...] = ()
    own_weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    name_map: Callable[[keras.Model, keras.layers.Layer, Any], str] | None = None
    listed: bool = True

    @property
    def all_presets(self) -> tuple[Preset, ...]:
        """The authors' weights, and those the model brings along."""
        return (*published(self.name), *self.presets)

    @property
    def weight_names(self) -> tuple[str, ...]:
        """What `weights=` can name."""
        return (*(preset.weights for preset in self.all_presets), *self.own_weights)

    def __post_init__(self):
        if self.task not in TASKS:
            raise ValueError(f"`task` must be one of {', '.join(TASKS)}, got {self.task!r}.")
        if not callable(self.build):
            raise ValueError(
                f"`build` must be a function that returns a model, got {self.build!r}."
            )
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise ValueError(f"`input_size` must be (height, width), got {self.input_size!r}.")
        for field, kind in (("levels", str), ("variants", Mapping), ("recipes", Mapping)):
            value = getattr(self, field)
            fits = isinstance(value, Mapping) and all(
                isinstance(key, str) and isinstance(each, kind) for key, each in value.items()
            )
            if not fits:
                raise ValueError(
                    f"`{field}` must be a dictionary of names to "
                    f"{'names of layers' if kind is str else 'dictionaries'}, got {value!r}."
                )


def register_model(
    constructor: Callable[..., keras.Model] | None = None, *, key: str | None = None, **fields
) -> Callable:
    """Enter a model constructor into the registry; also usable as a decorator.

    Args:
        constructor: A function with arguments of `keras.applications` that returns a Keras model.
            Recipes pass `input_shape`, `classes`, `include_top`, `classifier_activation` and
            `include_preprocessing=True`: the model takes RGB 0..255. Made on a
            `keras_parc.layers.ImageInput`, it records what it takes and its crop.
        key: Name in recipes and files. Default: the default of the constructor's `name`.
        **fields: Fields of `ModelEntry`, such as `task`, `input_size`, `levels` or `recipes`.

    Returns:
        The constructor, unchanged.

    Raises:
        ValueError: A field is unknown or out of its range, or another constructor has the name.

    Example:
        >>> import keras_parc
        >>> def MyNet(
        ...     include_top=True,
        ...     input_shape=(64, 64, 3),
        ...     classes=10,
        ...     classifier_activation="softmax",
        ...     name="my_net",
        ...     include_preprocessing=True,
        ... ):
        ...     image = x = keras_parc.layers.ImageInput(input_shape).output
        ...     x = keras.layers.Rescaling(1 / 255)(x) if include_preprocessing else x
        ...     x = keras.layers.Conv2D(8, 3, 4, name="stage2")(x)
        ...     if include_top:
        ...         x = keras.layers.GlobalAveragePooling2D()(x)
        ...         x = keras.layers.Dense(classes, classifier_activation, name="predictions")(x)
        ...     return keras.Model(image, x, name=name)
        >>> _ = keras_parc.register_model(MyNet, input_size=(64, 64), levels={"P2": "stage2"})
        >>> sorted(keras_parc.features(MyNet()).output)
        ['P2']
    """
    if constructor is None:
        return lambda function: register_model(function, key=key, **fields)
    known = {field.name for field in dataclasses.fields(ModelEntry)} - {"name", "key", "build"}
    if unknown := sorted(fields.keys() - known):
        raise ValueError(f"Unknown fields {unknown}; a model has {', '.join(sorted(known))}.")
    if not callable(constructor):
        raise ValueError(f"Expected a function that returns a model, got {constructor!r}.")
    if key is None:
        named = inspect.signature(constructor).parameters.get("name")
        key = named.default if named and isinstance(named.default, str) else constructor.__name__
    entry = ModelEntry(
        name=constructor.__name__,
        key=key,
        build=constructor,
        **{"family": constructor.__module__.rpartition(".")[2]} | fields,
    )
    for other in _ENTRIES.values():
        same_function = (other.build.__module__, other.build.__qualname__) == (
            constructor.__module__,
            constructor.__qualname__,
        )
        if {entry.name, entry.key} & {other.name, other.key} and not same_function:
            raise ValueError(
                f"{entry.name!r} ({entry.key!r}) is the name of another model, "
                f"{other.build.__module__}.{other.name}: choose another one."
            )
    _ENTRIES[entry.name] = entry
    return constructor


def list_models(
    task: str | None = None, family: str | None = None, listed: bool | None = None
) -> tuple[ModelEntry, ...]:
    """All models: those of this package by file, then others in the order of registration.

    Args:
        task: Only those of this task.
        family: Only those of this family.
        listed: True: only those that tables show; False: only the others.

    Example:
        >>> import keras_parc
        >>> [entry.name for entry in keras_parc.list_models(family="parc_net", listed=True)]
        ['ParCNetXS', 'ParCNetS', 'ParCNetH']
    """
    _load_all()

    def own_first(entry):
        module = entry.build.__module__
        own = module.startswith("keras_parc.models.")
        return (not own, module if own else "")

    return tuple(
        entry
        for entry in sorted(_ENTRIES.values(), key=own_first)
        if task in (None, entry.task)
        and family in (None, entry.family)
        and listed in (None, entry.listed)
    )


def find_model(name: str) -> ModelEntry:
    """The entry of a model.

    Args:
        name: Name of the constructor or key of the entry: "ParCNetS" or "parc_net_s".

    Raises:
        ValueError: There is no such model; the message names those there are.

    Example:
        >>> find_model("parc_net_s").name
        'ParCNetS'
    """
    if name in _ENTRIES:  # while the files of this folder are still being imported, too
        return _ENTRIES[name]
    entries = list_models()
    for entry in entries:
        if name in (entry.name, entry.key):
            return entry
    constructors = [entry.name for entry in entries]
    raise ValueError(unknown_name("model", name, [entry.key for entry in entries], constructors))


def list_presets() -> tuple[Preset, ...]:
    """List the published weights that `weights=` can name.

    Returns:
        A `Preset` for each file: model, name, task, source, checksum, licence, input, accuracy.

    Example:
        >>> import keras_parc
        >>> [preset.weights for preset in keras_parc.list_presets() if preset.model == "ParCNetS"]
        ['imagenet', 'coco', 'voc']
    """
    own = (preset for entry in list_models() for preset in entry.presets)
    return (*presets.PRESETS, *own)


def levels_of(model: keras.Model) -> dict[str, str]:
    """The levels of a model's feature pyramid, as registered: "P2" ... to the name of a layer.

    Args:
        model: A model built by a registered constructor, also one loaded from a file, or a larger
            model that holds all its layers.

    Raises:
        ValueError: No registered model has the layers of this one.

    Example:
        >>> import keras_parc
        >>> levels_of(keras_parc.ParCNetTiny(input_shape=(32, 32, 3)))["P5"]
        'stage5_fusion_act'
    """
    places = {layer.name: place for place, layer in enumerate(getattr(model, "layers", ()))}
    every = (entry.levels for entry in list_models() if entry.levels)
    found = [levels for levels in every if places.keys() >= set(levels.values())]
    if not found:
        raise ValueError(
            f"{getattr(model, 'name', model)!r} has the feature maps of no registered model: give "
            "the names of its layers, or tell them once with `keras_parc.register_model(..., "
            "levels={'P4': ..., 'P5': ...})`."
        )
    # Where several fit, the most levels, and those that end last.
    ends = [(len(levels), sum(places[name] for name in levels.values())) for levels in found]
    return dict(found[ends.index(max(ends))])


@functools.cache  # the folder is read once
def _load_all() -> None:
    """Import the files of this folder: each registers its models."""
    package = importlib.import_module("keras_parc.models")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"keras_parc.models.{module.name}")
