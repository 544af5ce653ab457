"""Quantization-aware fine-tuning: weights that make up for the rounding of int8.

No labels are needed: the float file is the teacher (knowledge distillation), the calibration
images are the data.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from rich.console import Console

from keras_parc.lite import int8
from keras_parc.lite.fake_quantized import FakeQuantized
from keras_parc.lite.intermediate import Intermediate
from keras_parc.lite.ranges import choose_ranges
from keras_parc.training.progress import ProgressBar

LEAST_IMAGES = 10
HELD_OUT = 5  # Every so many-th image judges and is not trained on.
BATCH = 16
LEARNING_RATE = 1e-4  # At the start; it falls to zero along a cosine.


@dataclass(frozen=True)
class FineTuned:
    """What `fine_tune` brought, measured on int8 files over images not trained on."""

    content: bytes  # the float32 file to quantize: with new weights, or as it was
    kept: bool  # whether the new weights are in it
    images: int  # held out
    same_class: tuple[float, float]  # before and after, 0 to 1, of all rows of outputs
    signal_to_noise_db: tuple[float, float]

    def __str__(self) -> str:
        (first, last), (low, high) = self.same_class, self.signal_to_noise_db
        return (
            f"fine-tuning {'kept' if self.kept else 'brought nothing and is left out'}: on "
            f"{self.images} images held out, int8 agrees with float on {100 * first:.1f} % before "
            f"and {100 * last:.1f} % after, signal to noise {low:.1f} and {high:.1f} dB"
        )


def fine_tune(
    content: bytes,
    images: Sequence[np.ndarray],
    steps: int,
    method: str = "mse_seen",
    seed: int = 0,
    console: Console | None = None,
) -> FineTuned:
    """Train the weights of a float32 file so that its int8 file follows it better.

    The model trained rounds as int8 will (`FakeQuantized`); its loss is the squared difference
    from the outputs of the float file, relative to their variance. Then both files are quantized
    and run on images held out, and the new weights are kept only if they are better: more signal
    to noise and no less agreement.

    Args:
        content: The bytes of a float32 file over one image.
        images: Calibration images `(height, width, channels)`, as the model takes them, 10 or
            more; one in five is held out.
        steps: Optimizer steps of 16 images, at least 1; 200 to 500 are enough.
        method: How ranges are chosen; see `choose_ranges`.
        seed: Of the order of the images. The same seed on the same machine gives the same bytes.
        console: Where to show progress; default: standard error.

    Returns:
        A `FineTuned`.

    Raises:
        ValueError: Fewer images or steps, or the file has an operation that cannot be trained.

    Example:
        >>> import keras_parc, pathlib, tempfile
        >>> model = keras_parc.ParCNetXS(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> images = np.random.default_rng(0).random((10, 32, 32, 3), "float32")
        >>> fine_tune(pathlib.Path(path).read_bytes(), images, steps=1).images
        2
    """
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1, got {steps}.")
    if len(images) < LEAST_IMAGES:
        raise ValueError(
            f"Fine-tuning needs at least {LEAST_IMAGES} calibration images, better several "
            f"hundred; got {len(images)}."
        )
    console = console or Console(stderr=True)
    images = np.asarray(images, "float32")
    held = np.arange(len(images)) % HELD_OUT == HELD_OUT - 1
    training, judging = images[~held], images[held]
    student = FakeQuantized(content, choose_ranges(Intermediate(content), training, method))
    _train(student, FakeQuantized(content), training, steps, seed, console)
    tuned, exact = student.as_file(), _outputs(content, judging)
    coarse = [int8.quantize(each, training, method=method) for each in (content, tuned)]
    same, decibels = zip(
        *(_compared(exact, _outputs(each, judging)) for each in coarse), strict=True
    )
    kept = decibels[1] > decibels[0] and same[1] >= same[0]
    result = FineTuned(tuned if kept else content, kept, len(judging), same, decibels)
    console.print(str(result), soft_wrap=True, highlight=False)
    return result


def _train(student, teacher, images: np.ndarray, steps: int, seed: int, console) -> None:
    targets = teacher.predict(images, batch_size=BATCH, verbose=0)
    # One value of one output weighs as much as another, whatever their units.
    weights = 1 / np.sqrt(np.maximum(targets.var(0), 1e-6 * targets.var() + 1e-30))
    batch = min(BATCH, len(images))
    student.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        lambda expected, found: keras.ops.mean(keras.ops.square((found - expected) * weights)),
    )
    student.fit(
        _batches(images, targets, batch, np.random.default_rng(seed)),
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[ProgressBar(batch, console)],
    )


def _batches(images, targets, batch: int, rng) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches without end; every image once before any comes again."""
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            yield images[chosen], targets[chosen]


def _outputs(content: bytes, images: np.ndarray) -> list[np.ndarray]:
    """Each output of a file over all images."""
    file, found = Intermediate(content), []
    for image in images:
        file.run(image)
        found.append([file.value(tensor) for tensor in file.outputs])
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def _compared(exact: list[np.ndarray], found: list[np.ndarray]) -> tuple[float, float]:
    """Share of rows with the same largest value; signal to noise in dB over all outputs."""
    pairs = list(zip(exact, found, strict=True))
    same = np.concatenate([np.ravel(a.argmax(-1) == b.argmax(-1)) for a, b in pairs])
    noise = sum(np.square(a - b).mean() / max(np.square(a).mean(), 1e-30) for a, b in pairs)
    return float(same.mean()), float(-10 * np.log10(max(noise / len(pairs), 1e-30)))
