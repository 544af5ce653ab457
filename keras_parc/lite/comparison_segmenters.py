"""The files that compare DeepLabV3 on ParC-Net-S with DeepLabV3 on MobileViT-S.

`python -m keras_parc.lite.comparison_segmenters FOLDER` writes them, then
`tflite/benchmark.py FOLDER/*_256_*.tflite --csv tflite/results/segmenters_256.csv` times those of
one size and `tflite/memory.py FOLDER/*.tflite --csv tflite/results/segmenters_memory.csv` weighs
all.
"""

import sys
from pathlib import Path

import keras
from rich.console import Console

from keras_parc.deeplab_v3 import DeepLabV3
from keras_parc.lite.comparison import DTYPES, Entry, export
from keras_parc.mobilevit import MobileViTS
from keras_parc.parc_net import ParCNetS

SIDES = (256, 512)
BACKBONES = {"deeplab_v3_mobilevit_s": MobileViTS, "deeplab_v3_parc_net_s": ParCNetS}


def segmenter_entries() -> list[Entry]:
    """All files of this comparison."""
    return [
        Entry(name, _segmenter(backbone), side=side, dtype=dtype)
        for side in SIDES
        for dtype in DTYPES
        for name, backbone in BACKBONES.items()
    ]


def _segmenter(backbone):
    def build(**arguments) -> keras.Model:
        return DeepLabV3(backbone(include_top=False, **arguments))

    return build


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m keras_parc.lite.comparison_segmenters FOLDER")
    export(Path(sys.argv[1]), Console(), segmenter_entries())
