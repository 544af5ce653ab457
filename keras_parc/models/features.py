"""A backbone as a pyramid of feature maps, and which of its layers make each level."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_parc.models.input_probe import new_input
from keras_parc.models.registry import levels_of

STRIDES = {"P2": 4, "P3": 8, "P4": 16, "P5": 32}  # pixels of the image for one of the map


def features(model: keras.Model, levels: Mapping[str, str] | None = None) -> keras.Model:
    """The backbone of a model as a pyramid of feature maps, for detection and segmentation.

    The weights are shared with `model`; layers beyond the last level are left out.

    Args:
        model: A model of this package, with or without its top, also one loaded from a file; or any
            functional model, with `levels`.
        levels: Name of each level to the name of the layer whose output it is. Default: those that
            were registered, see `keras_parc.register_model`.

    Returns:
        A model with the inputs of `model` and a dict of outputs, for models of this package "P2",
        "P3", "P4", "P5": the last tensor of stages 2 to 5, at strides 4, 8, 16, 32 (with
        `output_stride=16` P5 is at 16, with 8 P4 and P5 are at 8).

    Raises:
        ValueError: `model` has the layers of no registered model, or not those of `levels`.

    Example:
        >>> import keras_parc
        >>> backbone = keras_parc.ParCNetXS(include_top=False, input_shape=(64, 96, 3))
        >>> {key: map.shape[1:] for key, map in keras_parc.features(backbone).output.items()}
        {'P2': (16, 24, 64), 'P3': (8, 12, 96), 'P4': (4, 6, 128), 'P5': (2, 3, 160)}
    """
    levels = levels_of(model) if levels is None else levels
    known = {layer.name for layer in model.layers}
    if missing := sorted(set(levels.values()) - known):
        raise ValueError(f"{model.name!r} has no layers {missing}; take names of `model.layers`.")
    pyramid = {level: model.get_layer(name).output for level, name in levels.items()}
    return keras.Model(model.input, pyramid, name=f"{model.name}_features")


def layers_by_level(pyramid: keras.Model) -> dict[str, set[str]]:
    """The names of the layers that make each level out of the level before.

    Args:
        pyramid: What `features` returns.

    Returns:
        Level to names; the first level has all layers from the image on.

    Example:
        >>> import keras_parc
        >>> backbone = keras_parc.ParCNetTiny(include_top=False, input_shape=(64, 64, 3))
        >>> "stage3_ir1_expand_conv" in layers_by_level(features(backbone))["P3"]
        True
    """
    found, before = {}, set()
    for level, output in pyramid.output.items():
        needed = {layer.name for layer in keras.Model(pyramid.inputs, output).layers}
        found[level] = needed - before
        before |= needed
    return found


def copied(pyramid: keras.Model, changes: Mapping[str, Mapping[str, Any]] | None = None):
    """A copy of a model with weights of its own, equal to those of the model.

    Args:
        pyramid: A functional model.
        changes: Name of a layer to the settings that are other in the copy.

    Returns:
        A model with the same names of layers and outputs.

    Raises:
        ValueError: A layer cannot be made again from its settings.
    """

    def copy(layer):
        config = layer.get_config() | dict((changes or {}).get(layer.name, {}))
        return type(layer).from_config(config)

    copy_of = keras.models.clone_model(
        pyramid, input_tensors=new_input(pyramid), clone_function=copy
    )
    copy_of.set_weights(pyramid.get_weights())
    return copy_of
