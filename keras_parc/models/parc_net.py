"""ParC-Net: a table of configurations, one backbone builder, thin constructors.

Zhang, Hu, Wang: ParC-Net: Position Aware Circular Convolution with Merits from ConvNets and
Transformer, ECCV 2022, arXiv 2203.03952.
"""

import functools
import math
import os
from dataclasses import dataclass

import keras

from keras_parc.layers.blocks import (
    Tensor,
    conv_norm_act,
    inverted_residual,
    local_global_frame,
    parc_block,
    resnext_parc_block,
)
from keras_parc.models.classifier import image_classifier
from keras_parc.models.registry import register_model
from keras_parc.weights import names


@dataclass(frozen=True)
class GlobalStage:
    """A late stage: an inverted residual, then ParC blocks inside a local-global frame."""

    channels: int
    width: int  # of the ParC blocks
    hidden: int  # of their channel mixers
    blocks: int
    length: int  # stored kernel length: the side of the stage's map at 256x256


@dataclass(frozen=True)
class ParCNetConfig:
    """Sizes of one model: stem and three local-global stages (Table 1)."""

    stem_kernel: int
    stem: int
    stage1: int
    stage2: int
    stages: tuple[GlobalStage, GlobalStage, GlobalStage]
    fusion: str  # "add" or "concat"


CONFIGS = {
    "XS": ParCNetConfig(
        stem_kernel=3,
        stem=16,
        stage1=32,
        stage2=64,
        stages=(
            GlobalStage(channels=96, width=96, hidden=192, blocks=2, length=32),
            GlobalStage(channels=128, width=128, hidden=256, blocks=3, length=16),
            GlobalStage(channels=160, width=160, hidden=320, blocks=2, length=8),
        ),
        fusion="add",
    ),
    "S": ParCNetConfig(
        stem_kernel=3,
        stem=16,
        stage1=32,
        stage2=64,
        stages=(
            GlobalStage(channels=96, width=192, hidden=384, blocks=2, length=32),
            GlobalStage(channels=128, width=256, hidden=512, blocks=4, length=16),
            GlobalStage(channels=160, width=320, hidden=640, blocks=3, length=8),
        ),
        fusion="concat",
    ),
    "H": ParCNetConfig(
        stem_kernel=5,
        stem=48,
        stage1=96,
        stage2=144,
        stages=(
            GlobalStage(channels=216, width=324, hidden=648, blocks=3, length=32),
            GlobalStage(channels=288, width=432, hidden=864, blocks=9, length=16),
            GlobalStage(channels=432, width=432, hidden=864, blocks=3, length=8),
        ),
        fusion="concat",
    ),
    # One narrow block a stage: small enough to train dozens in an hour.
    "Tiny": ParCNetConfig(
        stem_kernel=3,
        stem=16,
        stage1=16,
        stage2=32,
        stages=(
            GlobalStage(channels=48, width=48, hidden=96, blocks=1, length=32),
            GlobalStage(channels=64, width=64, hidden=128, blocks=1, length=16),
            GlobalStage(channels=80, width=80, hidden=160, blocks=1, length=8),
        ),
        fusion="add",
    ),
}

LEVELS = {
    "P2": "stage2_ir3_add",
    "P3": "stage3_fusion_act",
    "P4": "stage4_fusion_act",
    "P5": "stage5_fusion_act",
}
# Table 2 of the paper: the model without one of its parts.
ABLATION = {
    "big_1_4": {"kernel": "big_1/4"},
    "big_1_2": {"kernel": "big_1/2"},
    "no_meta_former": {"meta_former": False},
    "no_attention": {"channel_attention": False},
    "no_position": {"position_embedding": False},
}
KERNELS = {"parc": None, "big_1/2": 2, "big_1/4": 4}


def stage_strides(output_stride: int) -> tuple[int, int, int]:
    """Strides of stages 3, 4 and 5 for an output stride of 32, 16 or 8."""
    strides = {32: (2, 2, 2), 16: (2, 2, 1), 8: (2, 1, 1)}
    if output_stride not in strides:
        raise ValueError(f"`output_stride` must be 32, 16 or 8, got {output_stride!r}.")
    return strides[output_stride]


