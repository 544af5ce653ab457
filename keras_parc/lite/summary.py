"""An export that shows progress, and tables about the file."""

import tempfile
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from keras_parc.lite.convert import to_tflite
from keras_parc.lite.detector import is_detector
from keras_parc.lite.exported import Closeness, ExportedFile
from keras_parc.lite.file.inspection import agreement, inspect
from keras_parc.lite.file.metadata import Metadata
from keras_parc.lite.process import conversion_process
from keras_parc.lite.quantize.calibration import calibration_images
from keras_parc.lite.quantize.explain import explain, noise_table, write_noise
from keras_parc.lite.rewrite.signature import model_inputs

COMPARED = 100  # How many calibration images the file is compared with Keras on.


def export_with_summary(
    model: keras.Model,
    path: Path,
    *,
    quantize: str | None = None,
    calibration=None,
    input_size: tuple[int, int] | None = None,
    io: str | None = None,
    target: str = "litert",
    metadata: Metadata | None = None,
    explain_csv: Path | None = None,
    input_range: str | None = None,
    strict: bool = False,
    input_shape: Any = None,
    cache_kib: int | None = None,
    console: Console | None = None,
) -> list[Table]:
    """Call `to_tflite`, then inspect the file and compare it with the model.

    Args:
        model: As for `to_tflite`.
        path: As for `to_tflite`.
        quantize: As for `to_tflite`.
        calibration: As for `to_tflite`; without int8, they only serve the comparison.
        input_size: As for `to_tflite`.
        io: As for `to_tflite`.
        target: As for `to_tflite`.
        metadata: As for `to_tflite`.
        explain_csv: For "int8": the file to write the noise of each operation to.
        input_range: As for `to_tflite`.
        strict: As for `to_tflite`.
        input_shape: As for `to_tflite`.
        cache_kib: As for `to_tflite`.
        console: Where to show progress; default: standard output.

    Returns:
        The summary, and with `explain_csv` the noisiest operations.

    Raises:
        ValueError: As `to_tflite`, or `explain_csv` without int8.
    """
    if explain_csv is not None and quantize != "int8":
        raise ValueError(
            "`explain_csv` explains the noise of int8 files: pass `quantize='int8'` too."
        )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console or Console()) as progress,
        conversion_process() as process,
    ):
        process.start()
        step = progress.add_task("reading images", total=4)
        images = None
        if calibration is not None:
            inputs = model_inputs(model, input_size, input_shape)
            images = calibration_images(calibration, inputs, model, input_range=input_range)
        progress.update(step, advance=1, description="converting")
        exported = to_tflite(
            model,
            path,
            input_size,
            quantize,
            images if quantize == "int8" else None,
            io,
            target=target,
            metadata=metadata,
            input_range=input_range,
            strict=strict,
            input_shape=input_shape,
            cache_kib=cache_kib,
        )
        progress.update(step, advance=1, description="comparing with Keras")
        facts = {"file": str(path), **_inspected(path)}
        if exported.closeness is not None:
            facts |= _close(exported.closeness)
        elif images and not is_detector(model):
            facts |= _compared(model, path, images[:COMPARED])
        progress.update(step, advance=1, description="explaining" if explain_csv else "done")
        tables = [_table(facts)]
        if explain_csv is not None:
            tables.append(_explained(exported, images, explain_csv))
        progress.update(step, advance=1, description="done")
    return tables


def _inspected(path: Path) -> dict[str, str]:
    found = inspect(path)
    return {
        "size": f"{found.size / 1e6:.2f} MB",
        "input": f"{found.input_shape} {found.input_dtype}",
        "operations": _counts(found.operations),
        "XNNPACK partitions": str(found.partitions),
        "operations outside": _counts(found.outside) or "none",
        "memory for results": f"{found.arena / 1e6:.2f} MB",
        "smallest runtime": f"TensorFlow Lite {found.smallest_runtime or 'unknown'}",
    }


def _compared(model, path, images) -> dict[str, str]:
    same = agreement(model, path, images)
    return {
        f"same class as Keras, {len(images)} images": f"{100 * same.same_class:.1f} %",
        "signal to noise of the output": f"{same.signal_to_noise_db:.1f} dB",
    }


def _close(closeness: Closeness) -> dict[str, str]:
    held_out = " held out" if closeness.held_out else ""
    which = f"{closeness.images} calibration images{held_out}"
    return {
        f"same class as in float32, {which}": f"{100 * closeness.same_class:.1f} %",
        "signal to noise of the output": f"{closeness.signal_to_noise_db:.1f} dB",
    }


def _explained(exported: ExportedFile, images, csv) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "float.tflite"), Path(folder, "int8.tflite")
        for path, content in zip(paths, (exported.reference, exported.whole), strict=True):
            path.write_bytes(content)
        rows = explain(*paths, images[:COMPARED])
    write_noise(rows, csv)
    return noise_table(rows)


def _counts(operations: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in operations.items())


def _table(facts: dict[str, str]) -> Table:
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, value)
    return table
