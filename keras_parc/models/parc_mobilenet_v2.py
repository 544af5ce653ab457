"""ParC-MobileNetV2: depthwise ParC in four blocks of the last two stages of MobileNetV2.

Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks,
CVPR 2018, arXiv 1801.04381. ParC: arXiv 2203.03952, Table 3.
"""

import functools
import os
from dataclasses import dataclass

import keras

from keras_parc.layers.blocks import Tensor, conv_norm_act, inverted_residual, parc_halves
from keras_parc.models.classifier import image_classifier
from keras_parc.models.parc_net import stage_strides
from keras_parc.models.registry import register_model
from keras_parc.weights import names_convnets


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
LEVELS = {
    "P2": "stage2_ir2_add",
    "P3": "stage3_ir3_add",
    "P4": "stage4_ir7_add",
    "P5": "stage5_ir4_project_bn",
}
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


@register_model(
    input_size=(224, 224),
    levels=LEVELS,
    name_map=names_convnets.mobilenet,
    variants={"plain": {"parc": False}},
)
def ParCMobileNetV2(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "parc_mobilenet_v2",
    *,
    include_preprocessing: bool = True,
    parc: bool = True,
    position_embedding: bool = True,
    output_stride: int = 32,
) -> keras.Model:
    """ParC-MobileNetV2: 3.5 M parameters, 0.30 G multiply-adds at 224x224.

    Args:
        include_top: Whether to include the classifier. Without it the output is the last feature
            map, `(batch, height / 32, width / 32, 1280)`, or its pooled vector.
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

    Source: arXiv 2203.03952, Table 3; MobileNetV2: arXiv 1801.04381.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCMobileNetV2(input_shape=(64, 96, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """
    backbone = functools.partial(
        mobilenet_backbone,
        parc=parc,
        position_embedding=position_embedding,
        output_stride=output_stride,
    )
    return image_classifier(
        backbone,
        "ParCMobileNetV2",
        name=name,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        dropout=0.2,
    )
