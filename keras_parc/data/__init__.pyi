"""The names that editors see, and that `__init__.py` imports at first use."""

from .sets.digit_scenes import DigitScenes as DigitScenes
from .sets.digit_scenes import DigitScenesConfig as DigitScenesConfig
from .sets.scenes import Scene as Scene
from .sets.scenes import SceneConfig as SceneConfig
from .sets.scenes import digit_scene as digit_scene
from .sets.scenes import digit_scenes as digit_scenes
