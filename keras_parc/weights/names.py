"""The name map between the layers of this package and the authors' PyTorch state dict.

The authors' names are the code names of their repository ("meta_kernel", "spatial_global_rep");
their `H` runs along the height and is the paper's ParC-V. Read: layer name here -> name there.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Mapping

import keras
import numpy as np

_MODEL = {
    "stem_conv": "conv_1.block.conv",
    "stem_bn": "conv_1.block.norm",
    "head_expand_conv": "conv_1x1_exp.block.conv",
    "head_expand_bn": "conv_1x1_exp.block.norm",
    "predictions": "classifier.fc",
}
_INVERTED_RESIDUAL = {  # stageN_irM_... -> layer_N.(M - 1).block. ...
    "expand_conv": "exp_1x1.block.conv",
    "expand_bn": "exp_1x1.block.norm",
    "depthwise_conv": "conv_3x3.block.conv",
    "depthwise_bn": "conv_3x3.block.norm",
    "project_conv": "red_1x1.block.conv",
    "project_bn": "red_1x1.block.norm",
}
_PARC_FRAME = {  # stageN_... -> layer_N.1. ...
    "local_conv": "dim_adaptive.0.block.conv",
    "local_bn": "dim_adaptive.0.block.norm",
    "local_pointwise": "dim_adaptive.1.block.conv",
    "global_bn": "spatial_global_rep.{blocks}",
    "reduce_conv": "channel_adaptive.block.conv",
    "reduce_bn": "channel_adaptive.block.norm",
    "fusion_conv": "local_global_fusion.block.conv",
    "fusion_bn": "local_global_fusion.block.norm",
}
_PARC_BLOCK = {  # stageN_blockM_... -> layer_N.1.spatial_global_rep.(M - 1). ...
    "v1_position": "meta_pe_1_H",
    "h1_position": "meta_pe_1_W",
    "v1_bn": "pre_Norm_1",
    "h1_bn": "pre_Norm_2",
    "v1": "{kind}_1_H",
    "h1": "{kind}_1_W",
    "h2": "{kind}_2_W",
    "v2": "{kind}_2_H",
    "ffn_bn": "ffn.0",
    "ffn_expand": "ffn.1",
    "ffn_project": "ffn.4",
    "attention_squeeze_conv": "ca.fc.0",
    "attention_squeeze_bn": "ca.fc.1",
    "attention_excite_conv": "ca.fc.3",
    "attention_excite_bn": "ca.fc.4",
}
_VIT_FRAME = {
    "local_conv": "local_rep.conv_3x3.block.conv",
    "local_bn": "local_rep.conv_3x3.block.norm",
    "local_pointwise": "local_rep.conv_1x1.block.conv",
    "global_ln": "global_rep.{blocks}",
    "reduce_conv": "conv_proj.block.conv",
    "reduce_bn": "conv_proj.block.norm",
    "fusion_conv": "fusion.block.conv",
    "fusion_bn": "fusion.block.norm",
}
_VIT_BLOCK = {  # stageN_blockM_... -> layer_N.1.global_rep.(M - 1). ...
    "attention_ln": "pre_norm_mha.0",
    "attention": "pre_norm_mha.1",
    "ffn_ln": "pre_norm_ffn.0",
    "ffn_expand": "pre_norm_ffn.1",
    "ffn_project": "pre_norm_ffn.4",
}


def _conv_norm(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}_conv": f"{theirs}.block.conv", f"{ours}_bn": f"{theirs}.block.norm"}


def _ssd_lite() -> dict[str, str]:
    """Extra feature maps and heads; the heads of the last map and of the others differ."""
    modules = {}
    for index, stride in enumerate((64, 128, 256)):
        for ours, theirs in (("depthwise", "dw_conv"), ("pointwise", "pw_conv")):
            name = f"extra_layers.os_{stride}.{theirs}"
            modules |= _conv_norm(f"extra{index + 1}_{ours}", name)
    modules["extra4_pointwise_conv"] = "extra_layers.os_-1.1.block.conv"
    for index in range(2):
        modules |= _conv_norm(f"head{index + 1}_project", f"ssd_heads.{index}.proj_layer")
    for index in range(5):
        layer = f"ssd_heads.{index}.loc_cls_layer"
        modules |= _conv_norm(f"head{index + 1}_depthwise", f"{layer}.dw_conv")
        modules |= _boxes_and_scores(index + 1, f"{layer}.pw_conv.block.conv")
    return modules | _boxes_and_scores(6, "ssd_heads.5.loc_cls_layer.block.conv")


def _boxes_and_scores(head: int, theirs: str) -> dict[str, str]:
    """The two convolutions that the authors' one is split into; see `converted`."""
    return {f"head{head}_boxes": theirs, f"head{head}_scores": theirs}


