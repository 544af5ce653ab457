"""The golden data: weights by formula, inputs, and the names of the recorded features."""

import json
import math
import re
import zlib
from pathlib import Path

import keras
import numpy as np

from keras_parc.weights import names, names_convnets

FOLDER = Path(__file__).parent / "golden"
TOLERANCE = 1e-4


def name_map(name):
    """The name map of golden data of this name."""
    maps = {
        "mobilevit": names.mobilevit,
        "parc_resnet": names_convnets.resnet,
        "parc_mobilenet": names_convnets.mobilenet,
        "parc_convnext": names_convnets.convnext,
        "ssd": names.ssd_parc_net,
        "deeplabv3": names.deeplab_v3_parc_net,
    }
    return next((maps[start] for start in maps if name.startswith(start)), names.parc_net)


def error(ours, theirs) -> float:
    """max|a - b| / max|b|."""
    ours, theirs = np.asarray(ours, "float64"), np.asarray(theirs, "float64")
    assert ours.shape == theirs.shape, f"shape {ours.shape}, expected {theirs.shape}"
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))


def _gain(name):
    if "meta_kernel" in name or "bk_conv" in name or "gcc_conv" in name:
        return 0.2 if name.startswith("encoder.") else 0.4
    if "red_1x1" in name or "ffn.4." in name or "pwconv2" in name:
        return 0.5
    return 0.25 if name.endswith("conv3.weight") else 1.0


def tensor(name, shape):
    """The golden weight of a name of the authors' state dict."""
    rng = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    last, shape = name.split(".")[-1], tuple(shape)
    if last == "num_batches_tracked":
        return np.zeros(shape, "int64")
    if last == "running_mean":
        value = 0.1 * rng.standard_normal(shape)
    elif last == "running_var":
        value = 1.0 + 0.5 * rng.uniform(-1.0, 1.0, shape)
    elif last == "pe" or last.startswith("meta_pe"):
        value = 0.5 * rng.standard_normal(shape)
    elif last == "gamma":
        value = 0.5 + 0.2 * rng.uniform(-1.0, 1.0, shape)
    elif last == "bias":
        value = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        value = 1.0 + 0.2 * rng.uniform(-1.0, 1.0, shape)
    else:
        fan_in = math.prod(shape[1:])
        value = rng.standard_normal(shape) * (_gain(name) * math.sqrt(2.0 / fan_in))
    return value.astype("float32")


def manifest(name):
    return json.loads((FOLDER / f"{name}.manifest.json").read_text())


def state_dict(name, prefix=""):
    """The golden state dict of a manifest; `prefix` is put before every name afterwards."""
    state = {}
    for key, shape in manifest(name):
        source = re.sub(r"(^|\.)residual\.", r"\1layer_5.0.", key)
        state[prefix + key] = tensor(source, shape)
    return state


def image(size, channels=3, seed=0):
    """The golden input, two images, channels last."""
    x = np.random.RandomState(seed).standard_normal((2, channels, size, size)).astype("float32")
    return x.transpose(0, 2, 3, 1)


def outputs(name):
    return np.load(FOLDER / f"{name}.npz")


def recorded_features(name, size):
    return [path for path, _ in json.loads((FOLDER / f"{name}.features.json").read_text())[size]]


_FEATURES = [
    (r"conv_1", "stem_act"),
    (r"conv_1x1_exp", "head_expand_act"),
    (r"classifier\.global_pool", "head_pool"),
    (r"layer_([345])\.1", r"stage\1_fusion_act"),
    (r"layer_(\d)\.(\d)", r"stage\1_ir\2+1_"),
    (r"layer_(\d)\.1\.(?:dim_adaptive\.0|local_rep\.conv_3x3)", r"stage\1_local_act"),
    (r"layer_(\d)\.1\.(?:dim_adaptive\.1|local_rep\.conv_1x1)", r"stage\1_local_pointwise"),
    (r"layer_(\d)\.1\.(?:channel_adaptive|conv_proj)", r"stage\1_reduce_act"),
    (r"layer_(\d)\.1\.spatial_global_rep\.(\d)\.pre_Norm_1", r"stage\1_block\2+1_v1_bn"),
    (r"layer_(\d)\.1\.spatial_global_rep\.(\d)\.pre_Norm_2", r"stage\1_block\2+1_h1_bn"),
    (r"layer_(\d)\.1\.spatial_global_rep\.(\d)\.ffn", r"stage\1_block\2+1_ffn_dropout"),
    (r"layer_(\d)\.1\.spatial_global_rep\.(\d)\.ca", r"stage\1_block\2+1_attention_scale"),
    (r"layer_(\d)\.1\.spatial_global_rep\.(\d)", r"stage\1_block\2+1_ffn_add"),
    # DeepLabV3
    (r"seg_head\.aspp\.aspp_layer\.convs\.4", "aspp_pool_spread"),
    (r"seg_head\.aspp\.aspp_layer\.convs\.(\d)", r"aspp\1+1_act"),
    (r"seg_head\.aspp\.aspp_layer\.project", "aspp_project_act"),
    (r"seg_head\.aspp", "aspp_dropout"),
    (r"seg_head\.classifier\.classifier", "segmentation_logits"),
    # ParC-ResNet50
    (r"maxpool", "stem_pool"),
    (r"layer(\d)\.(\d)", r"stage\1+1_block\2+1_act"),
    (r"avgpool", "head_pool"),
    # ParC-MobileNetV2
    (r"features\.0", "stem_act"),
    (r"features\.18", "head_expand_act"),
    *(
        (rf"features\.{number}", f"stage{stage}_ir{block}_")
        for number, (stage, block) in enumerate(
            [(s, b + 1) for s, n in enumerate((1, 2, 3, 7, 4), 1) for b in range(n)], 1
        )
    ),
    # ParC-ConvNeXt-XT
    (r"downsample_layers\.0", "stem_ln"),
    (r"downsample_layers\.(\d)", r"stage\1+2_downsample_conv"),
    (r"stages\.(\d)\.(\d)", r"stage\1+2_block\2+1_add"),
    (r"norm", "head_ln"),
]


def feature_layer(model: keras.Model, path: str) -> str:
    """The layer of our model whose output the authors' module `path` records."""
    names = {layer.name for layer in model.layers}
    path = path.removeprefix("encoder.")
    for pattern, template in _FEATURES:
        match = re.fullmatch(pattern, path)
        if not match:
            continue
        name = re.sub(r"(\d)\+(\d)", lambda m: str(int(m[1]) + int(m[2])), match.expand(template))
        if name.endswith("_"):  # an inverted residual ends in its residual, if it has one
            name += "add" if f"{name}add" in names else "project_bn"
        if name not in names:  # the module after the last block is the frame's normalization
            name = re.sub(r"block\d+_ffn_add", "global_bn", name)
        return name
    raise KeyError(path)


def sample(feature, size=4):
    """The stored sample of a feature map (or vector) in the authors' layout."""
    feature = np.asarray(feature)
    feature = feature[:, None, None, :] if feature.ndim == 2 else feature
    _, height, width, channels = feature.shape
    rows = [(i * height) // size for i in range(size)]
    columns = [(j * width) // size for j in range(size)]
    picked = feature[:, rows][:, :, columns][..., :8].transpose(0, 3, 1, 2)
    return np.pad(picked, ((0, 0), (0, max(0, 8 - channels)), (0, 0), (0, 0)))
