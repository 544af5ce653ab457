"""Checkpoints trained with the authors' code as weights files of this package."""

import os

import keras

from keras_parc.models.registry import find_model
from keras_parc.support.files import replacing
from keras_parc.weights.loading import save_weights
from keras_parc.weights.names import load_state_dict, official_name
from keras_parc.weights.torch_file import CheckpointError, read_torch_file

_BOX_VALUES = 4  # in one convolution with the scores, in the authors' detectors


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
        ValueError: The checkpoint cannot be read or does not fit the model, the model is unknown or
            not of the authors, or `out` does not end in `.weights.h5`.
        OSError: `out` cannot be written.

    Example:
        >>> import_checkpoint("none.pt", "ParCNetS", "out.weights.h5")
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no checkpoint 'none.pt'.
    """
    entry = find_model(model)
    if entry.name_map is None:
        raise ValueError(f"{entry.name} has no counterpart in the authors' code.")
    if not os.fspath(out).endswith(".weights.h5"):
        raise ValueError(f"The file to write must end in .weights.h5, got {str(out)!r}.")
    state = read_torch_file(checkpoint)
    built = entry.build()
    head = built.get_layer(entry.class_layers[-1])
    kernel = official_name(entry.name_map, built, head, head.kernel)
    if kernel not in state:
        raise CheckpointError(
            f"{str(checkpoint)!r} has no {kernel!r}: it is no checkpoint of {model}. Its names "
            f"begin with {next(iter(state))!r}."
        )
    rows, *inputs = state[kernel].shape or (0,)
    classes = rows if state[kernel].size else 0  # an empty one may be of any shape
    if entry.task == "detection":
        per_cell = head.filters // (class_count(built) + 1)
        classes = max(rows // per_cell - _BOX_VALUES - 1, 0)  # the background scores too
    if classes not in (0, class_count(built)) and inputs[:1] == [head.kernel.shape[-2]]:
        built = entry.build(classes=classes)
    load_state_dict(built, state, entry.name_map)
    with replacing(out) as temporary:
        save_weights(built, temporary)
    return built


def class_count(model: keras.Model) -> int:
    """The number of classes of a model; of a detector, without background.

    Of a model of several outputs, or of none that is known, it is 0.

    Example:
        >>> import keras_parc
        >>> class_count(keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=7))
        7
    """
    output = getattr(model, "output", None)
    if isinstance(output, dict):
        return output["scores"].shape[-1] - 1 if set(output) == {"boxes", "scores"} else 0
    shape = getattr(model, "output_shape", None)
    return shape[-1] if isinstance(shape, tuple) else 0