def _deeplab_v3() -> dict[str, str]:
    """Atrous spatial pyramid pooling: 1x1, three rates, the pooled branch, the projection."""
    aspp, modules = "seg_head.aspp.aspp_layer", {}
    for index in range(4):
        modules |= _conv_norm(f"aspp{index + 1}", f"{aspp}.convs.{index}")
    modules |= _conv_norm("aspp_pool", f"{aspp}.convs.4.aspp_pool.conv_1x1")
    modules |= _conv_norm("aspp_project", f"{aspp}.project")
    return modules | {"segmentation_logits": "seg_head.classifier.classifier.block.conv"}


# Layers of a detector and of a segmenter, whose backbone the authors keep under "encoder.".
SSD_LITE, DEEPLAB_V3 = _ssd_lite(), _deeplab_v3()

VARIABLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _staged(model: keras.Model, layer_name: str, frame: dict, blocks: dict, body: str) -> str:
    """The authors' module name of a layer, in a family of stages, frames and blocks."""
    if layer_name in _MODEL:
        return _MODEL[layer_name]
    stage, part = re.fullmatch(r"stage(\d)_(.+)", layer_name).groups()
    residual = re.fullmatch(r"ir(\d)_(.+)", part)
    if residual:
        index = int(residual[1]) - 1
        return f"layer_{stage}.{index}.block.{_INVERTED_RESIDUAL[residual[2]]}"
    block = re.fullmatch(r"block(\d+)_(.+)", part)
    if block:
        return f"layer_{stage}.1.{body}.{int(block[1]) - 1}.{blocks[block[2]]}"
    found = (re.match(rf"stage{stage}_block(\d+)_", layer.name) for layer in model.layers)
    return f"layer_{stage}.1.{frame[part]}".format(blocks=max(int(m[1]) for m in found if m))


def _parc_net(model: keras.Model, layer_name: str) -> str:
    return _staged(model, layer_name, _PARC_FRAME, _PARC_BLOCK, "spatial_global_rep")


def _mobilevit(model: keras.Model, layer_name: str) -> str:
    return _staged(model, layer_name, _VIT_FRAME, _VIT_BLOCK, "global_rep")


# A function of a model, one of its layers and one of the layer's variables: the name of the tensor
# in the authors' state dict. It raises AttributeError or KeyError for a layer without counterpart.
NameMap = Callable[[keras.Model, keras.layers.Layer, keras.Variable], str]


def variable_name(variable: keras.Variable) -> str:
    """The name of a variable within its layer, such as "kernel"."""
    return variable.path.rsplit("/", 1)[-1]


def _authors_name(
    body: Callable[[keras.Model, str], str], head: Mapping[str, str], model, layer, variable
) -> str:
    """A `NameMap` of the authors' own framework, once `body` and `head` are given.

    Args:
        body: The module of a layer of the backbone.
        head: The modules of the layers of a detector or a segmenter; empty for a classifier.
    """
    module = head.get(layer.name)
    if module is None:
        module = ("encoder." if head else "") + body(model, layer.name)
    own = variable_name(variable)
    if own == "base_position":
        return module.format(kind="meta_pe")
    if own == "base_kernel":
        return module.format(kind="meta_kernel")
    if isinstance(layer, keras.layers.MultiHeadAttention):
        part = "out_proj" if "attention_output" in variable.path else "qkv_proj"
        return f"{module}.{part}.{VARIABLES[own]}"
    if "{kind}" in module:
        # The ablation with big kernels swaps the two names of its second step.
        swapped = {"2_W": "2_H", "2_H": "2_W"}
        step = swapped.get(module[-3:], module[-3:])
        module = module[:-3].format(kind="bk_conv") + step
    return f"{module}.{VARIABLES[own]}"


parc_net: NameMap = functools.partial(_authors_name, _parc_net, {})
ssd_parc_net: NameMap = functools.partial(_authors_name, _parc_net, SSD_LITE)
deeplab_v3_parc_net: NameMap = functools.partial(_authors_name, _parc_net, DEEPLAB_V3)
mobilevit: NameMap = functools.partial(_authors_name, _mobilevit, {})


def official_name(
    name_map: NameMap, model: keras.Model, layer: keras.layers.Layer, variable: keras.Variable
) -> str:
    """The authors' tensor name of a variable.

    Args:
        name_map: That of the model: `keras_parc.find_model("ParCNetS").name_map`.
        model: The model.
        layer: One of its layers.
        variable: One of the layer's variables.

    Returns:
        A key of the authors' state dict.

    Raises:
        ValueError: The layer has no counterpart in the authors' code.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCNetXS(input_shape=(32, 32, 3))
        >>> layer = model.get_layer("stage3_block1_v1")
        >>> official_name(parc_net, model, layer, layer.base_kernel)
        'layer_3.1.spatial_global_rep.0.meta_kernel_1_H'
    """
    try:
        return name_map(model, layer, variable)
    except (AttributeError, KeyError) as error:
        raise ValueError(f"The layer {layer.name!r} has no counterpart in the map.") from error


