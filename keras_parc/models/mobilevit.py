"""MobileViT-S, the baseline of every comparison.

Mehta, Rastegari: MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer,
ICLR 2022, arXiv 2110.02178. Built as ParC-Net's authors build it.
"""

import functools
import os
from dataclasses import dataclass

import keras
from keras import layers

from keras_parc.layers import Fold, Unfold
from keras_parc.layers.blocks import Tensor, conv, conv_norm_act, inverted_residual
from keras_parc.models.classifier import image_classifier
from keras_parc.models.parc_net import stage_strides
from keras_parc.models.registry import register_model
from keras_parc.weights import names

DROPOUT = 0.1


@dataclass(frozen=True)
class TransformerStage:
    """A late stage: an inverted residual, then a MobileViT block."""

    channels: int
    width: int  # of the transformer
    hidden: int  # of its feed-forward part
    blocks: int


@dataclass(frozen=True)
class MobileViTConfig:
    """Sizes of one model."""

    stem: int
    stage1: int
    stage2: int
    stages: tuple[TransformerStage, TransformerStage, TransformerStage]
    heads: int
    patch: int


CONFIGS = {
    "S": MobileViTConfig(
        stem=16,
        stage1=32,
        stage2=64,
        stages=(
            TransformerStage(channels=96, width=144, hidden=288, blocks=2),
            TransformerStage(channels=128, width=192, hidden=384, blocks=4),
            TransformerStage(channels=160, width=240, hidden=480, blocks=3),
        ),
        heads=4,
        patch=2,
    ),
    # As wide and deep as `ParCNetTiny`, with the same convolutions around the transformers.
    "Tiny": MobileViTConfig(
        stem=16,
        stage1=16,
        stage2=32,
        stages=(
            TransformerStage(channels=48, width=48, hidden=96, blocks=1),
            TransformerStage(channels=64, width=64, hidden=128, blocks=1),
            TransformerStage(channels=80, width=80, hidden=160, blocks=1),
        ),
        heads=4,
        patch=2,
    ),
}
LEVELS = {
    "P2": "stage2_ir3_add",
    "P3": "stage3_fusion_act",
    "P4": "stage4_fusion_act",
    "P5": "stage5_fusion_act",
}


def transformer_block(x: Tensor, hidden: int, heads: int, name: str) -> Tensor:
    """Pre-norm transformer block over the last two axes of `(batch, place, patch, channels)`."""
    width = x.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_attention_ln")(x)
    y = layers.MultiHeadAttention(
        heads, width // heads, attention_axes=(2,), name=f"{name}_attention"
    )(y, y)
    y = layers.Dropout(DROPOUT, name=f"{name}_attention_dropout")(y)
    x = layers.Add(name=f"{name}_attention_add")([x, y])
    y = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_ffn_ln")(x)
    y = layers.Dense(hidden, activation="silu", name=f"{name}_ffn_expand")(y)
    y = layers.Dense(width, name=f"{name}_ffn_project")(y)
    y = layers.Dropout(DROPOUT, name=f"{name}_ffn_dropout")(y)
    return layers.Add(name=f"{name}_ffn_add")([x, y])


def mobilevit_block(
    x: Tensor, stage: TransformerStage, heads: int, patch: int, name: str
) -> Tensor:
    """Local 3x3, transformer between the patches, projection, fusion with the input."""
    y = conv_norm_act(x, stage.channels, 3, name=f"{name}_local")
    y = conv(y, stage.width, name=f"{name}_local_pointwise")
    tokens = Unfold(patch, name=f"{name}_unfold")(y)
    for index in range(stage.blocks):
        tokens = transformer_block(tokens, stage.hidden, heads, f"{name}_block{index + 1}")
    tokens = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_global_ln")(tokens)
    y = Fold(patch, name=f"{name}_fold")([tokens, y])
    y = conv_norm_act(y, stage.channels, name=f"{name}_reduce")
    y = layers.Concatenate(name=f"{name}_fusion_concat")([x, y])
    return conv_norm_act(y, stage.channels, 3, name=f"{name}_fusion")


def mobilevit_backbone(x: Tensor, config: MobileViTConfig, output_stride: int = 32) -> Tensor:
    """Build stem, stages 1 to 5 and the last expansion over `(batch, height, width, channels)`."""
    x = conv_norm_act(x, config.stem, 3, 2, name="stem")
    x = inverted_residual(x, config.stage1, 1, name="stage1_ir1")
    for index, strides in enumerate((2, 1, 1)):
        x = inverted_residual(x, config.stage2, strides, name=f"stage2_ir{index + 1}")
    late = zip((3, 4, 5), config.stages, stage_strides(output_stride), strict=True)
    for number, stage, strides in late:
        x = inverted_residual(x, stage.channels, strides, name=f"stage{number}_ir1")
        x = mobilevit_block(x, stage, config.heads, config.patch, f"stage{number}")
    return conv_norm_act(x, 4 * x.shape[-1], name="head_expand")


@register_model(levels=LEVELS, name_map=names.mobilevit)
def MobileViTS(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "mobilevit_s",
    *,
    include_preprocessing: bool = True,
    output_stride: int = 32,
) -> keras.Model:
    """MobileViT-S: 5.6 M parameters, 2.0 G multiply-adds at 256x256.

    Args:
        include_top: Whether to include the classifier. Without it the output is the last feature
            map, `(batch, height / 32, width / 32, 640)`, or its pooled vector.
        weights: None (random) or the path of a `.weights.h5` or `.keras` file of this model; the
            authors published none.
        input_tensor: Optional Keras tensor to build on.
        input_shape: `(height, width, 3)`, sides of at least 32 or None. Default: `(256, 256, 3)`
            with the top, `(None, None, 3)` without.
        pooling: Without the top: None, "avg" or "max".
        classes: Number of classes.
        classifier_activation: Activation of the top; None returns logits.
        name: Name of the model.
        include_preprocessing: True: the model takes RGB images 0..255 (uint8 or float) and turns
            them to BGR 0..1 itself. False: it takes BGR 0..1.
        output_stride: 32, 16 or 8, for dense prediction.

    Returns:
        A functional `keras.Model`; see `keras_parc.features` for its feature pyramid.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.

    Source: arXiv 2110.02178.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.MobileViTS(input_shape=(64, 64, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    return image_classifier(
        functools.partial(mobilevit_backbone, config=CONFIGS["S"], output_stride=output_stride),
        "MobileViTS",
        name=name,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        dropout=DROPOUT,
    )


@register_model(levels=LEVELS, name_map=names.mobilevit, listed=False)
def MobileViTTiny(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "mobilevit_tiny",
    *,
    include_preprocessing: bool = True,
    output_stride: int = 32,
) -> keras.Model:
    """MobileViT-Tiny: as `MobileViTS`, as wide and deep as `ParCNetTiny`; for ablations.

    Args:
        include_top: This and all others as `MobileViTS`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.

    Example:
        >>> MobileViTTiny(input_shape=(64, 64, 3), classes=10).output_shape
        (None, 10)
    """
    return image_classifier(
        functools.partial(mobilevit_backbone, config=CONFIGS["Tiny"], output_stride=output_stride),
        "MobileViTTiny",
        name=name,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
    )
