"""What a Keras model makes of colours before its first layer with weights."""

import inspect
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops, tree

from keras_parc.layers.image_input import ImageInput
from keras_parc.support import compat

# Whole numbers, for models of uint8: black and the primaries tell an affine function of a colour,
# the others whether it is one.
_COLOURS = np.array(
    [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 30, 90), (1, 2, 3)], "float32"
)
_SIDE = 64  # of the images, where the model leaves it open
_LARGEST = 2**22  # pixels of an image; larger ones are not worth their memory


@dataclass(frozen=True, eq=False)
class Entry:
    """A place where the network begins: a layer with weights, or an operation of another kind.

    Args:
        matrix: `(channels, 3)`, and
        shift: `(channels,)`: what goes in there is `matrix @ colour + shift`.
        recorded: The input of a nested model that records what it takes, if the place is one.
    """

    matrix: np.ndarray
    shift: np.ndarray
    recorded: ImageInput | None = None


def image_input_of(model: keras.Model) -> ImageInput | None:
    """The input of a model that records what it takes, if it has one."""
    inner = compat.functional(model)
    return next((each for each in inner.layers if isinstance(each, ImageInput)), None)


def new_input(model: keras.Model):
    """An input like the model's own, with what it records, for `clone_model(input_tensors=...)`."""
    recorded = image_input_of(model)
    return None if recorded is None else ImageInput.from_config(recorded.get_config()).output


def entries(model: keras.Model) -> list[Entry]:
    """Run the preprocessing of a model on images of one colour each.

    Nested models are followed. Whatever has no weights (but Normalization) and makes of an image of
    one colour an affine function of that colour is preprocessing, be it a layer or an operation.

    Args:
        model: A model over one image of three channels.

    Returns:
        The places where the network begins; none if the model has no graph or takes other things.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255, offset=-0.5)(image))
        >>> [entry.shift.tolist() for entry in entries(keras.Model(image, x))]
        [[-0.5, -0.5, -0.5]]
    """
    inner = compat.functional(model)
    inputs = getattr(inner, "inputs", None) or ()
    if not compat.has_graph(inner) or len(inputs) != 1:
        return []
    shape = tuple(inputs[0].shape)
    if len(shape) != 4 or shape[-1] != 3:
        return []
    height, width = (side or _SIDE for side in shape[1:3])
    if height * width > _LARGEST:
        return []
    images = np.broadcast_to(_COLOURS[:, None, None], (len(_COLOURS), height, width, 3))
    found: list[Entry] = []
    outputs = _walk(inner, [ops.convert_to_tensor(images, inputs[0].dtype)], found)
    return found + [_entry(value) for value in outputs if value is not None]


def _walk(model: keras.Model, inputs: list, found: list[Entry]) -> list:
    """Follow images through a model; the values of its outputs, None where the network is before.

    Args:
        model: A functional model.
        inputs: A tensor, or None, for each of its inputs.
        found: Gets the entries on the way.
    """
    values = {
        id(tensor): value
        for tensor, value in zip(model.inputs, inputs, strict=True)
        if value is not None
    }
    for call in compat.calls(model):
        tensors = [] if call.is_input else call.arguments.keras_tensors
        known = [values[id(tensor)] for tensor in tensors if id(tensor) in values]
        if not known:
            continue
        results = None
        if len(known) == len(tensors):
            args, kwargs = call.arguments.fill_in(values)
            results = _followed(call.operation, args, kwargs, found)
        if results is None:
            found += [_entry(value) for value in known]
            continue
        for tensor, result in zip(call.outputs, results, strict=True):
            if result is not None:
                values[id(tensor)] = result
    return [values.get(id(tensor)) for tensor in model.outputs]


def _followed(operation, args, kwargs, found: list[Entry]) -> list | None:
    """The results of an operation, None if the network begins with it."""
    nested = compat.functional(operation)
    if isinstance(nested, keras.Model) and compat.has_graph(nested):
        images = tree.flatten(args)
        recorded = image_input_of(nested)
        if recorded is not None and len(images) == 1:
            found.append(_entry(images[0], recorded))
            return [None] * len(nested.outputs)
        return _walk(nested, images, found)
    normalizes = isinstance(operation, keras.layers.Normalization)
    if getattr(operation, "weights", None) and not normalizes:
        return None
    if "training" in inspect.signature(operation.call).parameters:
        kwargs = {**kwargs, "training": False}  # layers of augmentation take it for granted
    try:
        results = tree.flatten(operation(*args, **kwargs))
    except Exception:  # A user's own, in whatever state: it is no preprocessing that is known.
        return None
    return results if all(_affine(result) is not None for result in results) else None


def _entry(value, recorded: ImageInput | None = None) -> Entry:
    return Entry(*_affine(value), recorded)


def _affine(value) -> tuple[np.ndarray, np.ndarray] | None:
    """Matrix and shift of a map as a function of the images' colour, if it is an affine one."""
    shape = tuple(getattr(value, "shape", ()))
    # Without the last axis: one channel by itself.
    if len(shape) not in (3, 4) or shape[0] != len(_COLOURS) or 0 in shape:
        return None
    # Far from what padding adds; it must be the same everywhere.
    middle, elsewhere = (
        ops.reshape(value[:, shape[1] // part, shape[2] // part], (len(_COLOURS), -1))
        for part in (2, 3)
    )
    seen, there = (
        ops.convert_to_numpy(ops.cast(each, "float32")).astype("float64")
        for each in (middle, elsewhere)
    )
    shift = seen[0]
    matrix = ((seen[1:4] - shift) / 255).T
    expected = _COLOURS @ matrix.T + shift
    # Of bfloat16.
    limit = 1e-2 * max(np.abs(seen).max(), 1e-6)
    if not np.isfinite(seen).all() or not np.isfinite(there).all():
        return None
    if max(np.abs(seen - expected).max(), np.abs(seen - there).max()) > limit:
        return None
    # Of rounding: a channel that is not there, a factor of 1.
    matrix = np.where(np.abs(matrix) < 1e-7 * np.abs(matrix).max(), 0, matrix)
    matrix = np.where(np.abs(matrix - 1) < 1e-6, 1.0, matrix)
    return matrix, np.where(np.abs(shift) < 1e-6 * np.abs(seen).max(), 0, shift)
