"""From a Keras model to a `.tflite` file, and running such files."""

from keras_parc.lite.convert import to_tflite
from keras_parc.lite.runtime import TFLiteModel

__all__ = ["TFLiteModel", "to_tflite"]
