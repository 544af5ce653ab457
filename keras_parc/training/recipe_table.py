"""Training runs as data: those that were published, the demonstrations', and fine-tuning.

Where the paper and the authors' code differ, a recipe follows the code. What belongs to one task
alone is in the recipe's `options`.
"""

import dataclasses

from keras_parc.data.augment.settings import (
    PRESETS,
    Augmentation,
    BoxAugmentation,
    MaskAugmentation,
)
from keras_parc.tasks.classification.options import ClassificationOptions
from keras_parc.tasks.detection.options import DetectionOptions
from keras_parc.tasks.segmentation.options import SegmentationOptions
from keras_parc.training.recipe import Recipe

_S = Recipe("parc_net_s_imagenet", "parc_net_s")

# The optimizer, the label smoothing and the shape of the schedule are the paper's; batch, learning
# rate, augmentation and averaging fit a run of minutes.
_DIGITS = Recipe(
    "digit_scenes",
    "parc_net_xs",
    data="digit_scenes/small",
    size=48,
    sizes=(48,),
    batch=32,
    replicas=1,
    epochs=3,
    start_rate=2e-4,
    peak_rate=2e-3,
    end_rate=2e-5,
    warm_up_steps=75,
    cosine_by="step",
    average_best=1,
    mixed_precision="none",
    options=ClassificationOptions(
        # A mirrored digit is no digit.
        augmentation=Augmentation(scale=(0.9, 1.0), ratio=(0.9, 1.1), flip=0.0),
        short_side=48,
    ),
)

_FINE_TUNE = Recipe(
    "fine_tune",
    "efficientnet_lite0",
    weights="imagenet",
    data="",
    size=224,
    sizes=(224,),
    batch=16,
    replicas=1,
    epochs=40,
    freeze_epochs=5,
    freeze_norm=True,
    start_rate=1e-6,
    peak_rate=2e-4,
    end_rate=2e-6,
    head_rate=10.0,
    stage_rate=0.7,
    warm_up_steps=20,
    cosine_by="step",
    weight_decay=0.02,
    decay_all=False,
    average_best=1,
    patience=12,
    mixed_precision="none",
    options=ClassificationOptions(
        augmentation=PRESETS["classification"]["light"],
        short_side=224,  # whole pictures
    ),
)
# What differs where there are no weights to start from.
FROM_NOTHING = {
    "freeze_epochs": 0,
    "freeze_norm": False,
    "head_rate": 1.0,
    "stage_rate": 1.0,
    "start_rate": 1e-5,
    "peak_rate": 2e-3,
    "end_rate": 2e-5,
    "epochs": 100,
    "patience": 30,
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        dataclasses.replace(_S, name="parc_net_xs_imagenet", model="parc_net_xs"),
        _S,
        dataclasses.replace(_S, name="parc_net_h_imagenet", model="parc_net_h", weight_decay=0.05),
        dataclasses.replace(
            _S,
            name="mobilevit_s_imagenet",
            model="mobilevit_s",
            weight_decay=0.01,
            start_rate=2e-4,
            peak_rate=2e-3,
            end_rate=2e-4,
        ),
        _DIGITS,
        Recipe(
            "ssd_parc_net_s_coco",
            "parc_net_s",
            options=DetectionOptions(),
            weights="imagenet",
            data="coco/2017",
            size=320,
            sizes=(320,),
            batch=32,
            replicas=4,
            epochs=200,
            start_rate=9e-5,
            peak_rate=9e-4,
            end_rate=1e-6,
            warm_up_steps=500,
            weight_decay=0.02,
        ),
        dataclasses.replace(
            _DIGITS,
            name="digit_scenes_detection",
            model="parc_net_tiny",
            options=DetectionOptions(
                augmentation=BoxAugmentation(overlaps=(0.0,), distortion=0.0, flip=0.0),
                head="small",
            ),
            data="digit_scenes/detect_small",
            train_split="train[:80%]",
            size=64,
            sizes=(64,),
            batch=16,
        ),
        Recipe(
            "deeplab_v3_parc_net_s_voc",
            "parc_net_s",
            options=SegmentationOptions(),
            head_rate=10.0,
            weights="imagenet",
            data="voc_segmentation/coco",
            size=512,
            sizes=(512,),
            batch=8,
            replicas=4,
            epochs=50,
            start_rate=9e-5,
            peak_rate=9e-4,
            end_rate=1e-6,
            warm_up_steps=500,
            weight_decay=0.01,
        ),
        dataclasses.replace(
            _DIGITS,
            name="digit_scenes_segmentation",
            model="parc_net_tiny",
            options=SegmentationOptions(
                augmentation=MaskAugmentation(scale=(1.0, 1.25), flip=0.0), head="small"
            ),
            data="digit_scenes/segment_small",
            train_split="train[:40%]",
            size=64,
            sizes=(64,),
            batch=8,
            start_rate=4e-4,
            peak_rate=4e-3,
            end_rate=4e-5,
        ),
        # For few images of one's own, from weights that know images: the head first, then all of
        # it, gently. `choosing` fits model, sides, batch and warm-up to the data.
        _FINE_TUNE,
        dataclasses.replace(
            _FINE_TUNE,
            name="fine_tune_detection",
            size=320,
            sizes=(320,),
            # The heads begin with nothing, and boxes need more of the backbone than a class does.
            freeze_epochs=2,
            freeze_norm=False,
            peak_rate=5e-4,
            options=DetectionOptions(augmentation=PRESETS["detection"]["medium"]),
        ),
        dataclasses.replace(
            _FINE_TUNE,
            name="fine_tune_segmentation",
            size=256,
            sizes=(256,),
            freeze_epochs=2,
            peak_rate=5e-4,
            options=SegmentationOptions(augmentation=PRESETS["segmentation"]["light"]),
        ),
    )
}

# For each task the recipe of its demonstration, and settings to see in a minute that all runs.
DEMONSTRATIONS = {
    "classification": "digit_scenes",
    "detection": "digit_scenes_detection",
    "segmentation": "digit_scenes_segmentation",
}
_SHORT = ("epochs=1", "warm_up_steps=1")
QUICK = {
    "classification": (*_SHORT, "model=parc_net_tiny", "data=digit_scenes/tiny"),
    "detection": (*_SHORT, "data=digit_scenes/detect_tiny"),
    "segmentation": (*_SHORT, "data=digit_scenes/detect_tiny"),
}
