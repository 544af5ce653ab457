"""ParC-Net and MobileViT of one narrow block a stage: small enough to train dozens in an hour."""

import functools

import keras

from keras_parc.models.classifier import image_classifier
from keras_parc.models.mobilevit import MobileViTConfig, TransformerStage, mobilevit_backbone
from keras_parc.models.parc_net import GlobalStage, ParCNetConfig, parc_net_backbone

PARC_NET = ParCNetConfig(
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
)
# Around the transformers the same convolutions.
MOBILEVIT = MobileViTConfig(
    stem=PARC_NET.stem,
    stage1=PARC_NET.stage1,
    stage2=PARC_NET.stage2,
    stages=tuple(
        TransformerStage(each.channels, each.width, each.hidden, each.blocks)
        for each in PARC_NET.stages
    ),
    heads=4,
    patch=2,
)


def parc_net_tiny(
    *,
    kernel: str = "parc",
    meta_former: bool = True,
    channel_attention: bool = True,
    position_embedding: bool = True,
    **options,
) -> keras.Model:
    """ParC-Net as `keras_parc.ParCNetXS`, of one narrow block a stage; for small images.

    Args:
        kernel: As `keras_parc.ParCNetXS`, and so are all others.
        meta_former: As above.
        channel_attention: As above.
        position_embedding: As above.
        **options: As above.

    Example:
        >>> parc_net_tiny(input_shape=(64, 64, 3), classes=10).output_shape
        (None, 10)
    """
    backbone = functools.partial(
        parc_net_backbone,
        config=PARC_NET,
        kernel=kernel,
        meta_former=meta_former,
        channel_attention=channel_attention,
        position_embedding=position_embedding,
    )
    return image_classifier(backbone, **{"name": "parc_net_tiny"} | options)


def mobilevit_tiny(**options) -> keras.Model:
    """MobileViT as `keras_parc.MobileViTS`, as wide and deep as `parc_net_tiny`.

    Args:
        **options: As `keras_parc.MobileViTS`.

    Example:
        >>> mobilevit_tiny(input_shape=(64, 64, 3), classes=10).output_shape
        (None, 10)
    """
    backbone = functools.partial(mobilevit_backbone, config=MOBILEVIT)
    return image_classifier(backbone, **{"name": "mobilevit_tiny"} | options)
