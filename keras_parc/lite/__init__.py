"""From a Keras model to a `.tflite` file, and running such files."""

from keras_parc.lite.convert import to_tflite
from keras_parc.lite.inspection import Inspection, agreement, inspect
from keras_parc.lite.rewriting import deploy
from keras_parc.lite.runtime import TFLiteModel

__all__ = ["Inspection", "TFLiteModel", "agreement", "deploy", "inspect", "to_tflite"]
