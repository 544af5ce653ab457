"""Forms of the convolutions that were slow to train, compared forward and backward.

All forms of one convolution give the same result. The layers use the one named "ours";
`results/forms.csv` beside this file has the times that chose it.
"""

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from keras import ops

from keras_parc.layers import grouped
from keras_parc.layers import parc as layers
from keras_parc.layers.grouped import grouped_conv
from keras_parc.layers.parc import circular_conv
from keras_parc.support.checks import at_least_one
from keras_parc.support.files import add_rows
from keras_parc.support.machine import circumstances
from keras_parc.support.timing import interleaved

Form = Callable[..., object]


def tiled(x, kernel, axis):
    """The paper's form: a depthwise convolution over the input tiled with itself."""
    depthwise = ops.expand_dims(_along(kernel, axis), -1)
    return ops.depthwise_conv(_tiled(x, axis), depthwise, data_format="channels_last")


def split(x, kernel, axis, taps=8):
    """`tiled`, by several kernels of a limited number of taps whose results are added."""
    side, wrapped, total = x.shape[axis], _tiled(x, axis), 0
    for start in range(0, side, taps):
        part = kernel[start : start + taps]
        end = start + side + part.shape[0] - 1
        window = wrapped[:, start:end] if axis == 1 else wrapped[:, :, start:end]
        depthwise = ops.expand_dims(_along(part, axis), -1)
        total = total + ops.depthwise_conv(window, depthwise, data_format="channels_last")
    return total


def fourier(x, kernel, axis):
    """A product of the spectra."""
    order, back = ((0, 3, 2, 1), (0, 3, 2, 1)) if axis == 1 else ((0, 3, 1, 2), (0, 2, 3, 1))
    a, b = ops.rfft(ops.transpose(x, order))
    c, d = (part[:, None] for part in ops.rfft(ops.transpose(kernel)))
    # The kernel is not turned round: its spectrum is conjugated.
    spectrum = (a * c + b * d, b * c - a * d)
    return ops.transpose(ops.irfft(spectrum, fft_length=x.shape[axis]), back)


def einsum(x, kernel, axis):
    """The circulant product of "ours", with the order of the axes left to `einsum`."""
    place = np.arange(x.shape[axis])
    matrix = ops.take(ops.transpose(kernel), (place - place[:, None]) % len(place), axis=1)
    return ops.einsum("cim,bmwc->biwc" if axis == 1 else "cim,bhmc->bhic", matrix, x)


def ours(x, kernel, axis):
    """What `ParCV` and `ParCH` do."""
    return circular_conv(x, kernel, axis, x.shape[axis])


CIRCULAR: dict[str, Form] = {
    "ours": ours,
    "tiled": tiled,
    "split": split,
    "fourier": fourier,
    "einsum": einsum,
}


def _own_grouped(x, kernel):
    return ops.conv(x, kernel, padding="same", data_format="channels_last")


def _own_depthwise(x, kernel):
    kernel = ops.reshape(kernel, (*kernel.shape[:2], x.shape[-1], -1))
    return ops.depthwise_conv(x, kernel, padding="same", data_format="channels_last")


_OURS_GROUPED = functools.partial(grouped_conv, padding="same")
GROUPED: dict[str, Form] = {"ours": _OURS_GROUPED, "keras": _own_grouped}
EXPANDING: dict[str, Form] = {"ours": _OURS_GROUPED, "keras": _own_depthwise}
# Of ParC-Net-S at 256x256: side and width of the maps in its late stages, half the width to a
# circular convolution; the reduction to half the width, and the expansion to it.
STAGES = ((32, 192), (16, 256), (8, 320))


def _tiled(x, axis):
    wrap = x.shape[axis] - 1
    head = x[:, :wrap] if axis == 1 else x[:, :, :wrap]
    return ops.concatenate([x, head], axis=axis)


def _along(kernel, axis):
    return ops.expand_dims(kernel, 1 if axis == 1 else 0)


def cases(batch: int, stages: Sequence[tuple[int, int]] = STAGES):
    """What is compared: name, forms, shape of the map, shape of the kernel."""
    for side, width in stages:
        half = width // 2
        shape = (batch, side, side, half)
        for name, axis in (("ParCV", 1), ("ParCH", 2)):
            forms = {key: functools.partial(f, axis=axis) for key, f in CIRCULAR.items()}
            yield name, forms, shape, (side, half)
        yield "grouped 1x1", GROUPED, (batch, side, side, width), (1, 1, 2, half)
        yield "depthwise 3x3, 2 outputs", EXPANDING, shape, (3, 3, 1, width)