def parc_net_backbone(
    x: Tensor,
    config: ParCNetConfig,
    *,
    kernel: str = "parc",
    meta_former: bool = True,
    channel_attention: bool = True,
    position_embedding: bool = True,
    output_stride: int = 32,
) -> Tensor:
    """Build stem, stages 1 to 5 and the last expansion over `x` (Figure 3).

    Args:
        x: `(batch, height, width, channels)`.
        config: A row of `CONFIGS`.
        kernel: "parc"; ablation: "big_1/2" or "big_1/4", zero-padded kernels of half or a quarter
            of the side instead of circular ones.
        meta_former: False: `resnext_parc_block` instead of the MetaFormer-like block.
        channel_attention: Whether the blocks have channel attention.
        position_embedding: Whether the first block of a stage has position embeddings.
        output_stride: 32, 16 or 8: the last stages keep their stride 1, without dilation, as the
            authors' do.

    Returns:
        `(batch, height / stride, width / stride, min(4 * channels, 960))`, sides rounded up.

    Raises:
        ValueError: An unknown `kernel` or `output_stride`, or big kernels without MetaFormer.
    """
    if kernel not in KERNELS:
        raise ValueError(f"`kernel` must be one of {list(KERNELS)}, got {kernel!r}.")
    if KERNELS[kernel] and not meta_former:
        raise ValueError("The block without MetaFormer exists with `kernel='parc'` only.")

    def global_blocks(x, stage, prefix):
        for index in range(stage.blocks):
            name = f"{prefix}_block{index + 1}"
            if not meta_former:
                x = resnext_parc_block(
                    x, stage.length, stage.hidden, name, position_embedding, channel_attention
                )
                continue
            big_kernel = stage.length // KERNELS[kernel] + 1 if KERNELS[kernel] else None
            embed = position_embedding and index == 0
            x = parc_block(
                x, stage.length, stage.hidden, name, embed, channel_attention, big_kernel
            )
        return x

    x = conv_norm_act(x, config.stem, config.stem_kernel, 2, name="stem")
    x = inverted_residual(x, config.stage1, 1, name="stage1_ir1")
    for index, strides in enumerate((2, 1, 1)):
        x = inverted_residual(x, config.stage2, strides, name=f"stage2_ir{index + 1}")
    late = zip((3, 4, 5), config.stages, stage_strides(output_stride), strict=True)
    for number, stage, strides in late:
        name = f"stage{number}"
        x = inverted_residual(x, stage.channels, strides, name=f"{name}_ir1")
        x = local_global_frame(
            x,
            stage.width,
            math.gcd(stage.width, stage.channels),
            config.fusion,
            functools.partial(global_blocks, stage=stage, prefix=name),
            name,
        )
    return conv_norm_act(x, min(4 * x.shape[-1], 960), name="head_expand")


