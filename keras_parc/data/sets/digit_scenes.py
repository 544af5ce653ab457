"""Digit scenes as a TensorFlow Datasets builder: `tfds.load("digit_scenes")`."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator

import numpy as np
from PIL import Image

from keras_parc.data.sets.scenes import NUM_CLASSES, SPLITS, VARIANTS, SceneConfig, digit_scene
from keras_parc.support.extras import needs_extra

with needs_extra():
    import tensorflow_datasets as tfds


_DESCRIPTION = """
Real handwritten digits (the 8x8 images of scikit-learn's `load_digits`) at random places, sizes,
rotations and colours on textured backgrounds, with class labels, boxes and segmentation masks.
Made on the spot, without a download; the splits share no digit.
"""

_CITATION = """
@misc{alpaydin1998optical,
  author = {Alpaydin, Ethem and Kaynak, Cenk},
  title  = {Optical Recognition of Handwritten Digits},
  year   = {1998},
  publisher = {UCI Machine Learning Repository},
  doi    = {10.24432/C50P49},
}
"""


@dataclasses.dataclass(eq=False, kw_only=True)
class DigitScenesConfig(tfds.core.BuilderConfig):
    """A `digit_scenes` data set of your own.

    Args:
        name: Name of the configuration. A digest of all other arguments is appended, so that
            different data sets never share a folder.
        scenes: What the scenes look like.
        seed: Seed of the data set, 0 to 2**32 - 1.
        train: Number of train scenes.
        validation: Number of validation scenes.
        test: Number of test scenes.

    Raises:
        ValueError: If a number of scenes is less than 1.

    Example:
        >>> scenes = SceneConfig(image_size=(96, 128), digits=(1, 2), scale=(0.3, 0.6))
        >>> config = DigitScenesConfig(scenes=scenes, train=100, validation=10, test=10)
        >>> builder = tfds.builder("digit_scenes", config=config)
        >>> builder.info.features["image"].shape
        (96, 128, 3)
    """

    name: str = "custom"
    scenes: SceneConfig = VARIANTS["classify"]
    seed: int = 0
    train: int = 4000
    validation: int = 500
    test: int = 1000

    def __post_init__(self):
        for split in SPLITS:
            if getattr(self, split) < 1:
                raise ValueError(
                    f"{split} must be at least 1 scene, got {getattr(self, split)}. To read fewer "
                    "splits, name them in tfds.load(split=...)."
                )
        if self.name not in VARIANTS:
            counts = [int(getattr(self, split)) for split in SPLITS]
            parameters = [dataclasses.asdict(self.scenes), int(self.seed), counts]
            digest = hashlib.sha256(json.dumps(parameters).encode()).hexdigest()[:10]
            self.name = f"{self.name.removesuffix('_' + digest)}_{digest}"


class DigitScenes(tfds.core.GeneratorBasedBuilder):
    """The `digit_scenes` data set; importing `keras_parc.data` registers it.

    Configurations: `classify` (default; 64x64, one digit; 4000 train, 500 validation and 1000 test
    scenes), `detect` and `segment` (128x128, one to four digits; 2000, 250 and 500 scenes). What
    demonstrations learn: `small` (48x48, one digit; 8000, 250 and 1000 scenes), `detect_small`
    (64x64, one to three digits; 8000, 250 and 500 scenes), `segment_small` (64x64, one or two large
    digits; as many). To try things out: `tiny` (48x48, one digit; 320, 80 and 100 scenes) and
    `detect_tiny` (64x64, one to three digits; as many). Or a `DigitScenesConfig`.

    Each example has `image` uint8 (height, width, 3), `label` (the largest digit), `objects` with
    `bbox` (ymin, xmin, ymax, xmax, relative) and `label`, and `segmentation_mask` uint8
    (height, width, 1), 0 for background and d + 1 for digit d. Example number i is
    `digit_scene(i, split, ...)`.

    Example:
        >>> import keras_parc.data
        >>> tfds.builder("digit_scenes/detect").info.features["image"].shape
        (128, 128, 3)
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS' own form)
        DigitScenesConfig(name="classify", description="One digit."),
        DigitScenesConfig(
            name="detect",
            description="One to four digits of very different sizes.",
            scenes=VARIANTS["detect"],
            train=2000,
            validation=250,
            test=500,
        ),
        DigitScenesConfig(
            name="detect_small",
            description="One to three digits, small images, many of them.",
            scenes=VARIANTS["detect_small"],
            train=8000,
            validation=250,
            test=500,
        ),
        DigitScenesConfig(
            name="detect_tiny",
            description="One to three digits, a handful of small images.",
            scenes=VARIANTS["detect_tiny"],
            train=320,
            validation=80,
            test=100,
        ),
        DigitScenesConfig(
            name="segment",
            description="One to four large digits.",
            scenes=VARIANTS["segment"],
            train=2000,
            validation=250,
            test=500,
        ),
        DigitScenesConfig(
            name="segment_small",
            description="One or two digits with wide strokes, small images, many of them.",
            scenes=VARIANTS["segment_small"],
            train=8000,
            validation=250,
            test=500,
        ),
        DigitScenesConfig(
            name="small",
            description="One digit, small images, many of them.",
            scenes=VARIANTS["small"],
            train=8000,
            validation=250,
            test=1000,
        ),
        DigitScenesConfig(
            name="tiny",
            description="One digit, a handful of small images.",
            scenes=VARIANTS["tiny"],
            train=320,
            validation=80,
            test=100,
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        height, width = self.builder_config.scenes.image_size
        digit = tfds.features.ClassLabel(num_classes=NUM_CLASSES)
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="https://archive.ics.uci.edu/dataset/80",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(height, width, 3)),
                    "label": digit,
                    "objects": tfds.features.Sequence(
                        {"bbox": tfds.features.BBoxFeature(), "label": digit}
                    ),
                    "segmentation_mask": tfds.features.Image(
                        shape=(height, width, 1), use_colormap=True
                    ),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # the scenes are random already; keeps example i at place i
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        for index in range(getattr(config, split)):
            scene = digit_scene(index, split, config.scenes, config.seed)
            yield (
                index,
                {
                    "image": _png(scene.image),
                    "label": scene.label,
                    "objects": [
                        {"bbox": tfds.features.BBox(*map(float, box)), "label": label}
                        for box, label in zip(scene.boxes, scene.labels, strict=True)
                    ],
                    "segmentation_mask": _png(scene.mask),
                },
            )


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    # TFDS' own encoder takes three to five times as long, for files smaller by a fifth.
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()
