"""Name maps of the three ConvNets with ParC and of EfficientNet-Lite, see `weights.names`.

Here the authors write `parc_H` or `gcc_H` for what runs along the height, the paper's ParC-V.
"""

import functools
import re
from collections.abc import Callable

import keras

from keras_parc.weights.names import VARIABLES, NameMap, variable_name

_RESNET_BLOCK = {  # stageN_blockM_... -> layer(N - 1).(M - 1). ...
    "reduce_conv": "conv1",
    "reduce_bn": "bn1",
    "spatial_conv": "conv2",
    "spatial_bn": "bn2",
    "parc_v": "parc_H",
    "parc_h": "parc_W",
    "parc_bn": "bn2",
    "expand_conv": "conv3",
    "expand_bn": "bn3",
    "shortcut_conv": "downsample.0",
    "shortcut_bn": "downsample.1",
}
_MOBILENET_BLOCK = {  # the I-th stageN_irM_... -> features.I. ...
    "expand_conv": "conv.0.0",
    "expand_bn": "conv.0.1",
    "depthwise_conv": "conv.1.0",
    "depthwise_bn": "conv.1.1",
    "project_conv": "conv.2",
    "project_bn": "conv.3",
}
_MOBILENET_FIRST = {  # without an expansion
    "depthwise_conv": "conv.0.0",
    "depthwise_bn": "conv.0.1",
    "project_conv": "conv.1",
    "project_bn": "conv.2",
}
_MOBILENET_PARC = {
    "expand_conv": "pw_expand.0",
    "expand_bn": "pw_expand.1",
    "parc_v": "gcc_H",
    "parc_h": "gcc_W",
    "depthwise_bn": "bn",
    "project_conv": "pw_linear.0",
    "project_bn": "pw_linear.1",
}
_EFFICIENTNET_BLOCK = {  # the I-th stageN_irM_... -> _blocks.I. ...
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_CONVNEXT_BLOCK = {  # stageN_blockM_... -> stages.(N - 2).(M - 1). ...
    "depthwise": "dwconv",
    "parc_v": "gcc_H",
    "parc_h": "gcc_W",
    "ln": "norm",
    "expand": "pwconv1",
    "project": "pwconv2",
    "scale": "",
}
_RESNET = {"stem_conv": "conv1", "stem_bn": "bn1", "predictions": "fc"}
_MOBILENET = {
    "stem_conv": "features.0.0",
    "stem_bn": "features.0.1",
    "head_expand_conv": "features.18.0",
    "head_expand_bn": "features.18.1",
    "predictions": "classifier.1",
}
_EFFICIENTNET = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "head_expand_conv": "_conv_head",
    "head_expand_bn": "_bn1",
    "predictions": "_fc",
}
_CONVNEXT = {
    "stem_conv": "downsample_layers.0.0",
    "stem_ln": "downsample_layers.0.1",
    "head_ln": "norm",
    "predictions": "head",
}
_PARC_VARIABLES = {
    "base_position": "pe",
    "base_kernel": "gcc_conv.weight",
    "bias": "gcc_conv.bias",
}


def _resnet(model: keras.Model, name: str) -> str:
    if name in _RESNET:
        return _RESNET[name]
    stage, block, part = re.fullmatch(r"stage(\d)_block(\d)_(.+)", name).groups()
    return f"layer{int(stage) - 1}.{int(block) - 1}.{_RESNET_BLOCK[part]}"


def _mobilenet(model: keras.Model, name: str) -> str:
    if name in _MOBILENET:
        return _MOBILENET[name]
    block, part = re.fullmatch(r"(stage\d_ir\d)_(.+)", name).groups()
    blocks = _blocks(model)
    parts = _MOBILENET_FIRST if block == blocks[0] else _MOBILENET_BLOCK
    if any(layer.name == f"{block}_parc_v" for layer in model.layers):
        parts = _MOBILENET_PARC
    return f"features.{blocks.index(block) + 1}.{parts[part]}"


def _efficientnet(model: keras.Model, name: str) -> str:
    if name in _EFFICIENTNET:
        return _EFFICIENTNET[name]
    block, part = re.fullmatch(r"(stage\d_ir\d)_(.+)", name).groups()
    return f"_blocks.{_blocks(model).index(block)}.{_EFFICIENTNET_BLOCK[part]}"


def _blocks(model: keras.Model) -> list[str]:
    """The prefixes of the inverted residuals, in order."""
    found = (re.match(r"stage\d_ir\d(?=_)", layer.name) for layer in model.layers)
    return list(dict.fromkeys(match[0] for match in found if match))


def _convnext(model: keras.Model, name: str) -> str:
    if name in _CONVNEXT:
        return _CONVNEXT[name]
    between = re.fullmatch(r"stage(\d)_downsample_(ln|conv)", name)
    if between:
        return f"downsample_layers.{int(between[1]) - 2}.{('ln', 'conv').index(between[2])}"
    stage, block, part = re.fullmatch(r"stage(\d)_block(\d)_(.+)", name).groups()
    return f"stages.{int(stage) - 2}.{int(block) - 1}.{_CONVNEXT_BLOCK[part]}"


def _tensor_name(module_of: Callable[[keras.Model, str], str], model, layer, variable) -> str:
    """A `NameMap`, once the module of a layer is given."""
    module, own = module_of(model, layer.name), variable_name(variable)
    if layer.name.endswith("_scale"):
        return f"{module}{own}"
    parc = layer.name.endswith(("_parc_v", "_parc_h"))
    return f"{module}.{(_PARC_VARIABLES if parc else VARIABLES)[own]}"


resnet: NameMap = functools.partial(_tensor_name, _resnet)
mobilenet: NameMap = functools.partial(_tensor_name, _mobilenet)
efficientnet_lite: NameMap = functools.partial(_tensor_name, _efficientnet)
convnext: NameMap = functools.partial(_tensor_name, _convnext)
