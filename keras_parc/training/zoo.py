"""The models that recipes name: those that were published, and the rows of the paper's ablation."""

import functools
from collections.abc import Callable

import keras

from keras_parc.boxes import Anchors
from keras_parc.deeplab_v3 import DeepLabV3
from keras_parc.mobilevit import MobileViTS
from keras_parc.parc_net import ParCNetH, ParCNetS, ParCNetXS
from keras_parc.ssd_lite import SSDLite

Constructor = Callable[..., keras.Model]


def _with_head(head: Constructor, backbone: Constructor, **options) -> Constructor:
    def build(input_shape, classes, include_preprocessing):
        shared = {"input_shape": input_shape, "include_preprocessing": include_preprocessing}
        return head(backbone(include_top=False, **shared), classes, **options)

    return build


# For images of 64 x 64: maps of 8, 4, 2 and 1 cells, and few channels.
_SMALL = {
    "feature_names": ("P3", "P4", "P5"),
    "projections": (128, 128, 128),
    "extra_channels": (64,),
    "anchors": Anchors(((2.0,),) * 4, smallest=0.2, largest=0.9),
}
# Also for 64 x 64: a map of 8 x 8 cells, a narrow head.
_FINE = {"output_stride": 8, "width": 128}
# Table 2: ParC-Net-S without one of its parts.
_ABLATIONS = {
    "parc_net_s_big_1_4": functools.partial(ParCNetS, kernel="big_1/4"),
    "parc_net_s_big_1_2": functools.partial(ParCNetS, kernel="big_1/2"),
    "parc_net_s_no_meta_former": functools.partial(ParCNetS, meta_former=False),
    "parc_net_s_no_attention": functools.partial(ParCNetS, channel_attention=False),
    "parc_net_s_no_position": functools.partial(ParCNetS, position_embedding=False),
}
_COMPARED = {
    "mobilevit_s": MobileViTS,
    "parc_net_s_no_position": _ABLATIONS["parc_net_s_no_position"],
    "parc_net_s": ParCNetS,
}
# Add a constructor with the arguments of `ParCNetS` to train a model of your own.
MODELS: dict[str, Constructor] = {
    "parc_net_xs": ParCNetXS,
    "parc_net_s": ParCNetS,
    "parc_net_h": ParCNetH,
    "mobilevit_s": MobileViTS,
    **_ABLATIONS,
    # As published, from ImageNet; and from nothing, to compare.
    "ssd_parc_net_s": _with_head(SSDLite, functools.partial(ParCNetS, weights="imagenet")),
    **{f"ssd_{name}_new": _with_head(SSDLite, backbone) for name, backbone in _COMPARED.items()},
    **{
        f"ssd_{name}_small": _with_head(SSDLite, backbone, **_SMALL)
        for name, backbone in _COMPARED.items()
    },
    "ssd_parc_net_xs_small": _with_head(SSDLite, ParCNetXS, **_SMALL),
    "deeplab_v3_parc_net_s": _with_head(DeepLabV3, functools.partial(ParCNetS, weights="imagenet")),
    **{
        f"deeplab_v3_{name}_new": _with_head(DeepLabV3, backbone)
        for name, backbone in _COMPARED.items()
    },
    **{
        f"deeplab_v3_{name}_small": _with_head(DeepLabV3, backbone, **_FINE)
        for name, backbone in _COMPARED.items()
    },
    "deeplab_v3_parc_net_xs_small": _with_head(DeepLabV3, ParCNetXS, **_FINE),
}
