"""What Arm's compiler Vela estimates for each form of a circular convolution on Ethos-U NPUs.

Both axes of a square map, between two 1x1 convolutions, so that the map comes from the NPU's own
memory: `python -m experiments.npu_forms --csv FILE`. `keras_parc.lite.rewrite.forms` has the table
for the target "npu" from these figures.
"""

import argparse
import functools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from rich.progress import track

from keras_parc import ParCH, ParCV
from keras_parc.lite.convert import to_tflite
from keras_parc.lite.process import conversion_process
from keras_parc.lite.rewrite import forms
from keras_parc.support.files import add_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tflite"))
import npu as tool

# Side and channels: ParC-Net at 224, 256, 320 and 512, and the ConvNets with ParC.
MAPS = (
    *((7, 320), (8, 320), (10, 320), (14, 256), (16, 256)),
    *((20, 256), (24, 192), (28, 192), (32, 192), (40, 192), (64, 96)),
)
# Those of the table, and what else could be one.
FORMS = {
    **dict.fromkeys(("circulant", *forms.CONVOLUTIONS)),
    "depthwise_25": functools.partial(forms.doubled, max_taps=25),
}


def files(folder: Path) -> Iterator[tuple[int, int, str, Path]]:
    """Write a file for each map and form that fits: side, channels, form and path.

    Args:
        folder: Where to.

    Example:
        >>> next(files(Path(tempfile.mkdtemp())))[:3]
        (7, 320, 'circulant')
    """
    with conversion_process():
        for (side, channels), (form, own) in ((a, b) for a in MAPS for b in FORMS.items()):
            if form == "periodic" and 2 * side - 1 > forms.NPU_TAPS:
                continue
            path = folder / f"{side}_{form}.tflite"
            added = {} if own is None else {form: own}
            with (
                mock.patch.dict(forms.TABLE, npu=((1, form),)),
                mock.patch.dict(forms.CONVOLUTIONS, added),
            ):
                _write(side, channels, path)
            yield side, channels, form, path


def _write(side: int, channels: int, path: Path) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((side, side, channels))
    x = keras.layers.Conv2D(channels, 1)(image)
    x = ParCH(side, position_embedding=False)(ParCV(side, position_embedding=False)(x))
    model = keras.Model(image, keras.layers.Conv2D(channels, 1)(x))
    images = np.random.default_rng(0).normal(size=(4, side, side, channels)).astype("float32")
    to_tflite(model, path, quantize="int8", calibration=images, target="npu")
    keras.backend.clear_session()


def cycles(operations: list[Mapping[str, str]]) -> float:
    """Cycles of all operations but the two convolutions around."""
    return sum(
        float(each["Op Cycles"])
        for each in operations
        if each["Original Operator"].strip() != "Conv2D"
    )


def main() -> None:
    """Estimate all forms and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vela", help="Vela's command (vela)")
    parser.add_argument("--csv", type=Path, required=True, help="the file to write")
    args = parser.parse_args()
    vela, rows = tool.find_vela(args.vela), []
    version = tool.version(vela)
    with tempfile.TemporaryDirectory() as folder:
        for side, channels, form, path in track(list(files(Path(folder))), "estimating"):
            for npu in tool.NPUS:
                with tempfile.TemporaryDirectory() as out:
                    totals, operations = tool.compiled(path, npu, vela, out)
                rows.append(
                    {
                        "length": side,
                        "channels": channels,
                        "form": form,
                        "npu": npu,
                        "kilocycles": round(cycles(operations) / 1e3, 1),
                        "sram_kib": round(float(totals["sram_memory_used"])),
                        "vela": version,
                    }
                )
    args.csv.unlink(missing_ok=True)
    add_rows(args.csv, rows)


if __name__ == "__main__":
    main()
