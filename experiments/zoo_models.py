"""The models of others that the export is tried on, as data: see `experiments.export_zoo`.

Weights are random, and nothing is downloaded. Classifiers return logits: probabilities of random
weights are all alike, and say nothing of an int8 file.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import keras
import numpy as np

from experiments import zoo_tutorials as tutorials
from experiments.random_weights import as_if_trained, settle

PIXELS = (0.0, 255.0)
SIGNED = (-1.0, 1.0)
UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class ZooModel:
    """One model.

    Args:
        name: Of the row.
        source: Where it is from: "keras.applications", "kimm", "KerasHub" or "keras.io".
        make: Builds it.
        limits: The least and the largest value it takes.
        needs: The package it is in, if that is no dependency of ours.
    """

    name: str
    source: str
    make: Callable[[], keras.Model] = field(repr=False)
    limits: tuple[float, float] = PIXELS
    needs: str = "keras"

    @property
    def key(self) -> str:
        return f"{self.source}/{self.name}"

    @property
    def installed(self) -> bool:
        """Whether the package that it is in is there."""
        return importlib.util.find_spec(self.needs) is not None

    def build(self) -> keras.Model:
        """The model with random weights, the same ones every time, that fit its inputs."""
        keras.utils.set_random_seed(0)
        model = self.make()
        as_if_trained(model)
        settle(model, self.inputs(model, 8, seed=0))
        return model

    def inputs(self, model: keras.Model, count: int, seed: int) -> list[np.ndarray]:
        """Random smooth images for each of its inputs, `(count, ...)`."""
        generator = np.random.default_rng(seed)
        return [_smooth(generator, (count, *each.shape[1:]), self.limits) for each in model.inputs]


def _smooth(generator, shape: tuple[int, ...], limits: tuple[float, float]) -> np.ndarray:
    """Noise of a few waves a side: white noise is all the same to a convolution."""
    values = np.zeros(shape)
    for _ in range(6):
        wave = np.ones(shape[:1] + (1,) * (len(shape) - 2) + shape[-1:])
        for axis, side in enumerate(shape[1:-1], start=1):
            size = [shape[0], *[1] * (len(shape) - 2), shape[-1]]
            rates, phases = generator.uniform(0, 8, size), generator.uniform(0, 1, size)
            place = np.linspace(0, 1, side).reshape(
                [-1 if i == axis else 1 for i in range(len(shape))]
            )
            wave = wave * np.cos(2 * np.pi * (rates * place + phases))
        values += wave
    low, high = limits
    unit = np.clip(0.5 + 0.2 * (values + generator.normal(0, 0.2, shape)), 0, 1)
    return (low + (high - low) * unit).astype("float32")


def _application(name: str, side: int = 224) -> keras.Model:
    build = getattr(keras.applications, name)
    return build(weights=None, input_shape=(side, side, 3), classifier_activation=None)


def _kimm(name: str, side: int = 224) -> keras.Model:
    build = getattr(importlib.import_module("kimm").models, name)
    return build(weights=None, input_shape=(side, side, 3), classifier_activation="linear")


def _hub(name: str, **settings) -> keras.Model:
    return getattr(importlib.import_module("keras_hub").models, name)(**settings)


# All of keras.applications up to 30 million parameters.
APPLICATIONS = {
    **dict.fromkeys(
        [
            "MobileNet",
            "MobileNetV2",
            "NASNetMobile",
            "DenseNet121",
            "DenseNet169",
            "DenseNet201",
            "InceptionV3",
            "ResNet50",
            "ResNet50V2",
            "Xception",
        ],
        SIGNED,
    ),
    **dict.fromkeys(
        [
            "MobileNetV3Small",
            "MobileNetV3Large",
            "EfficientNetB0",
            "EfficientNetB1",
            "EfficientNetB2",
            "EfficientNetB3",
            "EfficientNetB4",
            "EfficientNetV2B0",
            "EfficientNetV2B1",
            "EfficientNetV2B2",
            "EfficientNetV2B3",
            "EfficientNetV2S",
            "ConvNeXtTiny",
        ],
        PIXELS,
    ),
}
KIMM = [
    "MobileViTS",
    "MobileViTV2W100",
    "LCNet100",
    "EfficientNetLiteB0",
    "GhostNetW100",
    "GhostNetV2W100",
    "GhostNetV3W100",
    "MobileNetV2W100",
    "MobileNetV3W100Small",
    "ConvMixer736D32",
    "ConvNeXtAtto",
    "HGNetV2B0",
    "InceptionNeXtTiny",
    "MobileOneS0",
    "RegNetY004",
    "RepVGGA0",
    "ResNet18",
    "TinyNetA",
    "VisionTransformerTiny16",
]
_SQUARE = {"image_shape": (224, 224, 3)}
HUB = {
    "ViT Tiny": (
        "ViTBackbone",
        {"patch_size": 16, "num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768},
    ),
    "DeiT Tiny": (
        "DeiTBackbone",
        {
            "patch_size": 16,
            "num_layers": 12,
            "num_heads": 3,
            "hidden_dim": 192,
            "intermediate_dim": 768,
        },
    ),
    "MiT B0": (
        "MiTBackbone",
        {
            "layerwise_depths": [2, 2, 2, 2],
            "num_layers": 4,
            "layerwise_num_heads": [1, 2, 5, 8],
            "layerwise_sr_ratios": [8, 4, 2, 1],
            "max_drop_path_rate": 0.1,
            "layerwise_patch_sizes": [7, 3, 3, 3],
            "layerwise_strides": [4, 2, 2, 2],
            "hidden_dims": [32, 64, 160, 256],
        },
    ),
    "ResNet18": (
        "ResNetBackbone",
        {
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [7],
            "stackwise_num_filters": [64, 128, 256, 512],
            "stackwise_num_blocks": [2, 2, 2, 2],
            "stackwise_num_strides": [1, 2, 2, 2],
            "block_type": "basic_block",
        },
    ),
    "ResNet50-vd": (
        "ResNetBackbone",
        {
            "input_conv_filters": [32, 32, 64],
            "input_conv_kernel_sizes": [3, 3, 3],
            "stackwise_num_filters": [64, 128, 256, 512],
            "stackwise_num_blocks": [3, 4, 6, 3],
            "stackwise_num_strides": [1, 2, 2, 2],
            "block_type": "bottleneck_block_vd",
        },
    ),
    "MobileNetV3 Small": (
        "MobileNetBackbone",
        {
            "stackwise_expansion": [[16], [72, 88], [96, 240, 240], [120, 144], [288, 576, 576]],
            "stackwise_num_blocks": [1, 2, 3, 2, 3],
            "stackwise_num_filters": [[16], [24, 24], [40, 40, 40], [48, 48], [96, 96, 96]],
            "stackwise_kernel_size": [[3], [3, 3], [5, 5, 5], [5, 5], [5, 5, 5]],
            "stackwise_num_strides": [[2], [2, 1], [2, 1, 1], [1, 1], [2, 1, 1]],
            "stackwise_se_ratio": [[0.25], [None] * 2, [0.25] * 3, [0.25] * 2, [0.25] * 3],
            "stackwise_activation": [
                ["relu"],
                ["relu"] * 2,
                ["hard_swish"] * 3,
                ["hard_swish"] * 2,
                ["hard_swish"] * 3,
            ],
            "stackwise_padding": [[1], [1, 1], [2, 2, 2], [2, 2], [2, 2, 2]],
            "output_num_filters": 1024,
            "depthwise_filters": 16,
            "depthwise_stride": 1,
            "depthwise_residual": False,
            "last_layer_filter": 576,
            "squeeze_and_excite": 0.25,
        },
    ),
}
TUTORIALS = {
    "transfer learning": (tutorials.transfer_learning, PIXELS),
    "fine-tuned EfficientNet": (tutorials.fine_tuned_efficientnet, PIXELS),
    "classification from scratch": (tutorials.from_scratch, PIXELS),
    "U-Net": (tutorials.unet, UNIT),
    "U-Net like Xception": (tutorials.unet_xception, UNIT),
    "DeepLabV3+": (tutorials.deeplab_v3_plus, SIGNED),
    "MobileViT": (tutorials.mobilevit, PIXELS),
    "ViT": (tutorials.vit, PIXELS),
    "CCT": (tutorials.cct, PIXELS),
    "captioning encoder": (tutorials.captioning_encoder, PIXELS),
    "CRNN": (tutorials.crnn, UNIT),
    "Siamese": (tutorials.siamese, UNIT),
    "CT scan": (tutorials.ct_scan, UNIT),
    "super-resolution": (tutorials.super_resolution, UNIT),
    "autoencoder": (tutorials.autoencoder, UNIT),
    "ConvMixer": (tutorials.conv_mixer, PIXELS),
    "MLP-Mixer": (tutorials.mlp_mixer, UNIT),
}

MODELS = (
    *(
        ZooModel(name, "keras.applications", partial(_application, name), limits)
        for name, limits in APPLICATIONS.items()
    ),
    *(ZooModel(name, "kimm", partial(_kimm, name), PIXELS, "kimm") for name in KIMM),
    *(
        ZooModel(name, "KerasHub", partial(_hub, kind, **settings, **_SQUARE), UNIT, "keras_hub")
        for name, (kind, settings) in HUB.items()
    ),
    *(ZooModel(name, "keras.io", make, limits) for name, (make, limits) in TUTORIALS.items()),
)
