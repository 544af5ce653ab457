"""From a Keras model to a `.tflite` file, and running such files."""

from keras_parc.lite.convert import to_tflite
from keras_parc.lite.detector import Postprocess
from keras_parc.lite.inspection import Inspection, agreement, inspect
from keras_parc.lite.metadata import Metadata, read_metadata
from keras_parc.lite.rewriting import deploy
from keras_parc.lite.runtime import TFLiteDetector, TFLiteModel

__all__ = [
    "Inspection",
    "Metadata",
    "Postprocess",
    "TFLiteDetector",
    "TFLiteModel",
    "agreement",
    "deploy",
    "inspect",
    "read_metadata",
    "to_tflite",
]
