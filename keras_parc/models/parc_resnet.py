"""ParC-ResNet50: dense ParC in the last blocks of the last two stages of ResNet50.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385; with
the stride in the 3x3 convolution ("v1.5"). ParC: arXiv 2203.03952, Table 3.
"""

from dataclasses import dataclass

from keras import layers

from keras_parc.layers.blocks import Tensor, conv_norm_act, norm, parc_halves
from keras_parc.models.convnet import convnet
from keras_parc.models.parc_net import stage_strides


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


ParCResNet50 = convnet(
    "ParCResNet50",
    resnet_backbone,
    model_name="parc_resnet50",
    title="ParC-ResNet50",
    summary="23.7 M parameters, 3.9 G multiply-adds at 224x224.",
    source="ResNet: arXiv 1512.03385",
    channels=2048,
)
