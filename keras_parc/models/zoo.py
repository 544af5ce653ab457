"""The models that recipes name: those that were published, and the rows of the paper's ablation."""

import functools
from collections.abc import Callable

import keras

from keras_parc.models.boxes import Anchors
from keras_parc.models.deeplab_v3 import DeepLabV3
from keras_parc.models.mobilevit import MobileViTS
from keras_parc.models.parc_net import ParCNetH, ParCNetS, ParCNetXS
from keras_parc.models.ssd_lite import SSDLite
from keras_parc.models.tiny import mobilevit_tiny, parc_net_tiny

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
# Also for 64 x 64: a map of 8 x 8 cells, rates that stay inside it, a narrow head.
_FINE = {"output_stride": 8, "rates": (1, 2, 3), "width": 128}
# Table 2: ParC-Net without one of its parts; the tiny one is what digit scenes are learnt with.
_WITHOUT = {
    "big_1_4": {"kernel": "big_1/4"},
    "big_1_2": {"kernel": "big_1/2"},
    "no_meta_former": {"meta_former": False},
    "no_attention": {"channel_attention": False},
    "no_position": {"position_embedding": False},
}
_BACKBONES: dict[str, Constructor] = {
    "parc_net_xs": ParCNetXS,
    "parc_net_s": ParCNetS,
    "parc_net_h": ParCNetH,
    "parc_net_tiny": parc_net_tiny,
    "mobilevit_s": MobileViTS,
    "mobilevit_tiny": mobilevit_tiny,
    **{
        f"{name}_{part}": functools.partial(build, **options)
        for name, build in {"parc_net_tiny": parc_net_tiny, "parc_net_s": ParCNetS}.items()
        for part, options in _WITHOUT.items()
    },
}
# Add a constructor with the arguments of `ParCNetS` to train a model of your own.
MODELS: dict[str, Constructor] = {
    **_BACKBONES,
    # As published, from ImageNet; "new": from nothing, of that size; "small": for 64 x 64.
    "ssd_parc_net_s": _with_head(SSDLite, functools.partial(ParCNetS, weights="imagenet")),
    "deeplab_v3_parc_net_s": _with_head(DeepLabV3, functools.partial(ParCNetS, weights="imagenet")),
}
for _name, _build in _BACKBONES.items():
    MODELS[f"ssd_{_name}_new"] = _with_head(SSDLite, _build)
    MODELS[f"ssd_{_name}_small"] = _with_head(SSDLite, _build, **_SMALL)
    MODELS[f"deeplab_v3_{_name}_new"] = _with_head(DeepLabV3, _build)
    MODELS[f"deeplab_v3_{_name}_small"] = _with_head(DeepLabV3, _build, **_FINE)
