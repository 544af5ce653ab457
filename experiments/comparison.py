"""The files of the speed comparison: `python -m experiments.comparison FOLDER`.

Weights are random, with BatchNorms that fit them: time does not depend on more. All take RGB
0..255, float32.
"""

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Callable
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
from keras_parc.support.files import replacing

SIZES = (160, 192, 224, 288, 320, 384, 512)
DTYPES = {"fp32": None, "int8": "int8"}


@dataclass(frozen=True)
class Entry:
    """One file: `<model>_<side>_<form>_<dtype>.tflite`."""

    model: str
    build: Callable[..., keras.Model]
    side: int = 256
    form: str = "rewritten"  # "plain": as in the paper; else a target of `deploy`
    dtype: str = "fp32"

    @property
    def name(self) -> str:
        return f"{self.model}_{self.side}_{self.form}_{self.dtype}.tflite"


def entries() -> list[Entry]:
    """All files of the comparison; MobileViT-S of the package kimm if that is installed."""
    build = {
        key: find_model(key).build
        for key in ("parc_net_s", "parc_net_xs", "parc_net_h", "mobilevit_s")
    }
    rows = []
    for dtype in DTYPES:
        rows.append(Entry("parc_net_s", build["parc_net_s"], form="plain", dtype=dtype))
        rows += [Entry(name, each, dtype=dtype) for name, each in build.items()]
        rows += [Entry(name, each, form="portable", dtype=dtype) for name, each in build.items()]
        rows += [Entry("parc_net_s", build["parc_net_s"], side=side, dtype=dtype) for side in SIZES]
        if importlib.util.find_spec("kimm"):
            rows.append(Entry("kimm_mobilevit_s", _kimm, form="own", dtype=dtype))
    return rows


def _kimm(input_shape, **_):
    import kimm

    return kimm.models.MobileViTS(input_shape=input_shape, weights=None)


def export(folder: Path, console: Console, rows: list[Entry] | None = None) -> list[Path]:
    """Write all files (or those of `rows`) into `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = entries() if rows is None else rows
    with conversion_process():
        for entry in track(rows, "exporting", console=console):
            keras.utils.set_random_seed(0)
            _write(entry, folder / entry.name)
            keras.backend.clear_session()
    return [folder / entry.name for entry in rows]


def _write(entry: Entry, path: Path) -> None:
    side = entry.side
    images = np.random.default_rng(0).integers(0, 256, (4, side, side, 3)).astype("float32")
    model = entry.build(input_shape=(side, side, 3), include_preprocessing=True)
    settle(model, [images])
    if entry.form == "own":
        from kimm.export import export_tflite

        calibration = functools.partial(iter, [[image[None]] for image in images])
        with replacing(path) as temporary:
            export_tflite(
                model,
                (side, side, 3),
                temporary,
                {"fp32": "float32"}.get(entry.dtype, entry.dtype),
                calibration if entry.dtype == "int8" else None,
            )
        return
    plain = entry.form == "plain"
    with as_in_the_paper() if plain else contextlib.nullcontext():
        to_tflite(
            model,
            path,
            quantize=DTYPES[entry.dtype],
            calibration=images,
            rewrite=not plain,
            target="portable" if entry.form == "portable" else "litert",
        )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m experiments.comparison FOLDER")
    export(Path(sys.argv[1]), Console())
