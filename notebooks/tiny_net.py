"""The net of the guide "Add a model": small enough for a notebook to train within a minute."""

import keras

from keras_parc.layers import blocks
from keras_parc.models.classifier import image_classifier
from keras_parc.models.registry import register_model

# Channels, and the stored length of the circular convolution: the side of the map at 256x256.
STAGES = {2: (24, None), 3: (48, None), 4: (64, 16), 5: (96, 8)}


def tiny_backbone(x):
    """Stem and stages 2 to 5 over `(batch, height, width, channels)`."""
    x = blocks.conv_norm_act(x, 16, 3, strides=2, name="stem")
    for stage, (channels, length) in STAGES.items():
        x = blocks.inverted_residual(x, channels, strides=2, name=f"stage{stage}_ir1")
        if length:
            x = blocks.parc_block(x, length, 2 * channels, name=f"stage{stage}_parc1")
    return x


@register_model(
    key="tiny_net",
    levels={
        "P2": "stage2_ir1_project_bn",
        "P3": "stage3_ir1_project_bn",
        "P4": "stage4_parc1_ffn_add",
        "P5": "stage5_parc1_ffn_add",
    },
)
def TinyNet(**options) -> keras.Model:
    """Build one; the arguments are those of `keras_parc.ParCNetXS`."""
    return image_classifier(tiny_backbone, **{"name": "tiny_net"} | options)
