"""What a model takes and returns, by name: its inputs at the shapes of an export."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import keras
from keras import tree

from keras_parc.lite.rewrite.kept import float32_for
from keras_parc.support import compat

Shape = tuple[int, ...]
_MAX_VALUES = 2**26  # of one input: what is made of more fills the memory


@dataclass(frozen=True)
class ModelInput:
    """One input at the shape of an export.

    Args:
        name: In the signature of the file.
        shape: Without the batch.
        dtype: "float32" for real numbers and for images of uint8, else the model's own.
    """

    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True)
class ModelInputs:
    """The inputs of a model at the shapes of an export.

    Args:
        entries: Each of them, in order.
        structure: How the model nests them.
    """

    entries: tuple[ModelInput, ...]
    structure: Any = None

    @property
    def image(self) -> Shape | None:
        """The shape `(height, width, channels)` of the only input, if it is an image."""
        shapes = [each.shape for each in self.entries]
        return shapes[0] if len(shapes) == 1 and len(shapes[0]) == 3 else None


def model_inputs(
    model: keras.Model, input_size: Sequence[int] | None = None, input_shape: Any = None
) -> ModelInputs:
    """The inputs of a model, all sides known.

    Args:
        model: A functional model, or one that was built or called.
        input_size: `(height, width)` in pixels of its images, where the model leaves them open.
        input_shape: The shapes of its inputs without the batch, nested as the model takes them:
            `(28, 28)`, `[(224, 224, 3), (5,)]`, `{"image": (224, 224, 3), "age": (1,)}`. Needed
            where it leaves other sides open, or has no inputs yet.

    Raises:
        ValueError: A shape is missing, impossible, or not the model's.

    Example:
        >>> image = keras.Input((None, None, 3))
        >>> model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
        >>> model_inputs(model, (32, 48)).image
        (32, 48, 3)
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a Keras model, got {model!r}. Open a file with "
            "`keras.models.load_model`."
        )
    if input_size is not None and input_shape is not None:
        raise ValueError("Give `input_size` or `input_shape`, not both.")
    structure, own = _own_inputs(model)
    stated = [None] * len(own) if structure is not None else None
    if input_shape is not None:
        structure, stated = _stated(model, structure, input_shape)
        own = own or [(name, (None,) * len(s), "float32") for name, s in _named(structure, stated)]
    if not own:
        raise ValueError(
            f"The inputs of {model.name!r} are not known: call it once on an input, or state "
            "`input_shape`, without the batch."
        )
    if input_size is not None:
        stated = _of_size(model, own, input_size)
    shapes = [
        _shape(model, each, wanted, input_size) for each, wanted in zip(own, stated, strict=True)
    ]
    for name, _, dtype in own:
        if dtype == "string":
            raise ValueError(
                f"The input {name!r} of {model.name!r} takes text, which TensorFlow Lite does not "
                "compute with: export the model that follows its lookup, which takes numbers."
            )
    for (name, _, _), shape in zip(own, shapes, strict=True):
        if math.prod(shape) > _MAX_VALUES:
            raise ValueError(
                f"The input {name!r} of {model.name!r} would be {shape}: expected at most "
                f"{_MAX_VALUES:,} values. State a smaller size."
            )
    whole = len(own) == 1 and len(shapes[0]) == 3
    entries = []
    for (name, _, dtype), shape in zip(own, shapes, strict=True):
        kind = "float32" if dtype == "uint8" and len(shape) == 3 else float32_for(dtype)
        entries.append(ModelInput("image" if whole else name, shape, kind))
    return ModelInputs(tuple(entries), structure)


def output_names(model: keras.Model, structure: Any) -> list[str]:
    """Names of what a model returns: the keys of a dictionary, else its last layers' names.

    Args:
        model: The model.
        structure: How it nests its outputs.
    """
    return _names(structure, getattr(model, "output_names", None))


def safe_name(name: str) -> str:
    """A name of letters, digits, dots, hyphens and underscores, as TensorFlow takes them.

    Example:
        >>> safe_name("_stem/conv:0"), safe_name("")
        ('stem_conv_0', 'x')
    """
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_.-") or "x"


def _names(structure: Any, layers: Sequence[str] | None) -> list[str]:
    """A safe name for each leaf, each once: of its key, or of its layer where it has none."""
    names = []
    for number, (path, _) in enumerate(tree.flatten_with_path(structure)):
        key = path[-1] if path else None
        if not isinstance(key, str):
            key = layers[number] if layers else f"output_{number}"
        names.append(safe_name(key))
    used: set[str] = set()
    for number, name in enumerate(names):
        free, count = name, 1
        while free in used:
            free, count = f"{name}_{count}", count + 1
        names[number] = free
        used.add(free)
    return names


