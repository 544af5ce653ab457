"""The files of a run for the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from keras_parc.lite import to_tflite
from keras_parc.lite.process import conversion_process
from keras_parc.report.run import FORMATS, Run
from keras_parc.tasks.outputs import file_metadata
from keras_parc.tasks.task import find_task
from keras_parc.training.origin import read_origin

CALIBRATION_IMAGES = 200


def export_run(
    run: Run, source, console: Console, folder: Path | None = None, target: str = "litert"
) -> dict[str, Path]:
    """Write the float32 and the int8 file of a finished run, with labels, licence and crop.

    Args:
        run: The run.
        source: Its data set, opened.
        console: Where to print.
        folder: Where to write; None: into the run.
        target: The runtime that they are for, as for `keras_parc.to_tflite`.

    Returns:
        The files by number format.

    Raises:
        OSError: A file cannot be written.
        ValueError: The model cannot be converted.
    """
    recipe, origin = run.recipe, read_origin(run.folder)
    metadata = file_metadata(
        recipe.task,
        labels=run.labels,
        name=run.model.name,
        licence=origin.licence if origin else "",
    )
    images = calibration_of(run, source)
    files = {name: (folder or run.folder) / f"model_{name}.tflite" for name in FORMATS}
    with console.status("Exporting to .tflite"), conversion_process():
        for name, path in files.items():
            to_tflite(
                run.model,
                path,
                quantize=None if name == "float32" else name,
                calibration=images if name == "int8" else None,
                metadata=metadata,
                target=target,
            )
    return files


def calibration_of(run: Run, source) -> list[np.ndarray]:
    """Images of the training set, as the model sees images that it is measured on.

    Args:
        run: The run.
        source: Its data set, opened.

    Returns:
        At most 200 images float32 `(height, width, 3)`, RGB 0..255.

    Raises:
        ValueError: More images are damaged than training would skip.
    """
    from keras_parc.data.skipped import SkippedImages

    task, recipe = find_task(run.recipe.task), run.recipe
    batches = task.data.dataset(
        source,
        recipe.train_split,
        training=False,
        batch=1,
        size=recipe.size,
        skipped=SkippedImages(recipe.skip_limit),
        **task.learner.validation_options(recipe),
    )
    return [images[0] for images, _ in batches.take(CALIBRATION_IMAGES).as_numpy_iterator()]
