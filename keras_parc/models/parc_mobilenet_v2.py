"""ParC-MobileNetV2: depthwise ParC in four blocks of the last two stages of MobileNetV2.

Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks,
CVPR 2018, arXiv 1801.04381. ParC: arXiv 2203.03952, Table 3.
"""

import functools
from dataclasses import dataclass

from keras_parc.layers.blocks import Tensor, conv_norm_act, inverted_residual, parc_halves
from keras_parc.models.convnet import convnet
from keras_parc.models.parc_net import stage_strides


@dataclass(frozen=True)
class InvertedStage:
    """A stage of inverted residuals; `parc` and `embedded` count its blocks from 1."""

    channels: tuple[int, ...]  # of each block
    parc: tuple[int, ...] = ()  # blocks with ParC instead of the depthwise convolution
    embedded: tuple[int, ...] = ()  # those of them with position embeddings
    length: int = 0  # stored kernel length: the side of the stage's map at 224x224


STAGES = (
    InvertedStage((16,)),
    InvertedStage((24,) * 2),
    InvertedStage((32,) * 3),
    InvertedStage((64,) * 4 + (96,) * 3, parc=(3, 4, 7), embedded=(3, 7), length=14),
    InvertedStage((160,) * 3 + (320,), parc=(3,), embedded=(3,), length=7),
)
STEM, HEAD, EXPANSION = 32, 1280, 6


def mobilenet_backbone(
    x: Tensor, parc: bool = True, position_embedding: bool = True, output_stride: int = 32
) -> Tensor:
    """Build stem, stages 1 to 5 and the last expansion over `(batch, height, width, channels)`."""
    x = conv_norm_act(x, STEM, 3, 2, activation="relu6", name="stem")
    strides = (1, 2, *stage_strides(output_stride))
    for number, stage, stage_stride in zip(range(1, 6), STAGES, strides, strict=True):
        for index, filters in enumerate(stage.channels, 1):
            name = f"stage{number}_ir{index}"
            spatial = None
            if parc and index in stage.parc:
                spatial = functools.partial(
                    parc_halves,
                    lengths=(stage.length, stage.length),
                    name=f"{name}_parc",
                    position_embedding=position_embedding and index in stage.embedded,
                )
            x = inverted_residual(
                x,
                filters,
                stage_stride if index == 1 else 1,
                name,
                expansion=1 if number == 1 else EXPANSION,
                activation="relu6",
                spatial=spatial,
            )
    return conv_norm_act(x, HEAD, activation="relu6", name="head_expand")


ParCMobileNetV2 = convnet(
    "ParCMobileNetV2",
    mobilenet_backbone,
    model_name="parc_mobilenet_v2",
    title="ParC-MobileNetV2",
    summary="3.5 M parameters, 0.30 G multiply-adds at 224x224.",
    source="MobileNetV2: arXiv 1801.04381",
    channels=HEAD,
    dropout=0.2,
)
