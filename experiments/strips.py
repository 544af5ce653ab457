"""What strips of rows cost and save: `python -m experiments.strips`, ten minutes, machine idle.

Each model is exported whole, then cut as `to_tflite` cuts; both files take turns. What strips gain
depends on the memory of a machine, so a copy of 64 MB is timed too.
"""

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
from keras_parc.lite.file.strips import CACHE_KIB, in_strips
from keras_parc.support.files import add_rows
from keras_parc.support.machine import device_name
from keras_parc.support.timing import interleaved

RESULTS = Path(__file__).parent / "results" / "strips.csv"
MODELS = {"ParCNetS": 256, "MobileViTS": 256, "EfficientNetLite0": 224, "MobileNetV2": 224}
DTYPES = {"float32": None, "int8": "int8"}
CACHES = (CACHE_KIB["litert"], CACHE_KIB["portable"], 256)  # KiB
CALIBRATION = 16
ROUNDS = 40


def rows(name: str, side: int, dtype: str) -> Iterator[dict[str, str | int]]:
    """Figures of a model whole, and cut for each size of cache."""
    model = keras_parc.find_model(name).build(input_shape=(side, side, 3))
    as_if_trained(model)
    images = np.random.default_rng(0).uniform(0, 255, (CALIBRATION, side, side, 3))
    images = images.astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        paths = {0: Path(folder, "0.tflite")}
        given = images if DTYPES[dtype] else None
        keras_parc.to_tflite(model, paths[0], None, DTYPES[dtype], given, cache_kib=0)
        whole = paths[0].read_bytes()
        for cache in CACHES:
            paths[cache] = Path(folder, f"{cache}.tflite")
            paths[cache].write_bytes(in_strips(whole, cache, [images[0]]))
        files = {str(cache): open_file(path) for cache, path in paths.items()}
        for each in files.values():
            each.set_tensor(each.get_input_details()[0]["index"], images[:1])
        memory = np.zeros(1 << 24, "float32")
        run = {cache: each.invoke for cache, each in files.items()} | {"copy": memory.copy}
        times = interleaved(run, rounds=ROUNDS)
        for cache, path in paths.items():
            found = keras_parc.inspect(path)
            yield {
                "model": name,
                "side": side,
                "dtype": dtype,
                "cache_kib": cache,
                "operations": sum(found.operations.values()),
                "partitions": found.partitions,
                "outside": sum(found.outside.values()),
                "megabytes": f"{found.size / 1e6:.2f}",
                "peak_mb": f"{peak(flatbuffer.read(path.read_bytes())) / 1e6:.2f}",
                "arena_mb": f"{found.arena / 1e6:.2f}",
                "milliseconds": f"{times[str(cache)]['median_ms']:.2f}",
                "ratio": f"{times[str(cache)]['ratio']:.3f}",
                "copy_64_mb_ms": f"{times['copy']['median_ms']:.2f}",
                "machine": device_name(),
            }


if __name__ == "__main__":
    found = []
    for name, side in track(MODELS.items(), "measuring"):
        for dtype in DTYPES:
            found += rows(name, side, dtype)
    RESULTS.unlink(missing_ok=True)
    add_rows(RESULTS, found)
