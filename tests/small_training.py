"""A training run of seconds: a small ParC model on made-up images.

As a command, for the tests that need processes of their own; each compares what it leaves behind:

- `kills FOLDER SEED N` trains in FOLDER/whole, and in FOLDER/killed with N kills at random points.
- `devices FOLDER` trains in FOLDER/one on one device, and in FOLDER/two on two virtual ones.
- `host FOLDER NUMBER PORT` is one of two hosts that train in FOLDER.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_parc
from keras_parc.models.registry import register_model
from keras_parc.tasks.classification.options import ClassificationOptions
from keras_parc.training.recipes import Recipe

EXAMPLES, CLASSES = 64, 4
DROPOUT = 0.2


def small_model(
    input_shape, classes, classifier_activation="softmax", include_preprocessing=True
) -> keras.Model:
    """Convolution, BatchNorm, both ParC layers, dropout and a classifier."""
    image = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(8, 3, strides=4, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = keras_parc.ParCV(8)(x)
    x = layers.Activation("silu")(keras_parc.ParCH(8)(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(DROPOUT)(x)
    x = layers.Dense(classes, activation=classifier_activation, dtype="float32")(x)
    return keras.Model(image, x, name="small")


register_model(small_model, key="small", listed=False)

RECIPE = Recipe(
    "small_run",
    "small",
    ClassificationOptions(short_side=32),
    size=32,
    sizes=(32, 40),
    batch=8,
    replicas=1,
    epochs=4,
    start_rate=1e-3,
    peak_rate=1e-2,
    end_rate=1e-4,
    warm_up_steps=3,
    ema_momentum=0.9,
    average_best=2,
    mixed_precision="none",
    seed=3,
)


def images_of(labels, size, rng):
    """Noise, brighter in the quarter that the label names."""
    images = rng.uniform(0, 128, (len(labels), size, size, 3)).astype("float32")
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        top, left = label // 2 * half, label % 2 * half
        image[top : top + half, left : left + half] += 100
    return images


def batches_of(epoch, plan, start, shard=(0, 1)):
    """Batches that are a function of epoch and step; `shard` takes its part of each."""
    import tensorflow as tf

    def batches():
        for step, (size, images) in enumerate(plan[start:], start):
            rng = np.random.default_rng([epoch, step])
            labels = rng.integers(CLASSES, size=images)
            own = slice(shard[0], None, shard[1])
            yield images_of(labels, size, rng)[own], labels[own]

    shapes = (tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(batches, output_signature=shapes)


def validation(size=32):
    """Twenty images: the last batch is not full."""
    import tensorflow as tf

    rng = np.random.default_rng(99)
    labels = rng.integers(CLASSES, size=20)
    images = images_of(labels, size, rng)
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)


def run(folder, recipe=RECIPE, **options):
    """`fit` on this data."""
    from rich.console import Console

    from keras_parc.training.distribute import ONE_DEVICE
    from keras_parc.training.fit import fit

    devices = options.get("devices", ONE_DEVICE)
    devices.connect()

    def training(epoch, plan, start):
        return batches_of(epoch, plan, start, (devices.host, devices.hosts))

    options = {"checkpoint_steps": 3, "console": Console(quiet=True)} | options
    data = options.pop("training", training)
    return fit(recipe, data, validation(), folder, examples=EXAMPLES, classes=CLASSES, **options)


def _die_at(event: int):
    """SIGKILL this process at an event: a step, or the start, middle or end of a file's writing."""
    import keras_parc.training.fit as fitting

    count = [0]
    savez, replace, step = np.savez, os.replace, fitting._Run.on_train_batch_end

    def tick(kind):
        count[0] += 1
        if count[0] == event:
            print("killed:", kind, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    def savez_in_two(file, **arrays):
        import io

        memory = io.BytesIO()
        savez(memory, **arrays)
        data = memory.getvalue()
        file.write(data[: len(data) // 2])
        file.flush()
        tick("in the middle of a checkpoint")
        file.write(data[len(data) // 2 :])

    def replace_between(*arguments):
        tick(f"before renaming {Path(arguments[1]).name}")
        replace(*arguments)
        tick(f"after renaming {Path(arguments[1]).name}")

    def step_and_tick(self, *arguments, **keywords):
        step(self, *arguments, **keywords)
        tick("after a step")

    np.savez, os.replace, fitting._Run.on_train_batch_end = (
        savez_in_two,
        replace_between,
        step_and_tick,
    )


def _child(work) -> int:
    """Run `work` in a fork, made before TensorFlow starts its threads; return the wait status."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return process


def kills(folder: Path, seed: int, number: int):
    import tensorflow  # noqa: F401 (once, for all children)

    draw = random.Random(seed)

    def killed(event):
        _die_at(event)
        run(folder / "killed")

    assert os.waitpid(_child(lambda: run(folder / "whole")), 0)[1] == 0
    count = 0
    for _ in range(number):
        event = draw.randint(1, 12)
        count += os.waitpid(_child(lambda event=event: killed(event)), 0)[1] == signal.SIGKILL
    for _ in range(number // 5):  # from outside, whatever it is doing
        process = _child(lambda: run(folder / "killed"))
        time.sleep(draw.uniform(0.5, 2.5))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    print("kills:", count)
    assert os.waitpid(_child(lambda: run(folder / "killed")), 0)[1] == 0


def devices(folder: Path):
    """Dropout draws other masks when the batch is divided, so the comparison leaves it out."""
    global DROPOUT
    DROPOUT = 0.0
    from keras_parc.training.distribute import Devices

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    run(folder / "one")
    model = run(folder / "two", devices=Devices(2))
    images = images_of(np.arange(4), 32, np.random.default_rng(7))
    np.savez(folder / "predictions.npz", images=images, scores=model.predict(images, verbose=0))


def host(folder: Path, number: int, port: int):
    global DROPOUT
    DROPOUT = 0.0
    from keras_parc.training.distribute import Devices

    run(folder, devices=Devices(hosts=2, host=number, coordinator=f"127.0.0.1:{port}"))


def rows(folder):
    with open(folder / "history.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def start(folder, *arguments, backend="tensorflow", **environment):
    """One of the commands of small_training.py in a process of its own."""
    path = os.pathsep.join(
        [str(Path(keras_parc.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    command, *rest = arguments
    return subprocess.Popen(
        [sys.executable, __file__, command, folder, *map(str, rest)],
        env={**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": backend, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


if __name__ == "__main__":
    command = {"kills": kills, "devices": devices, "host": host}[sys.argv[1]]
    command(Path(sys.argv[2]), *map(int, sys.argv[3:]))
