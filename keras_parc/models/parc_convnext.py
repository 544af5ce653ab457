"""ParC-ConvNeXt-XT: depthwise ParC in the last blocks of the last two stages of a small ConvNeXt.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: A ConvNet for the 2020s, CVPR 2022, arXiv 2201.03545.
ParC and the width "XT": arXiv 2203.03952, Table 3.
"""

from dataclasses import dataclass

import keras
from keras import initializers, layers

from keras_parc.layers.blocks import Tensor, parc_halves
from keras_parc.models.convnet import convnet
from keras_parc.models.parc_net import stage_strides

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


@keras.saving.register_keras_serializable(package="keras_parc")
class LayerScale(layers.Layer):
    """A learned factor per channel, small at first: each block starts near the identity.

    Args:
        initial: First value of every factor.
        **kwargs: `name`, `dtype` and the like, see `keras.layers.Layer`.

    Input and output: `(..., channels)`.

    Source: arXiv 2103.17239, equation 4.
    """

    def __init__(self, initial: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self.initial = float(initial)

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma",
            shape=(input_shape[-1],),
            initializer=initializers.Constant(self.initial),
        )

    def call(self, x):
        return x * self.gamma

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return super().get_config() | {"initial": self.initial}


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


ParCConvNeXtXT = convnet(
    "ParCConvNeXtXT",
    convnext_backbone,
    model_name="parc_convnext_xt",
    title="ParC-ConvNeXt-XT",
    summary="7.4 M parameters, 1.1 G multiply-adds at 224x224.",
    source="ConvNeXt: arXiv 2201.03545",
    channels=STAGES[-1].channels,
    head_norm=lambda x: _layer_norm(x, "head_ln"),
)
