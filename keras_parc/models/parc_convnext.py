"""ParC-ConvNeXt-XT: depthwise ParC in the last blocks of the last two stages of a small ConvNeXt.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: A ConvNet for the 2020s, CVPR 2022, arXiv 2201.03545.
ParC and the width "XT": arXiv 2203.03952, Table 3.
"""

import functools
import os
from dataclasses import dataclass

import keras
from keras import initializers, layers

from keras_parc.layers import LayerScale
from keras_parc.layers.blocks import Tensor, parc_halves
from keras_parc.models.classifier import image_classifier
from keras_parc.models.parc_net import stage_strides
from keras_parc.models.registry import register_model
from keras_parc.weights import names_convnets

EPSILON = 1e-6
EXPANSION = 4


@dataclass(frozen=True)
class ConvNeXtStage:
    """A stage of ConvNeXt blocks, the last `parc_blocks` of them with ParC."""

    channels: int
    blocks: int
    parc_blocks: int = 0
    length: int = 0  # stored kernel length: the side of the stage's map at 224x224


STAGES = (
    ConvNeXtStage(channels=48, blocks=3),
    ConvNeXtStage(channels=96, blocks=3),
    ConvNeXtStage(channels=192, blocks=9, parc_blocks=3, length=14),
    ConvNeXtStage(channels=384, blocks=3, parc_blocks=1, length=7),
)
LEVELS = {
    "P2": "stage2_block3_add",
    "P3": "stage3_block3_add",
    "P4": "stage4_block9_add",
    "P5": "stage5_block3_add",
}


def _normal() -> initializers.Initializer:
    return initializers.TruncatedNormal(stddev=0.02)


def _layer_norm(x: Tensor, name: str) -> Tensor:
    return layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


def _patches(x: Tensor, filters: int, size: int, strides: int, name: str) -> Tensor:
    """A convolution over patches that do not overlap, or at stride 1 do."""
    padding = "valid" if strides == size else "same"
    return layers.Conv2D(filters, size, strides, padding, kernel_initializer=_normal(), name=name)(
        x
    )


def convnext_block(x: Tensor, name: str, length: int = 0, position_embedding=True) -> Tensor:
    """Depthwise 7x7 or ParC, normalization, two 1x1 layers with GELU, scale, residual.

    Args:
        x: `(batch, height, width, channels)`.
        name: Prefix of the layer names.
        length: Stored kernel length of a ParC instead of the 7x7 convolution; 0: the 7x7.
        position_embedding: Whether that ParC has position embeddings.
    """
    channels = x.shape[-1]
    if length:
        y = parc_halves(x, (length, length), f"{name}_parc", position_embedding)
    else:
        y = layers.DepthwiseConv2D(
            7, padding="same", depthwise_initializer=_normal(), name=f"{name}_depthwise"
        )(x)
    y = _layer_norm(y, f"{name}_ln")
    y = layers.Dense(EXPANSION * channels, kernel_initializer=_normal(), name=f"{name}_expand")(y)
    y = layers.Activation("gelu", name=f"{name}_act")(y)
    y = layers.Dense(channels, kernel_initializer=_normal(), name=f"{name}_project")(y)
    y = LayerScale(name=f"{name}_scale")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def convnext_backbone(
    x: Tensor, parc: bool = True, position_embedding: bool = True, output_stride: int = 32
) -> Tensor:
    """Build stem and stages 2 to 5 over `(batch, height, width, channels)`."""
    x = _patches(x, STAGES[0].channels, 4, 4, "stem_conv")
    x = _layer_norm(x, "stem_ln")
    for number, stage, strides in zip(
        range(2, 6), STAGES, (1, *stage_strides(output_stride)), strict=True
    ):
        if number > 2:
            x = _layer_norm(x, f"stage{number}_downsample_ln")
            x = _patches(x, stage.channels, 2, strides, f"stage{number}_downsample_conv")
        for index in range(stage.blocks):
            with_parc = parc and index >= stage.blocks - stage.parc_blocks
            x = convnext_block(
                x,
                f"stage{number}_block{index + 1}",
                stage.length if with_parc else 0,
                position_embedding,
            )
    return x


@register_model(
    input_size=(224, 224),
    levels=LEVELS,
    name_map=names_convnets.convnext,
    variants={"plain": {"parc": False}},
)
def ParCConvNeXtXT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "parc_convnext_xt",
    *,
    include_preprocessing: bool = True,
    parc: bool = True,
    position_embedding: bool = True,
    output_stride: int = 32,
) -> keras.Model:
    """ParC-ConvNeXt-XT: 7.4 M parameters, 1.1 G multiply-adds at 224x224.

    Args:
        include_top: Whether to include the classifier. Without it the output is the last feature
            map, `(batch, height / 32, width / 32, 384)`, or its pooled vector.
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

    Source: arXiv 2203.03952, Table 3; ConvNeXt: arXiv 2201.03545.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCConvNeXtXT(input_shape=(64, 96, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    backbone = functools.partial(
        convnext_backbone,
        parc=parc,
        position_embedding=position_embedding,
        output_stride=output_stride,
    )
    return image_classifier(
        backbone,
        "ParCConvNeXtXT",
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
        head_norm=lambda x: _layer_norm(x, "head_ln"),
    )
