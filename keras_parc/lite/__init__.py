"""From a Keras model to a `.tflite` file, and running such files."""

from keras_parc.lite.convert import to_tflite
from keras_parc.lite.detector import Postprocess
from keras_parc.lite.file.inspection import Inspection, agreement, inspect
from keras_parc.lite.file.metadata import Metadata, read_metadata
from keras_parc.lite.file.runtime import TFLiteDetector, TFLiteModel
from keras_parc.lite.rewrite.deploy import deploy

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
