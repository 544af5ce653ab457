"""Networks of `keras.applications` as entries of the registry, with Keras' own ImageNet weights.

Small ones for devices, and ResNet-50 as the reference of everybody's. ConvNeXt is not among them:
28 M parameters are much for a device, and where its last normalization is depends on the top.
"""

import inspect
import logging
import math
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers

from keras_parc.layers.blocks import Tensor
from keras_parc.models.classifier import image_classifier
from keras_parc.models.inputs import INPUT_RANGES
from keras_parc.models.registry import register_model
from keras_parc.support.random_state import undisturbed
from keras_parc.support.text import one_line

log = logging.getLogger(__name__)

IMAGENET = "imagenet"
_CLASSES, _EXPANSION = "predictions", "conv_2"  # layers of the head; the latter as Keras calls it
SILENCE = 30.0  # seconds without a byte until a server counts as dead
_ORIGIN = (
    "Keras' own, from storage.googleapis.com/tensorflow/keras-applications; licence: Keras is "
    "Apache-2.0 and states none for them"
)
_MOBILE = {"alpha": 1.0}
_MOBILE_V3 = {"alpha": 1.0, "minimalistic": False}


@dataclass(frozen=True)
class Application:
    """A constructor of `keras.applications`, and what the registry says of it.

    Args:
        name: Of the constructor.
        key: Name in recipes and files.
        size: Side it was designed for, in pixels.
        levels: Of the feature pyramid: the last maps of strides 4, 8, 16 and 32, at the end before
            the expansion.
        takes: What its first convolution takes, a name of `INPUT_RANGES`.
        expansion: Units of a layer between the pooled features and the classes.
        options: Its own arguments, with their defaults.
        scales: Whether it scales images itself, as its `include_preprocessing` says.
    """

    name: str
    key: str
    size: int
    levels: tuple[str, str, str, str]
    takes: str = "-1..1"
    expansion: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    scales: bool = False

    def build(self, **arguments) -> keras.Model:
        """The model of Keras itself."""
        if self.scales:
            arguments = {"include_preprocessing": False, **arguments}
        return getattr(keras.applications, self.name)(**arguments)


def _efficient(number: int, size: int, *levels: str) -> Application:
    name = f"EfficientNetV2B{number}"
    key = f"efficientnet_v2_b{number}"
    return Application(name, key, size, levels, takes="imagenet", scales=True)


def _mobile_v3(kind: str, expansion: int, *levels: str) -> Application:
    names = tuple(f"expanded_conv_{level}" for level in levels)
    more = {"expansion": expansion, "options": _MOBILE_V3, "scales": True}
    return Application(f"MobileNetV3{kind}", f"mobilenet_v3_{kind.lower()}", 224, names, **more)


APPLICATIONS = (
    Application(
        "MobileNetV2",
        "mobilenet_v2",
        224,
        ("block_2_add", "block_5_add", "block_12_add", "block_16_project_BN"),
        options=_MOBILE,
    ),
    _mobile_v3("Small", 1024, "project_bn", "2_add", "7_add", "10_add"),
    _mobile_v3("Large", 1280, "2_add", "5_add", "11_add", "14_add"),
    _efficient(0, 224, "block2b_add", "block3b_add", "block5e_add", "block6h_add"),
    _efficient(1, 240, "block2c_add", "block3c_add", "block5f_add", "block6i_add"),
    _efficient(2, 260, "block2c_add", "block3c_add", "block5f_add", "block6j_add"),
    _efficient(3, 300, "block2c_add", "block3c_add", "block5g_add", "block6l_add"),
    Application(
        "ResNet50V2",
        "resnet50_v2",
        224,
        (
            *("conv2_block3_preact_relu", "conv3_block4_preact_relu"),
            *("conv4_block6_preact_relu", "post_relu"),
        ),
    ),
)


def _register(row: Application) -> None:
    """Enter a network with a constructor that has the arguments of all others."""

    def build(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor: Tensor | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        name: str = row.key,
        *,
        include_preprocessing: bool = True,
        dropout_rate: float = 0.2,
        **options,
    ) -> keras.Model:
        if unknown := sorted(options.keys() - row.options.keys()):
            raise TypeError(f"{row.name} has no argument {unknown[0]!r}.")
        options = {**row.options, **options}
        theirs = _imagenet(row, include_top, options) if weights == IMAGENET else None

        def backbone(x):
            return row.build(include_top=False, weights=None, input_tensor=x, **options).output

        model = image_classifier(
            backbone,
            row.name,
            name=name,
            include_top=include_top,
            weights=None if theirs else weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            include_preprocessing=include_preprocessing,
            dropout=dropout_rate,
            head_norm=expansion if row.expansion else None,
            scale=INPUT_RANGES[row.takes],
        )
        if theirs:
            _copy(theirs, model)
        return model

    def expansion(x):
        return layers.Dense(row.expansion, activation="hard_swish", name=_EXPANSION)(x)

    build.__name__ = build.__qualname__ = row.name
    build.__doc__ = f"""{row.name} of `keras.applications`, on images of 0..255.

    Arguments of its own, beside those of `EfficientNetLite0`: {", ".join(row.options) or "none"},
    and `dropout_rate` before the classes. `weights="imagenet"` are Keras' own.
    """
    # What a recipe may pass is told by the signature.
    known = inspect.signature(build).parameters.values()
    own = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value)
        for key, value in row.options.items()
    ]
    build.__signature__ = inspect.Signature([*list(known)[:-1], *own])
    register_model(
        build,
        key=row.key,
        input_size=(row.size, row.size),
        takes=f"RGB, {row.takes}",
        levels=dict(zip(("P2", "P3", "P4", "P5"), row.levels, strict=True)),
        own_weights={IMAGENET: _ORIGIN},
        listed=False,
    )


def _imagenet(row: Application, include_top: bool, options: Mapping[str, Any]) -> keras.Model:
    """Keras' own model with its weights, from Keras' cache or downloaded to it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        with undisturbed():
            return row.build(include_top=include_top, weights=IMAGENET, **options)
    except Exception as error:  # Keras raises plain ones, HDF5 whatever a damaged file provokes.
        raise OSError(
            f"`weights={IMAGENET!r}`: Keras' weights of {row.name} cannot be had: "
            f"{one_line(str(error))}. Put the file into $KERAS_HOME/models, by default "
            "~/.keras/models, take EfficientNetLite0, whose weights come from the Python package "
            "index, or start without (`weights=None`, --weights none)."
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _copy(source: keras.Model, model: keras.Model) -> None:
    """Weights of Keras' model into ours; where classes are others, all but theirs."""
    for layer in source.layers:
        if not layer.weights:
            continue
        ours = model.get_layer(_CLASSES if layer.name == "logits" else layer.name)
        for variable, value in zip(ours.weights, layer.get_weights(), strict=True):
            if value.size != math.prod(variable.shape):
                log.warning(
                    "weights=%r: everything but %s is loaded; these layers keep their random "
                    "values.",
                    IMAGENET,
                    ours.name,
                )
                break
            # What MobileNetV3 has as convolutions of one pixel are dense layers here.
            variable.assign(value.reshape(variable.shape))


for _row in APPLICATIONS:
    _register(_row)