@register_model(levels=LEVELS, name_map=names.parc_net)
def ParCNetXS(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "parc_net_xs",
    *,
    include_preprocessing: bool = True,
    kernel: str = "parc",
    meta_former: bool = True,
    channel_attention: bool = True,
    position_embedding: bool = True,
    output_stride: int = 32,
) -> keras.Model:
    """ParC-Net-XS: 2.2 M parameters, 0.94 G multiply-adds at 256x256.

    Args:
        include_top: This and all other arguments mean the same as in `ParCNetS`. Without the top
            the output is `(batch, height / 32, width / 32, 640)`, or its pooled vector.
            No weights are published.

    Returns:
        A functional `keras.Model`; see `keras_parc.features` for its feature pyramid.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.

    Source: arXiv 2203.03952, Table 1 and Figure 3; ablations: Table 2.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCNetXS(input_shape=(64, 64, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    backbone = functools.partial(
        parc_net_backbone,
        config=CONFIGS["XS"],
        kernel=kernel,
        meta_former=meta_former,
        channel_attention=channel_attention,
        position_embedding=position_embedding,
        output_stride=output_stride,
    )
    return image_classifier(
        backbone,
        "ParCNetXS",
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


@register_model(
    levels=LEVELS,
    name_map=names.parc_net,
    variants=ABLATION,
)
def ParCNetS(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "parc_net_s",
    *,
    include_preprocessing: bool = True,
    kernel: str = "parc",
    meta_former: bool = True,
    channel_attention: bool = True,
    position_embedding: bool = True,
    output_stride: int = 32,
) -> keras.Model:
    """ParC-Net-S: the model of the paper, 5.0 M parameters, 1.66 G multiply-adds at 256x256.

    Args:
        include_top: Whether to include the classifier. Without it the output is the last feature
            map, `(batch, height / 32, width / 32, 640)`, or its pooled vector.
        weights: None (random), the name of published weights (see `keras_parc.list_presets`), or
            the path of a `.weights.h5` or `.keras` file of this model.
        input_tensor: Optional Keras tensor to build on, e.g. `keras.Input((256, 256, 3))`.
        input_shape: `(height, width, 3)`, sides of at least 32 or None. Default: `(256, 256, 3)`
            with the top, `(None, None, 3)` without. Rectangles and sides that are no multiple of
            32 work.
        pooling: Without the top: None, "avg" or "max".
        classes: Number of classes.
        classifier_activation: Activation of the top; None returns logits.
        name: Name of the model.
        include_preprocessing: True: the model takes RGB images 0..255 (uint8 or float) and does
            itself what the authors' weights expect. False: it takes BGR 0..1.
        kernel: "parc", or for the paper's ablation "big_1/2" or "big_1/4": zero-padded kernels of
            half or a quarter of the side.
        meta_former: False builds the ablation's ResNeXt-like block, a reconstruction: it is not
            in the authors' code, see `keras_parc.layers.blocks.resnext_parc_block`.
        channel_attention: Whether the blocks have channel attention.
        position_embedding: Whether the circular convolutions are position aware.
        output_stride: 32, 16 or 8, for dense prediction.

    Returns:
        A functional `keras.Model`; see `keras_parc.features` for its feature pyramid.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.
        OSError: Published weights can be neither found nor downloaded, or not be cached.

    Source: arXiv 2203.03952, Table 1 and Figure 3; ablations: Table 2.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCNetS(input_shape=(64, 64, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    backbone = functools.partial(
        parc_net_backbone,
        config=CONFIGS["S"],
        kernel=kernel,
        meta_former=meta_former,
        channel_attention=channel_attention,
        position_embedding=position_embedding,
        output_stride=output_stride,
    )
    return image_classifier(
        backbone,
        "ParCNetS",
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


@register_model(levels=LEVELS, name_map=names.parc_net)
def ParCNetH(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "parc_net_h",
    *,
    include_preprocessing: bool = True,
    kernel: str = "parc",
    meta_former: bool = True,
    channel_attention: bool = True,
    position_embedding: bool = True,
    output_stride: int = 32,
) -> keras.Model:
    """ParC-Net-H: 20.4 M parameters, 8.5 G multiply-adds at 256x256.

    Args:
        include_top: This and all other arguments mean the same as in `ParCNetS`. Without the top
            the output is `(batch, height / 32, width / 32, 960)`, or its pooled vector.
            No weights are published.

    Returns:
        A functional `keras.Model`; see `keras_parc.features` for its feature pyramid.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.

    Source: arXiv 2203.03952, Table 1 and Figure 3; ablations: Table 2.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCNetH(input_shape=(64, 64, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    backbone = functools.partial(
        parc_net_backbone,
        config=CONFIGS["H"],
        kernel=kernel,
        meta_former=meta_former,
        channel_attention=channel_attention,
        position_embedding=position_embedding,
        output_stride=output_stride,
    )
    return image_classifier(
        backbone,
        "ParCNetH",
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


@register_model(
    levels=LEVELS,
    name_map=names.parc_net,
    variants=ABLATION,
    listed=False,
)
def ParCNetTiny(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "parc_net_tiny",
    *,
    include_preprocessing: bool = True,
    kernel: str = "parc",
    meta_former: bool = True,
    channel_attention: bool = True,
    position_embedding: bool = True,
    output_stride: int = 32,
) -> keras.Model:
    """ParC-Net-Tiny: as `ParCNetXS`, of one narrow block a stage; for small images and ablations.

    Args:
        include_top: This and all other arguments mean the same as in `ParCNetS`. Without the top
            the output is `(batch, height / 32, width / 32, 320)`, or its pooled vector.
            No weights are published.

    Returns:
        A functional `keras.Model`; see `keras_parc.features` for its feature pyramid.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.

    Source: arXiv 2203.03952, Table 1 and Figure 3; ablations: Table 2.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCNetTiny(input_shape=(64, 64, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    backbone = functools.partial(
        parc_net_backbone,
        config=CONFIGS["Tiny"],
        kernel=kernel,
        meta_former=meta_former,
        channel_attention=channel_attention,
        position_embedding=position_embedding,
        output_stride=output_stride,
    )
    return image_classifier(
        backbone,
        "ParCNetTiny",
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
