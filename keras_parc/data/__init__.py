"""Data sets. Importing this registers `digit_scenes` with TensorFlow Datasets."""

from keras_parc.data.sets.digit_scenes import DigitScenes, DigitScenesConfig
from keras_parc.data.sets.scenes import Scene, SceneConfig, digit_scene, digit_scenes

__all__ = [
    "DigitScenes",
    "DigitScenesConfig",
    "Scene",
    "SceneConfig",
    "digit_scene",
    "digit_scenes",
]
