"""A segmenter of bright and dark squares, learned in seconds."""

import functools

import keras
import numpy as np
from shared import made_once

import keras_parc
from keras_parc.layers.blocks import conv_norm_act
from keras_parc.layers.parc import ParCH, ParCV
from keras_parc.models.losses import pixel_cross_entropy
from squares import SIDE, scenes

LABELS = ["background", "dark", "bright"]
METADATA = keras_parc.Metadata(task="segmentation", activation="softmax", labels=LABELS)


def images_and_masks(count, seed):
    """Images 0..255, and the class of every pixel."""
    images, boxes, labels = scenes(count, seed)
    masks = np.zeros(images.shape[:3], "int32")
    for mask, of_image, label in zip(masks, boxes, labels, strict=True):
        for (top, left, bottom, right), number in zip(SIDE * of_image, label, strict=True):
            mask[round(top) : round(bottom), round(left) : round(right)] = 1 + number
    return images, masks


def backbone(side=SIDE):
    """Stages of a few channels, registered below; the last has a global view."""
    image = keras.Input((side, side, 3))
    x = keras.layers.Rescaling(1 / 128, -1)(image)
    x = conv_norm_act(x, 8, 3, 2, name="stem")
    for stage, width in ((2, 12), (3, 16), (4, 16), (5, 24)):
        x = conv_norm_act(x, width, 3, 2, name=f"stage{stage}")
    x = ParCH(8, name="stage5_h1")(ParCV(8, name="stage5_v1")(x))
    return keras.Model(image, conv_norm_act(x, 24, name="stage5_fusion"))


LEVELS = {f"P{stage}": f"stage{stage}_act" for stage in (2, 3, 4)} | {"P5": "stage5_fusion_act"}
keras_parc.register_model(backbone, key="squares_backbone", levels=LEVELS, listed=False)


def new_segmenter():
    """Not trained, of output stride 8; of its rates, one sees past a map of 8 x 8."""
    return keras_parc.DeepLabV3(backbone(), classes=3, output_stride=8, rates=(2, 6, 12), width=32)


@functools.cache
def segmenter():
    """A trained one; one process of the session trains it."""
    folder, model = made_once("segmenter", _train), new_segmenter()
    model.load_weights(folder / "model.weights.h5")
    return model


def _train(folder):
    keras.utils.set_random_seed(0)
    model = new_segmenter()
    model.compile(keras.optimizers.Adam(4e-3), loss=pixel_cross_entropy(), jit_compile=False)
    images, masks = images_and_masks(256, seed=0)
    model.fit(images, masks, batch_size=32, epochs=12, verbose=0)
    model.save_weights(folder / "model.weights.h5")
