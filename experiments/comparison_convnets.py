"""The files that compare ParC in other ConvNets with the plain ones, at 224x224.

`python -m experiments.comparison_convnets FOLDER` writes them, then
`tflite/benchmark.py FOLDER/*.tflite --csv tflite/results/convnets.csv` times them. The plain ones
come from the same builder; those of `keras.applications` are timed beside (its ResNet50 has its
strides elsewhere and fewer multiply-adds). All are rewritten.
"""

import functools
import sys
from pathlib import Path

import keras
from rich.console import Console

from experiments.comparison import DTYPES, Entry, export
from experiments.random_weights import as_if_trained
from keras_parc.models.registry import list_models

SIDE = 224
ORIGINALS = {
    "keras_resnet50": keras.applications.ResNet50,
    "keras_mobilenet_v2": keras.applications.MobileNetV2,
}


def convnet_entries() -> list[Entry]:
    """All files of this comparison."""
    builders = {}
    for entry in list_models("classification", listed=True):
        if "plain" in entry.variants:
            plain = functools.partial(entry.build, **entry.variants["plain"])
            builders[entry.key.removeprefix("parc_")] = plain
            builders[entry.key] = entry.build
    for name, build in ORIGINALS.items():
        builders[name] = functools.partial(_original, build)
    return [
        Entry(name, functools.partial(_as_if_trained, build), side=SIDE, dtype=dtype)
        for dtype in DTYPES
        for name, build in builders.items()
    ]


def _original(build, input_shape, **_):
    image = keras.Input(input_shape)
    return build(input_tensor=keras.layers.Rescaling(1 / 255)(image), weights=None)


def _as_if_trained(build, **arguments) -> keras.Model:
    model = build(**arguments)
    as_if_trained(model)
    return model


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m experiments.comparison_convnets FOLDER")
    export(Path(sys.argv[1]), Console(), convnet_entries())
