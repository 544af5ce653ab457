"""Quantization-aware fine-tuning: biases that make up for the rounding of int8.

No labels are needed: the float file is the teacher (knowledge distillation), the calibration
images are the data.

Only biases are trained. The loss is nearly all rounding noise, which moves the weights away from
where training has put them: with a trained MobileViT-S, Adam at a learning rate of 1e-5 gained
nothing, and at 3e-5 lost nearly 5 dB, even on the images it was trained on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from rich.console import Console

from keras_parc.lite.quantize import int8
from keras_parc.lite.quantize.calibration import MAX_IMAGES as CALIBRATED
from keras_parc.lite.quantize.fake_quantized import FakeQuantized
from keras_parc.lite.quantize.ranges import DEFAULT, choose_ranges
from keras_parc.lite.quantize.traced_file import TracedFile
from keras_parc.support.progress import ProgressBar

MIN_IMAGES = 1000  # Of fewer, too few would be held out to decide by.
MAX_IMAGES = 4096
HELD_OUT = 8  # One image in eight is held out: not trained on, but compared on.
PASSES = 2
BATCH = 32
LEARNING_RATE = 1e-3  # The peak, after a tenth of the steps; then it falls to zero.
MIN_GAIN_DB = 0.3  # A smaller gain may be chance.


@dataclass(frozen=True)
class FineTuned:
    """The result of `fine_tune`; measured are int8 files, on images not trained on."""

    content: bytes  # the float32 file to quantize, with the new biases if they are kept
    calibration: list[np.ndarray]  # the images to quantize it with
    kept: bool  # whether the new biases are kept
    held_out: int  # how many images were held out
    same_class: tuple[float, float]  # before and after, 0 to 1: rows with float's largest value
    signal_to_noise_db: tuple[float, float]  # before and after

    def __str__(self) -> str:
        (first, last), (low, high) = self.same_class, self.signal_to_noise_db
        return (
            f"fine-tuning {'kept' if self.kept else 'gained nothing and is left out'}: on "
            f"{self.held_out} images held out, int8 agrees with float on {100 * first:.1f} % "
            f"before and {100 * last:.1f} % after, signal to noise {low:.1f} and {high:.1f} dB"
        )


def fine_tune(
    content: bytes,
    images: Sequence[np.ndarray],
    method: str = DEFAULT,
    seed: int = 0,
    console: Console | None = None,
) -> FineTuned:
    """Train the biases of a float32 file so that its int8 file follows it better.

    The model trained rounds as int8 will (`FakeQuantized`); its loss is the squared difference
    from the outputs of the float file, relative to their variance. Then both files are quantized,
    with ranges chosen anew, and run on the images held out. The new biases are kept only if they
    raise the signal-to-noise ratio there by 0.3 dB and do not lower the agreement.

    Args:
        content: The bytes of a float32 file over one image.
        images: `(height, width, channels)` each, as the model takes them, 1000 or more, better
            4096 (3.2 GB at 256x256), from the training data. One in eight is held out, the others
            are trained on twice.
        method: How ranges are chosen; see `choose_ranges`.
        seed: For the order of the images. The same seed on the same machine gives the same bytes.
        console: Where to show progress; default: standard error.

    Returns:
        A `FineTuned`.

    Raises:
        ValueError: Fewer than 1000 images, or the file has an operation that `FakeQuantized` does
            not know.

    Example:
        >>> import keras, keras_parc, tempfile
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> images = np.random.default_rng(0).random((1000, 8, 8, 3), "float32")
        >>> fine_tune(path.read_bytes(), images).held_out
        125
    """
    if len(images) < MIN_IMAGES:
        raise ValueError(
            f"Fine-tuning needs at least {MIN_IMAGES} calibration images, better {MAX_IMAGES}; "
            f"got {len(images)}."
        )
    console = console or Console(stderr=True)
    held_out = images[HELD_OUT - 1 :: HELD_OUT]
    training = [image for place, image in enumerate(images, 1) if place % HELD_OUT]
    # Ranges need fewer images, evenly spaced: a folder is read class by class.
    calibration = training[:: -(-len(training) // CALIBRATED)]
    student = FakeQuantized(content, choose_ranges(TracedFile(content), calibration, method))
    _train(student, FakeQuantized(content), training, seed, console)
    tuned, exact = student.as_file(), _outputs(content, held_out)
    coarse = [int8.quantize(each, calibration, method=method) for each in (content, tuned)]
    same, decibels = zip(
        *(_compared(exact, _outputs(each, held_out)) for each in coarse), strict=True
    )
    kept = decibels[1] >= decibels[0] + MIN_GAIN_DB and same[1] >= same[0]
    result = FineTuned(tuned if kept else content, calibration, kept, len(held_out), same, decibels)
    console.print(str(result), soft_wrap=True, highlight=False)
    return result


def _train(student, teacher, images: list[np.ndarray], seed: int, console) -> None:
    for variable in student.trainable_variables:
        variable.trainable = variable.ndim == 1
    starts = range(0, len(images), BATCH)
    targets = np.concatenate(
        [teacher.predict_on_batch(np.stack(images[i : i + BATCH])) for i in starts]
    )
    # Every value of every output weighs the same, whatever its unit.
    weights = 1 / np.sqrt(np.maximum(targets.var(0), 1e-6 * targets.var() + 1e-30))
    steps = len(images) // BATCH
    warm_up = PASSES * steps // 10
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, PASSES * steps - warm_up, warmup_target=LEARNING_RATE, warmup_steps=warm_up
    )
    student.compile(
        keras.optimizers.Adam(rate),
        lambda expected, found: keras.ops.mean(keras.ops.square((found - expected) * weights)),
        jit_compile=False,
    )
    with ProgressBar(PASSES * steps, console) as bar:
        bar.begin([(images[0].shape[0], BATCH)] * steps, done=0)
        student.fit(
            _batches(images, targets, np.random.default_rng(seed)),
            epochs=PASSES,
            steps_per_epoch=steps,
            shuffle=False,  # `_batches` shuffles.
            verbose=0,
            callbacks=[bar],
        )


def _batches(images, targets, rng) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless batches; no image comes twice in one pass."""
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield np.stack([images[each] for each in chosen]), targets[chosen]


def _outputs(content: bytes, images: np.ndarray) -> list[np.ndarray]:
    """Each output of a file, for all images."""
    file, found = TracedFile(content), []
    for image in images:
        file.run(image)
        found.append([file.value(tensor) for tensor in file.outputs])
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def _compared(exact: list[np.ndarray], found: list[np.ndarray]) -> tuple[float, float]:
    """Fraction of rows with the same largest value, and signal to noise of all outputs in dB."""
    pairs = list(zip(exact, found, strict=True))
    same = np.concatenate([np.ravel(a.argmax(-1) == b.argmax(-1)) for a, b in pairs])
    noise = sum(np.square(a - b).mean() / max(np.square(a).mean(), 1e-30) for a, b in pairs)
    return float(same.mean()), float(-10 * np.log10(max(noise / len(pairs), 1e-30)))
