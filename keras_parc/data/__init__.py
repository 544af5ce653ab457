"""Data sets. Importing this registers `digit_scenes` with TensorFlow Datasets."""

from keras_parc.data.digit_scenes_dataset import DigitScenes, DigitScenesConfig
from keras_parc.data.scenes import Scene, SceneConfig, digit_scene, digit_scenes

__all__ = [
    "DigitScenes",
    "DigitScenesConfig",
    "Scene",
    "SceneConfig",
    "digit_scene",
    "digit_scenes",
]
