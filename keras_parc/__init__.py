"""keras_parc: ParC-Net as a Keras 3 model zoo that ends in a fast int8 `.tflite`."""

from keras_parc.layers.parc import ParCH, ParCV, PositionEmbedding
from keras_parc.lite import (
    Metadata,
    Postprocess,
    TFLiteDetector,
    TFLiteModel,
    agreement,
    deploy,
    inspect,
    read_metadata,
    to_tflite,
)
from keras_parc.models.boxes import Anchors, detections
from keras_parc.models.classifier import features
from keras_parc.models.deeplab_v3 import (
    DeepLabV3,
    DeepLabV3ParCNetS,
    low_resolution,
    pixel_cross_entropy,
)
from keras_parc.models.imagenet import decode_predictions, preprocess_input
from keras_parc.models.macs import count_macs
from keras_parc.models.mobilevit import MobileViTS
from keras_parc.models.parc_convnext import ParCConvNeXtXT
from keras_parc.models.parc_mobilenet_v2 import ParCMobileNetV2
from keras_parc.models.parc_net import ParCNetH, ParCNetS, ParCNetXS
from keras_parc.models.parc_resnet import ParCResNet50
from keras_parc.models.parcify import parcify
from keras_parc.models.ssd_lite import SSDLite, SSDParCNetS, ssd_anchors
from keras_parc.models.ssd_losses import ssd_losses, ssd_targets
from keras_parc.visualize import grad_cam
from keras_parc.weights.presets import Preset, list_presets

__version__ = "0.1.0"

__all__ = [
    "Anchors",
    "DeepLabV3",
    "DeepLabV3ParCNetS",
    "Metadata",
    "MobileViTS",
    "ParCConvNeXtXT",
    "ParCH",
    "ParCMobileNetV2",
    "ParCNetH",
    "ParCNetS",
    "ParCNetXS",
    "ParCResNet50",
    "ParCV",
    "PositionEmbedding",
    "Postprocess",
    "Preset",
    "SSDLite",
    "SSDParCNetS",
    "TFLiteDetector",
    "TFLiteModel",
    "agreement",
    "count_macs",
    "decode_predictions",
    "deploy",
    "detections",
    "features",
    "grad_cam",
    "inspect",
    "list_presets",
    "low_resolution",
    "parcify",
    "pixel_cross_entropy",
    "preprocess_input",
    "read_metadata",
    "ssd_anchors",
    "ssd_losses",
    "ssd_targets",
    "to_tflite",
]
