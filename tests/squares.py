"""A detector of bright and dark squares, learned in seconds; images with squares."""

import functools
import json

import keras
import numpy as np
from keras import ops
from shared import made_once

import keras_parc

SIDE = 64
LABELS = ["dark", "bright"]
METADATA = keras_parc.Metadata(task="detection", labels=LABELS)


def scenes(count, seed):
    """Grey images 0..255 with one bright or dark square; every eighth with none."""
    rng = np.random.default_rng(seed)
    images = np.clip(rng.normal(128, 13, (count, SIDE, SIDE, 3)), 0, 255).round().astype("float32")
    boxes, labels = [], []
    for number, image in enumerate(images):
        side, label = rng.integers(16, 32), rng.integers(2)
        y, x = rng.integers(0, SIDE - side, 2)
        if number % 8:
            image[y : y + side, x : x + side] = 255 * label
        boxes.append(np.float32([[y, x, y + side, x + side]])[: number % 8] / SIDE)
        labels.append([label][: number % 8])
    return images, boxes, labels


def new_detector(classes=2):
    """Not trained; RGB 0..255."""
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 128, -1)(image)
    for number, width in enumerate((16, 32, 64), 1):
        x = keras.layers.Conv2D(width, 3, 2, "same", activation="relu", name=f"map{number}")(x)
    coarser = keras.layers.Conv2D(64, 3, 2, "same", activation="relu", name="map4")(x)
    return keras_parc.SSDLite(
        keras.Model(image, coarser),
        classes=classes,
        feature_names=("map3", "map4"),
        projections=(32, 32),
        extra_channels=(32,),
        anchors=keras_parc.Anchors(((2,),) * 3, smallest=0.25, largest=0.8),
    )


@functools.cache
def detector():
    """A trained one, and its losses by epoch; one process of the session trains it."""
    folder, model = made_once("detector", _train), new_detector()
    model.load_weights(folder / "model.weights.h5")
    return model, json.loads((folder / "losses.json").read_text())


def _train(folder):
    keras.utils.set_random_seed(0)
    model = new_detector()
    losses = keras_parc.ssd_losses(model)
    # XLA pays on JAX alone, which else runs operation by operation.
    jit_compile = keras.config.backend() == "jax"
    model.compile(keras.optimizers.Adam(3e-3), loss=losses, jit_compile=jit_compile)
    images, boxes, labels = scenes(256, seed=0)
    objects = keras_parc.ssd_targets(boxes, labels, classes=2, max_boxes=3)
    targets = {"boxes": objects, "scores": objects}
    history = model.fit(images, targets, batch_size=32, epochs=20, verbose=0).history["loss"]
    model.save_weights(folder / "model.weights.h5")
    (folder / "losses.json").write_text(json.dumps(history))


def overlap(found, expected) -> np.ndarray:
    """IoU of two lists of boxes, one by one."""
    if not len(found):
        return np.zeros(0)
    iou = keras.utils.bounding_boxes.compute_iou(found, expected, "yxyx")
    return np.diagonal(ops.convert_to_numpy(iou))


def paired(found, expected, least=0.6):
    """The confident detections that two sides made of the same images.

    Returns:
        For each confident one of `expected` the IoU with the nearest of its class in `found`, and
        the difference of their scores.
    """
    overlaps, differences = [], []
    for ours, theirs in zip(found, expected, strict=True):
        for box, score, label in zip(
            *(theirs[k] for k in ("boxes", "scores", "labels")), strict=True
        ):
            if score < least:
                continue
            same = ours["labels"] == label
            others = ours["boxes"][same]
            ious = overlap(others, np.repeat(box[None], len(others), 0))
            overlaps.append(ious.max(initial=0))
            differences.append(abs(ours["scores"][same][ious.argmax()] - score) if len(ious) else 1)
    return np.array(overlaps), np.array(differences)
