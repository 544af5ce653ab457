"""How fast `keras-parc check` reads photographs, beside decoding alone; how long a report takes.

`python -m experiments.reading_rates --csv FILE` writes 10,000 JPEGs of 640x480 into a temporary
folder, 800 MB. Leave the machine alone meanwhile.
"""

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import keras_parc
from keras_parc.data.scan import scan
from keras_parc.data.sources import open_source
from keras_parc.support.files import add_rows
from keras_parc.support.machine import device_name

IMAGES, ROUNDS = 10_000, 5
REPORTED = 1_000  # images of the validation split of the report
SIDES = 640, 480
DIFFERENT = 50  # pictures; beyond, files differ in a comment alone, which costs no decoder any time


def photographs(folder: Path, count: int, classes: int = 2) -> None:
    """Write JPEGs of about the size that photographs have, in a folder for each class."""
    generator, encoded = np.random.default_rng(0), []
    for _ in range(DIFFERENT):
        coarse = generator.uniform(0, 255, (15, 20, 3)).astype("uint8")
        smooth = np.asarray(Image.fromarray(coarse).resize(SIDES, Image.Resampling.BICUBIC))
        noisy = np.clip(smooth + generator.normal(0, 8, smooth.shape), 0, 255).astype("uint8")
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "JPEG", quality=90)
        encoded.append(stream.getvalue())
    for number in range(count):
        path = folder / f"class{number % classes}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        data, comment = encoded[number % DIFFERENT], b"%08d" % number
        path.write_bytes(data[:2] + b"\xff\xfe\x00\x0a" + comment + data[2:])


def decode(paths: list[str]) -> None:
    """Decode all files and do nothing with the pixels."""
    import tensorflow as tf

    def side(path):
        return tf.shape(tf.image.decode_jpeg(tf.io.read_file(path), 3))[0]

    data = tf.data.Dataset.from_tensor_slices(paths).map(side, num_parallel_calls=tf.data.AUTOTUNE)
    for _ in data.batch(64):
        pass


def copy() -> None:
    """Copy a gigabyte: what the machine's memory gives at the moment."""
    np.zeros(1 << 27).copy()


def measured(functions: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[np.ndarray]]:
    """Seconds of the clock and of the processors, round by round, the functions taking turns."""
    found = {name: [] for name in functions}
    for turn in range(rounds + 1):  # The first only warms up.
        for name, function in functions.items():
            before = _seconds()
            function()
            if turn:
                found[name].append(_seconds() - before)
    return found


def _seconds() -> np.ndarray:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])


def reading_rows(folder: Path, images: int, rounds: int) -> list[dict]:
    """Rows of `check` and of decoding alone on `images` JPEGs."""
    photographs(folder, images)
    builder = open_source(str(folder))
    paths = [str(path) for split in builder.paths.values() for path in split]
    reading = {"decoding alone": lambda: decode(paths), "check": lambda: _check(builder, images)}
    found = measured({**reading, "copy of 1 GiB": copy}, rounds)
    # The least of all rounds: what else the machine does, for others too, only adds to it.
    least = {name: np.min(seconds, 0) for name, seconds in found.items()}
    rows = []
    for name, (clock, processors) in least.items():
        ratio = least["decoding alone"] / least[name]
        rows.append(
            {
                "what": name,
                "images": images if name in reading else "",
                "seconds": f"{clock:.2f}",
                "processor_seconds": f"{processors:.2f}",
                "rate_to_decoding": f"{ratio[0]:.3f}" if name in reading else "",
                "rate_by_processors": f"{ratio[1]:.3f}" if name in reading else "",
                "rounds": rounds,
                "device": device_name(),
            }
        )
    return rows


def _check(builder, images: int) -> None:
    if scan(builder, "classification").images != images:
        raise RuntimeError("check left images out, so that its rate says nothing.")


def report_row(folder: Path, images: int) -> dict:
    """A row of the report of a run, whose validation split has `images` JPEGs."""
    photographs(folder / "set" / "validation", images)
    photographs(folder / "set" / "train", 64)
    run = keras_parc.train(
        folder / "set", folder / "run", model="efficientnet_lite0", weights="none", epochs=1
    )
    if run.report["images"] != images:
        raise RuntimeError(f"The report is of {run.report['images']} images, not of {images}.")
    seconds = {name: "" for name in ("processor_seconds", "rate_to_decoding", "rate_by_processors")}
    about = {"what": "report", "images": images, "seconds": f"{run.report['seconds']:.2f}"}
    return {**about, **seconds, "rounds": 1, "device": device_name()}


def main() -> None:
    """Measure and add the rows to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, required=True, help="add the figures to this file")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"({IMAGES})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"({ROUNDS})")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = reading_rows(Path(folder) / "photos", args.images, args.rounds)
        rows.append(report_row(Path(folder), min(REPORTED, args.images)))
    add_rows(args.csv, rows)
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items() if value != ""))


if __name__ == "__main__":
    main()
