"""The files that are compared on NPUs: `python -m experiments.comparison_npu FOLDER`.

int8 with int8 input and output. Weights are random, with BatchNorms that fit them: Vela's estimates
hardly depend on more. `tflite/npu.py FOLDER/*.tflite --csv tflite/results/npu.csv` estimates them.
"""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import track

from experiments.convolution_forms import as_in_the_paper
from experiments.random_weights import settle
from keras_parc.lite.convert import to_tflite
from keras_parc.lite.process import conversion_process
from keras_parc.models.registry import find_model

FORMS = ("plain", "litert", "portable", "npu")  # "plain": not rewritten; else a target
# Keys of the registry, and the side they are trained at.
COMPARED = {
    "parc_net_xs": 256,
    "parc_net_s": 256,
    "mobilevit_s": 256,
    "mobilenet_v2": 224,
    "efficientnet_lite0": 224,
}
# These for the NPU alone, to see that it runs all of them.
OTHERS = {"parc_net_xs": 224, "parc_resnet50": 224, "parc_mobilenet_v2": 224}
OTHERS["parc_convnext_xt"] = 224


@dataclass(frozen=True)
class NPUFile:
    """One file: `<model>_<side>_<form>.tflite`."""

    model: str
    side: int
    form: str

    @property
    def name(self) -> str:
        return f"{self.model}_{self.side}_{self.form}.tflite"


def npu_files() -> list[NPUFile]:
    """All files of this comparison."""
    found = [NPUFile(*each, form) for each in COMPARED.items() for form in FORMS]
    return found + [NPUFile(*each, "npu") for each in OTHERS.items()]


def export(folder: Path, console: Console, rows: list[NPUFile] | None = None) -> list[Path]:
    """Write all files (or those of `rows`) into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = npu_files() if rows is None else rows
    with conversion_process():
        for row in track(rows, "exporting", console=console):
            keras.utils.set_random_seed(0)
            _write(row, folder / row.name)
            keras.backend.clear_session()
    return [folder / row.name for row in rows]


def _write(row: NPUFile, path: Path) -> None:
    shape = (row.side, row.side, 3)
    images = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype("float32")
    model = find_model(row.model).build(input_shape=shape, include_preprocessing=True)
    settle(model, [images])
    plain = row.form == "plain"
    with as_in_the_paper() if plain else contextlib.nullcontext():
        to_tflite(
            model,
            path,
            quantize="int8",
            calibration=images,
            io="int8",
            rewrite=not plain,
            target="npu" if plain else row.form,
        )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m experiments.comparison_npu FOLDER")
    export(Path(sys.argv[1]), Console())
