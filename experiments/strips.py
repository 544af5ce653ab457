"""What strips of rows cost and save.

    python -m experiments.strips              ten minutes, the machine idle: results/strips.csv
    python -m experiments.strips FOLDER       the files for ARM, whole and cut, then
    python tflite/emulation/compare.py FOLDER/*.tflite --targets armv7x --cache 1024 --rel 0.05 \
        --csv tflite/results/strips_armv7x.csv

Each model is exported whole, then cut as `to_tflite` cuts; both files take turns. What strips gain
depends on the memory of a machine, so a copy of 64 MB is timed too.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.progress import track

import keras_parc
from experiments.random_weights import as_if_trained
from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.order import peak
from keras_parc.lite.file.runtime import open_file
from keras_parc.lite.file.strips import DEVICES, in_strips
from keras_parc.support.files import add_rows
from keras_parc.support.machine import device_name
from keras_parc.support.timing import interleaved

RESULTS = Path(__file__).parent / "results" / "strips.csv"
MODELS = {"ParCNetS": 256, "MobileViTS": 256, "EfficientNetLite0": 224, "MobileNetV2": 224}
DTYPES = {"float32": None, "int8": "int8"}
CALIBRATION = 16
ROUNDS = 40


def exported(name: str, side: int, dtype: str, target: str, folder: Path) -> tuple[Path, Path]:
    """A model whole and cut for a target."""
    model = keras_parc.find_model(name).build(input_shape=(side, side, 3))
    as_if_trained(model)
    given = images(side) if DTYPES[dtype] else None
    whole, cut = (folder / f"{name}_{side}_{dtype}_{each}.tflite" for each in ("whole", "strips"))
    keras_parc.to_tflite(model, whole, None, DTYPES[dtype], given, target=target, cache_kib=0)
    cut.write_bytes(in_strips(whole.read_bytes(), DEVICES[target], [images(side)[0]]))
    return whole, cut


def images(side: int) -> np.ndarray:
    """Random pixels."""
    pixels = np.random.default_rng(0).uniform(0, 255, (CALIBRATION, side, side, 3))
    return pixels.astype("float32")


def rows(name: str, side: int, dtype: str, folder: Path) -> Iterator[dict[str, str | int]]:
    """Figures of a model whole, and cut for each target."""
    whole, cut = exported(name, side, dtype, "litert", folder)
    small = folder / "small.tflite"
    small.write_bytes(in_strips(whole.read_bytes(), DEVICES["portable"], [images(side)[0]]))
    paths = {"whole": whole, "litert": cut, "portable": small}
    files = {key: open_file(path) for key, path in paths.items()}
    for each in files.values():
        each.set_tensor(each.get_input_details()[0]["index"], images(side)[:1])
    memory = np.zeros(1 << 24, "float32")
    run = {key: each.invoke for key, each in files.items()} | {"copy": memory.copy}
    times = interleaved(run, rounds=ROUNDS)
    for key, path in paths.items():
        found = keras_parc.inspect(path)
        yield {
            "model": name,
            "side": side,
            "dtype": dtype,
            "strips": key,
            "operations": sum(found.operations.values()),
            "partitions": found.partitions,
            "outside": sum(found.outside.values()),
            "megabytes": f"{found.size / 1e6:.2f}",
            "peak_mb": f"{peak(flatbuffer.read(path.read_bytes())) / 1e6:.2f}",
            "arena_mb": f"{found.arena / 1e6:.2f}",
            "milliseconds": f"{times[key]['median_ms']:.2f}",
            "ratio": f"{times[key]['ratio']:.3f}",
            "copy_64_mb_ms": f"{times['copy']['median_ms']:.2f}",
            "machine": device_name(),
        }


def main(arguments: list[str]) -> None:
    every = [(name, side, dtype) for name, side in MODELS.items() for dtype in DTYPES]
    if arguments:
        folder = Path(arguments[0])
        folder.mkdir(parents=True, exist_ok=True)
        for each in track(every, "exporting"):
            exported(*each, "portable", folder)
        return
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for each in track(every, "measuring"):
            found += rows(*each, Path(folder))
    RESULTS.unlink(missing_ok=True)
    add_rows(RESULTS, found)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("usage: python -m experiments.strips [FOLDER]")
    main(sys.argv[1:])
