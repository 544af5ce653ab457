"""keras_parc: ParC-Net as a Keras 3 model zoo that ends in a fast int8 `.tflite`."""

from keras_parc.classification import features
from keras_parc.imagenet import decode_predictions, preprocess_input
from keras_parc.layers import ParCH, ParCV, PositionEmbedding
from keras_parc.lite import (
    Metadata,
    TFLiteModel,
    agreement,
    deploy,
    inspect,
    read_metadata,
    to_tflite,
)
from keras_parc.macs import count_macs
from keras_parc.mobilevit import MobileViTS
from keras_parc.parc_net import ParCNetH, ParCNetS, ParCNetXS
from keras_parc.weights.presets import Preset, list_presets

__version__ = "0.1.0"

__all__ = [
    "Metadata",
    "MobileViTS",
    "ParCH",
    "ParCNetH",
    "ParCNetS",
    "ParCNetXS",
    "ParCV",
    "PositionEmbedding",
    "Preset",
    "TFLiteModel",
    "agreement",
    "count_macs",
    "decode_predictions",
    "deploy",
    "features",
    "inspect",
    "list_presets",
    "preprocess_input",
    "read_metadata",
    "to_tflite",
]