def converted(layer: keras.layers.Layer, variable, tensor: np.ndarray) -> np.ndarray:
    """Bring one of the authors' tensors into the layout of a Keras variable.

    Args:
        layer: The layer that owns the variable.
        variable: The variable.
        tensor: The tensor that `official_name` names, in PyTorch's layout.

    Returns:
        An array; its shape is not yet checked against the variable's.
    """
    own = variable_name(variable)
    if layer.name in SSD_LITE and layer.name.endswith(("_boxes", "_scores")):
        tensor = _prediction_part(layer, tensor)
    if own in ("base_kernel", "base_position"):  # (C, 1, K, 1) or (1, C, K, 1), either axis
        if len(variable.shape) == 3:  # dense: (out, in, K, 1) -> (K, in, out)
            return tensor.reshape(*tensor.shape[:2], -1).transpose(2, 1, 0)
        return tensor.reshape(tensor.shape[0] * tensor.shape[1], -1).T
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return _attention_part(layer, variable, tensor)
    if own != "kernel":
        return tensor
    if isinstance(layer, keras.layers.DepthwiseConv2D):  # (C * m, 1, h, w) -> (h, w, C, m)
        _, _, channels, multiplier = variable.shape
        split = tensor.reshape(channels, multiplier, *tensor.shape[2:])
        return split.transpose(2, 3, 0, 1)
    if isinstance(layer, keras.layers.Conv2D):  # (out, in, h, w) -> (h, w, in, out)
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T


def _prediction_part(layer, tensor):
    """Boxes or scores of an SSD head: for each anchor x, y, width, height, then the scores."""
    count = layer.filters // 4 if layer.name.endswith("_boxes") else None
    count = count or (len(tensor) - layer.filters) // 4
    of_anchor = tensor.reshape(count, -1, *tensor.shape[1:])
    # Boxes here are y, x, height, width, as TensorFlow has them.
    part = of_anchor[:, [1, 0, 3, 2]] if layer.name.endswith("_boxes") else of_anchor[:, 4:]
    return part.reshape(-1, *tensor.shape[1:])


def _attention_part(layer, variable, tensor):
    """Query, key, value or output of a `MultiHeadAttention` from the fused tensors."""
    path = variable.path.split("/")
    width = layer.num_heads * layer.key_dim
    part = {"query": 0, "key": 1, "value": 2}.get(path[-2])
    if part is not None:
        if len(tensor) != 3 * width:
            raise ValueError(f"Expected query, key and value of {width} rows, got {len(tensor)}.")
        tensor = tensor[part * width : (part + 1) * width]
    return tensor.T.reshape(variable.shape)


def load_state_dict(
    model: keras.Model,
    state: Mapping[str, np.ndarray],
    name_map: NameMap,
    *,
    scope: str = "",
    ignored: tuple[str, ...] = (),
) -> None:
    """Load the authors' state dict into a model, every tensor used, nothing missing.

    Args:
        model: A model of this package.
        state: The authors' names to numpy arrays in PyTorch's layout. `num_batches_tracked` is
            ignored; the `residual.*` aliases must equal the `layer_5.0.*` tensors they repeat.
        name_map: That of the model: `keras_parc.find_model("ParCNetS").name_map`.
        scope: What the file puts before the model's names: "encoder." for the backbone of a
            detector or segmenter.
        ignored: Beginnings of names that this model knowingly does without.

    Raises:
        ValueError: Tensors are missing, unexpected, of another shape, or an alias differs. All
            are listed, and the model is left as it was.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCNetXS(input_shape=(32, 32, 3))
        >>> state = {"classifier.fc.bias": np.zeros(1000), "more": np.zeros(3)}
        >>> load_state_dict(model, state, parc_net)
        Traceback (most recent call last):
            ...
        ValueError: The state dict does not fit 'parc_net_xs':
          missing: classifier.fc.weight, ...
          unexpected: more
    """
    used, missing, wrong, assignments = set(), [], [], []
    for layer in model.layers:
        for variable in layer.weights:
            if "seed_generator" in variable.path:
                continue
            name = scope + official_name(name_map, model, layer, variable)
            if name not in state:
                missing.append(name)
                continue
            used.add(name)
            value = None
            with contextlib.suppress(ValueError, IndexError):  # shapes too far off to convert
                value = converted(layer, variable, np.asarray(state[name]))
            if value is None or value.shape != tuple(variable.shape):
                wrong.append(f"{name}: {np.shape(state[name])} for {variable.path}")
            assignments.append((variable, value))
    unexpected = []
    for name in state.keys() - used:
        if name.endswith("num_batches_tracked") or name.startswith(ignored):
            continue
        original = re.sub(r"(^|\.)residual\.", r"\1layer_5.0.", name)
        if original == name or original not in used:
            unexpected.append(name)
        elif not np.array_equal(state[name], state[original]):
            wrong.append(f"{name}: differs from {original}, which it repeats")
    problems = {"missing": missing, "unexpected": unexpected, "of the wrong shape or value": wrong}
    if any(problems.values()):
        listed = "\n".join(f"  {k}: {', '.join(sorted(v))}" for k, v in problems.items() if v)
        raise ValueError(f"The state dict does not fit {model.name!r}:\n{listed}")
    for variable, value in assignments:
        variable.assign(value)
