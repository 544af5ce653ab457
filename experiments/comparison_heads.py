"""The files that compare detectors and segmenters on ParC-Net-S with those on MobileViT-S.

`python -m experiments.comparison_heads FOLDER` writes them; `make benchmark-heads` also times
and weighs them and counts their instructions. Detectors have their post-processing inside.
"""

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from experiments.comparison import DTYPES, Entry, export
from keras_parc.models.deeplab_v3 import DeepLabV3
from keras_parc.models.registry import find_model
from keras_parc.models.ssd_lite import SSDLite

BACKBONES = ("mobilevit_s", "parc_net_s")


@dataclass(frozen=True)
class Head:
    """What both backbones get; the side is that of the image."""

    name: str
    classes: int
    side: int
    forms: tuple[str, ...] = ("rewritten", "portable")  # the latter for emulated ARMv7


HEADS = (
    Head("ssd", classes=80, side=320),
    Head("deeplab_v3", classes=21, side=256),
    Head("deeplab_v3", classes=21, side=512, forms=("rewritten",)),
)


BUILDERS = {"ssd": SSDLite, "deeplab_v3": DeepLabV3}


def _build(head: Head, backbone: str, **arguments):
    built = find_model(backbone).build(include_top=False, **arguments)
    return BUILDERS[head.name](built, head.classes)


def head_entries() -> list[Entry]:
    """All files of this comparison."""
    return [
        Entry(
            f"{head.name}_{backbone}",
            functools.partial(_build, head, backbone),
            side=head.side,
            form=form,
            dtype=dtype,
        )
        for head in HEADS
        for form in head.forms
        for dtype in DTYPES
        for backbone in BACKBONES
    ]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m experiments.comparison_heads FOLDER")
    export(Path(sys.argv[1]), Console(), head_entries())