def compare_forms(
    batch: int = 8,
    rounds: int = 5,
    jit: bool = False,
    stages: Sequence[tuple[int, int]] = STAGES,
) -> list[dict[str, str | int | float | bool]]:
    """Time result and gradients of every form, in turn, on the backend Keras runs on.

    Args:
        batch: Images.
        rounds: Timed calls of each, at least 1; one more comes before.
        jit: Whether XLA compiles on TensorFlow. JAX always does.
        stages: `(side, width)` of the maps.

    Returns:
        A row a form: `convolution`, `side`, `channels` in, `form`, `median_ms`, `ratio`, the
        time relative to "ours", and how they came about.

    Raises:
        ValueError: `batch` or `rounds` is out of its range.

    Example:
        >>> compare_forms(1, 1, stages=[(4, 8)])[0]["form"]
        'ours'
    """
    at_least_one(batch=batch, rounds=rounds)
    rows, draw = [], np.random.default_rng(0)
    for name, forms, shape, kernel_shape in cases(batch, stages):
        x, kernel = (draw.normal(size=each).astype("float32") for each in (shape, kernel_shape))
        calls = {
            key: functools.partial(with_gradients(form, jit), x, kernel)
            for key, form in forms.items()
        }
        times = interleaved(calls, rounds=rounds, warm_up=1)
        rows += [
            {
                "convolution": name,
                "side": shape[1],
                "channels": shape[-1],
                "form": key,
                "median_ms": round(each["median_ms"], 3),
                "ratio": round(each["ratio"], 3),
                "batch": batch,
                **circumstances(rounds, jit),
            }
            for key, each in times.items()
        ]
    return rows


@contextlib.contextmanager
def as_in_the_paper() -> Iterator[None]:
    """Within, layers compute in the paper's form and in Keras' own: for comparison.

    Example:
        >>> layer = layers.ParCV(3)
        >>> with as_in_the_paper():
        ...     layer(np.ones((1, 3, 2, 4), "float32")).shape == (1, 3, 2, 4)
        True
    """

    def convolve(x, kernel, axis, side):
        return tiled(x, kernel, axis)

    with (
        mock.patch.object(layers, "circular_conv", convolve),
        mock.patch.object(grouped, "_has_own", return_value=True),
    ):
        yield


def with_gradients(form: Form, jit: bool = False) -> Callable[..., tuple]:
    """A function of a map and a kernel: a form's result, and the gradients of half its square.

    Args:
        form: A function of `x` and `kernel`.
        jit: Whether XLA compiles on TensorFlow.

    Returns:
        A function that returns result, gradient by the map and by the kernel.
    """
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=jit)
        def compiled(x, kernel):
            with tf.GradientTape() as tape:
                tape.watch((x, kernel))
                y = form(x, kernel)
                loss = tf.reduce_sum(y * y) / 2
            return y, *(tf.convert_to_tensor(each) for each in tape.gradient(loss, (x, kernel)))

        return lambda *arrays: compiled(*map(tf.constant, arrays))
    if backend == "jax":
        import jax

        def loss_of(x, kernel):
            y = form(x, kernel)
            return (y * y).sum() / 2, y

        compiled = jax.jit(jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True))

        def run(*arrays):
            (_, y), gradients = jax.block_until_ready(compiled(*arrays))
            return y, *gradients

        return run
    import torch

    def run(*arrays):
        x, kernel = (torch.tensor(each, requires_grad=True) for each in arrays)
        y = form(x, kernel)
        ((y * y).sum() / 2).backward()
        return y.detach(), x.grad, kernel.grad

    return run


def main() -> None:
    """Measure and add the rows to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--jit", action="store_true", help="have XLA compile on TensorFlow")
    parser.add_argument("--csv", type=Path, required=True, help="add the figures to this file")
    args = parser.parse_args()
    rows = compare_forms(args.batch, jit=args.jit)
    add_rows(args.csv, rows)
    for row in rows:
        print(row["convolution"], row["side"], row["form"], row["median_ms"], row["ratio"])


if __name__ == "__main__":
    main()
