"""ParC-ResNet50: dense ParC in the last blocks of the last two stages of ResNet50.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385; with
the stride in the 3x3 convolution ("v1.5"). ParC: arXiv 2203.03952, Table 3.
"""

import functools
import os
from dataclasses import dataclass

import keras
from keras import layers

from keras_parc.layers.blocks import Tensor, conv_norm_act, norm, parc_halves
from keras_parc.models.classifier import image_classifier
from keras_parc.models.parc_net import stage_strides
from keras_parc.models.registry import register_model
from keras_parc.weights import names_convnets


@dataclass(frozen=True)
class BottleneckStage:
    """A stage of bottlenecks, the last `parc_blocks` of them with ParC."""

    width: int  # of the bottleneck; the stage puts out 4 times as many channels
    blocks: int
    parc_blocks: int = 0
    length: int = 0  # stored kernel length: the side of the stage's map at 224x224


STAGES = (
    BottleneckStage(width=64, blocks=3),
    BottleneckStage(width=128, blocks=4),
    BottleneckStage(width=256, blocks=6, parc_blocks=3, length=14),
    BottleneckStage(width=512, blocks=3, parc_blocks=1, length=7),
)
LEVELS = {
    "P2": "stage2_block3_act",
    "P3": "stage3_block4_act",
    "P4": "stage4_block6_act",
    "P5": "stage5_block3_act",
}
EXPANSION = 4


def bottleneck(
    x: Tensor, width: int, strides: int, name: str, length: int = 0, position_embedding=True
) -> Tensor:
    """1x1, spatial convolution, 1x1, residual; the first of a stage projects the shortcut.

    Args:
        x: `(batch, height, width, channels)`.
        width: Channels inside.
        strides: Of the 3x3 convolution.
        name: Prefix of the layer names.
        length: Stored kernel length of a ParC instead of the 3x3 convolution; 0: the 3x3.
        position_embedding: Whether that ParC has position embeddings.
    """
    y = conv_norm_act(x, width, activation="relu", name=f"{name}_reduce")
    if length:
        y = parc_halves(y, (length, length), f"{name}_parc", position_embedding, depthwise=False)
        y = norm(y, f"{name}_parc_bn")
        y = layers.Activation("relu", name=f"{name}_parc_act")(y)
    else:
        y = conv_norm_act(y, width, 3, strides, activation="relu", name=f"{name}_spatial")
    y = conv_norm_act(y, EXPANSION * width, activation=None, name=f"{name}_expand")
    if x.shape[-1] != y.shape[-1] or strides > 1:
        x = conv_norm_act(x, y.shape[-1], strides=strides, activation=None, name=f"{name}_shortcut")
    y = layers.Add(name=f"{name}_add")([x, y])
    return layers.Activation("relu", name=f"{name}_act")(y)


def resnet_backbone(
    x: Tensor, parc: bool = True, position_embedding: bool = True, output_stride: int = 32
) -> Tensor:
    """Build stem and stages 2 to 5 over `(batch, height, width, channels)`."""
    x = conv_norm_act(x, 64, 7, 2, activation="relu", name="stem")
    # Values are positive: a border of zeros is one of minus infinity.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    _, *late = stage_strides(output_stride)
    for number, stage, strides in zip(range(2, 6), STAGES, (1, 2, *late), strict=True):
        for index in range(stage.blocks):
            with_parc = parc and index >= stage.blocks - stage.parc_blocks
            x = bottleneck(
                x,
                stage.width,
                strides if index == 0 else 1,
                f"stage{number}_block{index + 1}",
                stage.length if with_parc else 0,
                position_embedding,
            )
    return x


@register_model(
    input_size=(224, 224),
    levels=LEVELS,
    name_map=names_convnets.resnet,
    variants={"plain": {"parc": False}},
)
def ParCResNet50(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "parc_resnet50",
    *,
    include_preprocessing: bool = True,
    parc: bool = True,
    position_embedding: bool = True,
    output_stride: int = 32,
) -> keras.Model:
    """ParC-ResNet50: 23.7 M parameters, 3.9 G multiply-adds at 224x224.

    Args:
        include_top: Whether to include the classifier. Without it the output is the last feature
            map, `(batch, height / 32, width / 32, 2048)`, or its pooled vector.
        weights: None (random) or the path of a `.weights.h5` or `.keras` file of this model.
        input_tensor: Optional Keras tensor to build on, e.g. `keras.Input((224, 224, 3))`.
        input_shape: `(height, width, 3)`, sides of at least 32 or None. Default: `(224, 224, 3)`
            with the top, `(None, None, 3)` without. At 224 no kernel is resampled; the authors'
            version takes nothing else, this one any size, rectangles too.
        pooling: Without the top: None, "avg" or "max".
        classes: Number of classes.
        classifier_activation: Activation of the top; None returns logits.
        name: Name of the model.
        include_preprocessing: True: the model takes RGB images 0..255 (uint8 or float) and turns
            them to BGR 0..1 itself, as all models of this package. False: it takes BGR 0..1.
        parc: False builds the plain ConvNet, for comparison.
        position_embedding: Whether the circular convolutions are position aware.
        output_stride: 32, 16 or 8, for dense prediction; without dilation.

    Returns:
        A functional `keras.Model`; see `keras_parc.features` for its feature pyramid.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.

    Source: arXiv 2203.03952, Table 3; ResNet: arXiv 1512.03385.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCResNet50(input_shape=(64, 96, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    backbone = functools.partial(
        resnet_backbone,
        parc=parc,
        position_embedding=position_embedding,
        output_stride=output_stride,
    )
    return image_classifier(
        backbone,
        "ParCResNet50",
        name=name,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        dropout=0.0,
    )
