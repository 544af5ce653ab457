"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6, for int8 devices.

Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019, arXiv
1905.11946. The Lite models and their weights are Google's (tensorflow/tpu, 2020, Apache-2.0).
"""

import functools
import math
import os
from dataclasses import dataclass

import keras
from keras import layers

from keras_parc.layers.batch_norm import BatchNormalization
from keras_parc.layers.blocks import Tensor, fan_out
from keras_parc.models.classifier import image_classifier
from keras_parc.models.inputs import InputScale
from keras_parc.models.registry import register_model
from keras_parc.weights import names_convnets


@dataclass(frozen=True)
class Stage:
    """Inverted residuals of one width, at width and depth 1."""

    channels: int
    depth: int
    kernel: int
    strides: int
    expansion: int = 6


STAGES = (
    Stage(16, 1, 3, 1, expansion=1),
    Stage(24, 2, 3, 2),
    Stage(40, 2, 5, 2),
    Stage(80, 3, 3, 2),
    Stage(112, 3, 5, 1),
    Stage(192, 4, 5, 2),
    Stage(320, 1, 3, 1),
)
STEM, HEAD = 32, 1280  # of all sizes
SCALE = InputScale(mean=(127.0,) * 3, std=(128.0,) * 3)


def _norm(x: Tensor, name: str) -> Tensor:
    return BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _relu6(x: Tensor, name: str) -> Tensor:
    return layers.Activation("relu6", name=name)(x)


def _pointwise(x: Tensor, channels: int, name: str) -> Tensor:
    x = layers.Conv2D(
        channels, 1, use_bias=False, kernel_initializer=fan_out(), name=f"{name}_conv"
    )(x)
    return _norm(x, f"{name}_bn")


def _inverted_residual(x: Tensor, stage: Stage, channels: int, strides: int, name: str) -> Tensor:
    y = x
    if stage.expansion > 1:
        y = _pointwise(y, stage.expansion * x.shape[-1], f"{name}_expand")
        y = _relu6(y, f"{name}_expand_act")
    y = layers.DepthwiseConv2D(
        stage.kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=fan_out(),
        name=f"{name}_depthwise_conv",
    )(y)
    y = _relu6(_norm(y, f"{name}_depthwise_bn"), f"{name}_depthwise_act")
    y = _pointwise(y, channels, f"{name}_project")
    if strides == 1 and x.shape[-1] == channels:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


def _round_channels(channels: int, width: float) -> int:
    """A multiple of 8, and not less than 0.9 of what the width makes of it."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def efficientnet_lite_backbone(x: Tensor, width: float, depth: float) -> Tensor:
    """Build stem, stages 1 to 7 and the last expansion over `(batch, height, width, channels)`."""
    x = layers.Conv2D(
        STEM,
        3,
        strides=2,
        padding="same",
        use_bias=False,
        kernel_initializer=fan_out(),
        name="stem_conv",
    )(x)
    x = _relu6(_norm(x, "stem_bn"), "stem_act")
    for number, stage in enumerate(STAGES, 1):
        # The first and the last stage keep their depth.
        repeats = stage.depth if number in (1, len(STAGES)) else math.ceil(depth * stage.depth)
        for index in range(1, repeats + 1):
            x = _inverted_residual(
                x,
                stage,
                _round_channels(stage.channels, width),
                stage.strides if index == 1 else 1,
                f"stage{number}_ir{index}",
            )
    return _relu6(_pointwise(x, HEAD, "head_expand"), "head_expand_act")


def _levels(depth: float) -> dict[str, str]:
    """The last maps of strides 4, 8, 16 and 32 before the expansion at the end."""
    found = {}
    for level, number in (("P2", 2), ("P3", 3), ("P4", 5)):
        found[level] = f"stage{number}_ir{math.ceil(depth * STAGES[number - 1].depth)}_add"
    return found | {"P5": "stage7_ir1_project_bn"}


def _efficientnet_lite(width: float, depth: float, architecture: str, dropout: float, **arguments):
    return image_classifier(
        functools.partial(efficientnet_lite_backbone, width=width, depth=depth),
        architecture,
        dropout=dropout,
        scale=SCALE,
        **arguments,
    )


@register_model(
    input_size=(224, 224),
    takes="RGB, (x - 127) / 128",
    levels=_levels(1.0),
    name_map=names_convnets.efficientnet_lite,
)
def EfficientNetLite0(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "efficientnet_lite0",
    *,
    include_preprocessing: bool = True,
) -> keras.Model:
    """EfficientNet-Lite0: 4.7 M parameters, 0.39 G multiply-adds at 224x224; for fine-tuning.

    Args:
        include_top: Whether to include the classifier. Without it the output is the last feature
            map, `(batch, height / 32, width / 32, 1280)`, or its pooled vector.
        weights: None (random), "imagenet" (Google's, from a package of the Python index; see
            `keras_parc.list_presets`), or the path of a `.weights.h5` or `.keras` file.
        input_tensor: Optional Keras tensor to build on, e.g. `keras.Input((224, 224, 3))`.
        input_shape: `(height, width, 3)`, sides of at least 32 or None. Default: `(224, 224, 3)`
            with the top, `(None, None, 3)` without.
        pooling: Without the top: None, "avg" or "max".
        classes: Number of classes.
        classifier_activation: Activation of the top; None returns logits.
        name: Name of the model.
        include_preprocessing: True: the model takes RGB images 0..255 and makes (x - 127) / 128 of
            them itself. False: it takes that.

    Returns:
        A functional `keras.Model`; see `keras_parc.features` for its feature pyramid.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.
        OSError: Published weights can be neither found nor downloaded, or not be cached.

    Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite

    Example:
        >>> import keras_parc
        >>> model = keras_parc.EfficientNetLite0(input_shape=(64, 64, 3), classes=5)
        >>> model.output_shape
        (None, 5)
    """
    return _efficientnet_lite(
        *(1.0, 1.0, "EfficientNetLite0", 0.2),
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_preprocessing=include_preprocessing,
    )


@register_model(
    input_size=(240, 240),
    takes="RGB, (x - 127) / 128",
    levels=_levels(1.1),
    name_map=names_convnets.efficientnet_lite,
)
def EfficientNetLite1(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "efficientnet_lite1",
    *,
    include_preprocessing: bool = True,
) -> keras.Model:
    """EfficientNet-Lite1: 5.4 M parameters, 0.60 G multiply-adds at its 240x240.

    Arguments and errors are those of `EfficientNetLite0`.

    Returns:
        A functional `keras.Model`.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.EfficientNetLite1(input_shape=(64, 64, 3), classes=5)
        >>> model.output_shape
        (None, 5)
    """
    return _efficientnet_lite(
        *(1.0, 1.1, "EfficientNetLite1", 0.2),
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_preprocessing=include_preprocessing,
    )


@register_model(
    input_size=(260, 260),
    takes="RGB, (x - 127) / 128",
    levels=_levels(1.2),
    name_map=names_convnets.efficientnet_lite,
)
def EfficientNetLite2(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "efficientnet_lite2",
    *,
    include_preprocessing: bool = True,
) -> keras.Model:
    """EfficientNet-Lite2: 6.1 M parameters, 0.86 G multiply-adds at its 260x260.

    Arguments and errors are those of `EfficientNetLite0`.

    Returns:
        A functional `keras.Model`.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.EfficientNetLite2(input_shape=(64, 64, 3), classes=5)
        >>> model.output_shape
        (None, 5)
    """
    return _efficientnet_lite(
        *(1.1, 1.2, "EfficientNetLite2", 0.3),
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        name=name,
        include_preprocessing=include_preprocessing,
    )
