"""A small backbone of four stages for tests of fine-tuning, and folders of pictures to learn."""

from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image

from keras_parc.models.registry import register_model

STAGES = ("P2", "P3", "P4", "P5")
CHANNELS = 6


def staged_model(
    input_shape,
    classes=3,
    classifier_activation="softmax",
    include_preprocessing=True,
    include_top=True,
    weights=None,
    channels=CHANNELS,
) -> keras.Model:
    """A convolution and a BatchNorm for each stage, and a classifier."""
    x = image = keras.Input(input_shape)
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescale")(x)
    for number, stage in enumerate(STAGES):
        strides = 2 if number else 4
        x = layers.Conv2D(
            channels, 3, strides=strides, padding="same", use_bias=False, name=f"{stage}_conv"
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{stage}_norm")(x)
        x = layers.ReLU(name=stage)(x)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(
            classes, activation=classifier_activation, dtype="float32", name="predictions"
        )(x)
    model = keras.Model(image, x, name="staged")
    if weights:
        model.load_weights(weights)
    return model


register_model(
    staged_model,
    key="staged",
    listed=False,
    input_size=(32, 32),
    levels={stage: stage for stage in STAGES},
)

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


def pictures(folder: Path, counts: dict[str, int], seed: int = 0, size: int = 32) -> Path:
    """`class/image`: noisy pictures of one colour a class; a name without a colour is grey."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        colour = np.array(COLOURS.get(name, (128, 128, 128)))
        for number in range(count):
            noise = rng.integers(-40, 41, (size, size, 3))
            image = np.clip(colour + noise, 0, 255).astype("uint8")
            Image.fromarray(image).save(folder / name / f"{name}{number:03d}.png")
    return folder