def _own_inputs(model) -> tuple[Any, list[tuple[str, tuple, str]]]:
    """How a model nests its inputs; name, shape without the batch and type of each."""
    inner = compat.functional(model)
    if getattr(model, "inputs", None):
        structure = inner.input if compat.has_graph(inner) else list(model.inputs)
        if isinstance(structure, list) and len(structure) == 1:
            (structure,) = structure
        names = _names(structure, [each.name for each in model.inputs])
        return structure, [
            (name, tuple(each.shape[1:]), keras.backend.standardize_dtype(each.dtype))
            for name, each in zip(names, model.inputs, strict=True)
        ]
    shapes = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if shapes is None:
        return None, []
    structure, flat = _nested(shapes)
    return structure, [
        (name, tuple(shape[1:]), "float32") for name, shape in _named(structure, flat)
    ]


def _nested(shapes) -> tuple[Any, list[tuple]]:
    """Shapes in a structure: that structure with numbers in place of shapes, and the shapes."""
    flat: list[tuple] = []

    def visit(each):
        if isinstance(each, dict):
            return {key: visit(each[key]) for key in sorted(each)}
        if isinstance(each, (list, tuple)) and any(
            isinstance(x, (list, tuple, dict)) for x in each
        ):
            return [visit(x) for x in each]
        if not isinstance(each, (list, tuple)):
            raise ValueError(f"`input_shape` must be shapes without the batch, got {each!r}.")
        flat.append(tuple(each))
        return len(flat) - 1

    return visit(shapes), flat


def _named(structure, flat) -> list[tuple[str, tuple]]:
    names = _names(structure, [f"input_{number}" for number in range(len(flat))])
    return list(zip(names, flat, strict=True))


def _stated(model, structure, input_shape) -> tuple[Any, list[tuple]]:
    given, flat = _nested(input_shape)
    if structure is None:
        return given, flat
    try:
        tree.assert_same_structure(tree.lists_to_tuples(given), tree.lists_to_tuples(structure))
    except ValueError:
        one = len(flat) == 1 == len(tree.flatten(structure))
        if not one:
            raise ValueError(
                f"`input_shape` must be nested as {model.name!r} takes its "
                f"{len(tree.flatten(structure))} inputs, got {input_shape!r}."
            ) from None
    return structure, flat


def _of_size(model, own, input_size) -> list[tuple | None]:
    """The shapes of images of a size; None for what is no image."""
    if not isinstance(input_size, (tuple, list)) or len(input_size) != 2:
        raise ValueError(f"`input_size` must be (height, width), got {input_size!r}.")
    for side, wanted in zip(("height", "width"), input_size, strict=True):
        if isinstance(wanted, bool) or not isinstance(wanted, Integral) or wanted < 1:
            raise ValueError(
                f"`input_size`: the {side} must be positive, a whole number of pixels, got "
                f"{wanted!r}."
            )
    images = [len(shape) == 3 for _, shape, _ in own]
    if not any(images):
        raise ValueError(f"{model.name!r} takes no images: state `input_shape` instead.")
    return [
        (*map(int, input_size), shape[2]) if image else None
        for image, (_, shape, _) in zip(images, own, strict=True)
    ]


def _shape(model, own, wanted, input_size) -> Shape:
    """The shape of one input: the model's own, with what is stated where it leaves sides open."""
    name, shape, _ = own
    if wanted is not None:
        fits = len(wanted) == len(shape) and all(
            side in (None, given) for side, given in zip(shape, wanted, strict=True)
        )
        if not fits and input_size is not None:
            _refuse_size(model, shape, wanted)
        if not fits:
            raise ValueError(
                f"`input_shape` has {wanted} for {name!r}, which in {model.name!r} is {shape}."
            )
        shape = wanted
    for side in shape:
        if side is not None and (isinstance(side, bool) or not isinstance(side, Integral)):
            raise ValueError(f"A side must be a whole number, got {side!r} in {shape}.")
        if side is not None and side < 1:
            raise ValueError(f"A side must be positive, got {side} in {shape}.")
    if None in shape:
        if len(shape) == 3 and shape[2] is not None:
            raise ValueError(
                f"The input size of {model.name!r} is not fixed: pass `input_size=(height, width)`."
            )
        raise ValueError(
            f"The shape {shape} of the input {name!r} of {model.name!r} is not fixed: state "
            "`input_shape`, without the batch."
        )
    return tuple(map(int, shape))


def _refuse_size(model, shape, wanted) -> None:
    for side, own, given in zip(("height", "width"), shape, wanted, strict=False):
        if own not in (None, given):
            raise ValueError(
                f"`input_size` asks for {side} {given}, but {model.name!r} is built for {own}. "
                "Build it with that size, or with None for both sides."
            )
