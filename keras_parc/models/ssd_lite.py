"""SSDLite: detection heads on the feature maps of a backbone, and its anchors.

Liu and others: SSD: Single Shot MultiBox Detector, ECCV 2016, arXiv 1512.02325; with depthwise
separable heads as in MobileNetV2, arXiv 1801.04381, section 6.2; as ParC-Net's authors build it,
but for one thing: boxes and scores come from convolutions of their own, since one int8 scale for
both would ruin the boxes.
"""

import dataclasses
import os

import keras
import numpy as np
from keras import initializers, layers

from keras_parc.layers import PerAnchor
from keras_parc.layers.blocks import Tensor, conv, conv_norm_act, norm
from keras_parc.models.boxes import Anchors
from keras_parc.models.classifier import weight_loader
from keras_parc.models.features import STRIDES, copied, features
from keras_parc.models.parc_net import ParCNetS
from keras_parc.models.registry import find_model, levels_of, register_model
from keras_parc.support.random_state import undisturbed
from keras_parc.weights import names


def SSDLite(
    backbone: keras.Model,
    classes: int = 80,
    *,
    feature_names: tuple[str, ...] = ("P4", "P5"),
    projections: tuple[int, ...] = (512, 256),
    extra_channels: tuple[int, ...] = (256, 128, 128, 64),
    anchors: Anchors | None = None,
    name: str = "ssd_lite",
) -> keras.Model:
    """SSDLite on any backbone.

    Args:
        backbone: A model over one image, with or without its top, weights and preprocessing. Its
            weights are copied. Models of this package and of `keras.applications` are known to
            work.
        classes: Number of classes of objects; the background is not counted.
        feature_names: The maps the heads begin with, finest first: "P2" to "P5" of a model of this
            package (see `keras_parc.features`), or names of layers of any other, such as
            `("block_13_expand_relu", "out_relu")` of `keras.applications.MobileNetV2`: strides 16
            and 32.
        projections: For each of them, channels of the 1x1 convolution before its head.
        extra_channels: Channels of further maps, each of half the sides; the last is pooled to one
            cell.
        anchors: Sizes and shapes of the anchors, for each map. None: `Anchors()`, six maps.
        name: Name of the model.

    Returns:
        A functional model of one image with a dictionary of outputs: "boxes" `(batch, anchors, 4)`,
        relative to `ssd_anchors(model)`, and "scores" `(batch, anchors, classes + 1)`, logits, the
        background first. `keras_parc.detections` makes boxes of the image of them, `ssd_losses`
        gives what to train with.

    Raises:
        ValueError: An argument out of its range, no such feature, or anchors for another number of
            maps.

    Source: arXiv 2203.03952, section 4.2; arXiv 1801.04381, section 6.2.

    Example:
        >>> import keras_parc
        >>> backbone = keras_parc.ParCNetXS(include_top=False, input_shape=(64, 96, 3))
        >>> model = keras_parc.SSDLite(backbone, classes=10)
        >>> {name: output.shape for name, output in model.output.items()}
        {'boxes': (None, 208, 4), 'scores': (None, 208, 11)}
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be a whole number of at least 1, got {classes!r}.")
    if len(projections) != len(feature_names):
        raise ValueError(
            f"`projections` must be {len(feature_names)} numbers of channels, one for each of "
            f"`feature_names`, got {projections!r}."
        )
    if min((1, *projections, *extra_channels)) < 1:
        raise ValueError("`projections` and `extra_channels` must be at least 1.")
    anchors = anchors or Anchors()
    pyramid = _pyramid(backbone, feature_names)
    maps = [pyramid.output[name] for name in feature_names]
    if len(anchors.aspect_ratios) != len(maps) + len(extra_channels):
        raise ValueError(
            f"`anchors` are for {len(anchors.aspect_ratios)} feature maps, but there are "
            f"{len(maps)} of the backbone and {len(extra_channels)} more."
        )
    for number, channels in enumerate(extra_channels, 1):
        pooled = number == len(extra_channels)
        maps.append(_extra(maps[-1], channels, f"extra{number}", pooled))
    boxes, scores = [], []
    for number, (x, per_cell) in enumerate(zip(maps, anchors.per_cell, strict=True), 1):
        width = projections[number - 1] if number <= len(projections) else None
        last = number == len(maps)
        for found, y in zip(
            (boxes, scores), _head(x, number, width, per_cell, classes, last), strict=True
        ):
            found.append(y)
    outputs = {
        "boxes": PerAnchor(4, dataclasses.asdict(anchors), name="boxes")(boxes),
        "scores": PerAnchor(classes + 1, name="scores")(scores),
    }
    return keras.Model(pyramid.inputs[0], outputs, name=name)


@register_model(
    task="detection",
    input_size=(320, 320),
    levels=find_model("ParCNetS").levels,
    class_layers=tuple(f"head{number}_scores" for number in range(1, 7)),
    name_map=names.ssd_parc_net,
)
def SSDParCNetS(
    weights: str | os.PathLike | None = None,
    classes: int = 80,
    input_shape: tuple[int | None, int | None, int] = (320, 320, 3),
    name: str = "ssd_parc_net_s",
    *,
    include_preprocessing: bool = True,
    position_embedding: bool = True,
) -> keras.Model:
    """SSDLite on ParC-Net-S: the paper's detector, 5.2 M parameters, 2.7 G multiply-adds at 320.

    Args:
        weights: None (random), "coco" (the authors', see `keras_parc.list_presets`), or the path
            of a `.weights.h5` or `.keras` file of this model. To start from a classifier, pass it
            to `SSDLite`: `SSDLite(ParCNetS(weights="imagenet", include_top=False))`.
        classes: Number of classes of objects. The authors count the background and say 81.
        input_shape: `(height, width, 3)`, sides of at least 32 or None.
        name: Name of the model.
        include_preprocessing: True: the model takes RGB 0..255; False: BGR 0..1.
        position_embedding: Whether the circular convolutions are position aware.

    Returns:
        A functional model; see `SSDLite` for its outputs.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.
        OSError: Published weights can be neither found nor downloaded, or not be cached.

    Source: arXiv 2203.03952, section 4.2, Table 2 (rows 8 to 10).

    Example:
        >>> import keras_parc
        >>> model = keras_parc.SSDParCNetS(input_shape=(64, 96, 3))
        >>> sum(v.numpy().size for v in model.trainable_variables)
        5197282
    """
    load_into = weight_loader(weights, find_model("SSDParCNetS"))
    backbone = ParCNetS(
        include_top=False,
        input_shape=input_shape,
        include_preprocessing=include_preprocessing,
        position_embedding=position_embedding,
    )
    model = SSDLite(backbone, classes, name=name)
    load_into(model, model)
    return model


def _pyramid(backbone: keras.Model, names: tuple[str, ...]) -> keras.Model:
    """A copy of a backbone with a dict of the maps named."""
    if not isinstance(backbone, keras.Model) or len(getattr(backbone, "inputs", None) or ()) != 1:
        raise ValueError(f"`backbone` must be a functional model of one image, got {backbone!r}.")
    if not names:
        raise ValueError("`feature_names` is empty.")
    known = levels_of(backbone) if set(names) <= STRIDES.keys() else {name: name for name in names}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"`feature_names`: {backbone.name!r} has no levels {unknown}, only {list(known)}."
        )
    pyramid = features(backbone, {name: known[name] for name in names})
    if any(len(each.shape) != 4 for each in pyramid.output.values()):
        raise ValueError(
            "`feature_names` must be layers of maps (batch, height, width, channels), got "
            f"{[each.shape for each in pyramid.output.values()]}."
        )
    with undisturbed():  # the heads draw the same weights as on the backbone itself
        copy_of = copied(pyramid)
    for new, old in zip(copy_of.variables, pyramid.variables, strict=True):
        new.assign(old)  # the states of Dropout too
    return copy_of


def _xavier(x: Tensor) -> initializers.Initializer:
    """The authors' initializer of heads, for a depthwise 3x3 convolution of `x`."""
    limit = (6 / (9 * (1 + x.shape[-1]))) ** 0.5
    return initializers.RandomUniform(-limit, limit)


def _depthwise(x: Tensor, strides: int, name: str) -> Tensor:
    x = conv(x, x.shape[-1], 3, strides, x.shape[-1], name=f"{name}_conv", initializer=_xavier(x))
    return norm(x, f"{name}_bn")


def _extra(x: Tensor, channels: int, name: str, pooled: bool) -> Tensor:
    """The next coarser map: half the sides, or all of it in one cell."""
    pointwise = f"{name}_pointwise"
    if pooled:
        x = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
        x = conv(x, channels, name=f"{pointwise}_conv", initializer=initializers.GlorotUniform())
        return layers.Activation("relu", name=f"{pointwise}_act")(x)
    x = _depthwise(x, 2, f"{name}_depthwise")
    glorot = initializers.GlorotUniform()
    return conv_norm_act(x, channels, activation="relu", name=pointwise, initializer=glorot)


def _head(
    x: Tensor, number: int, width: int | None, per_cell: int, classes: int, last: bool
) -> tuple[Tensor, Tensor]:
    """Boxes and scores of one map, `(batch, height, width, per_cell * values)`."""
    name = f"head{number}"
    if width is not None:
        glorot = initializers.GlorotUniform()
        x = conv_norm_act(x, width, activation="relu", name=f"{name}_project", initializer=glorot)
    if not last:
        x = _depthwise(x, 1, f"{name}_depthwise")
    # The spread of the authors' one convolution for both.
    limit = (6 / (x.shape[-1] + per_cell * (4 + classes + 1))) ** 0.5

    def predicted(kind, values):
        uniform = initializers.RandomUniform(-limit, limit)
        layer = f"{name}_{kind}"
        return conv(x, per_cell * values, use_bias=True, name=layer, initializer=uniform)

    return predicted("boxes", 4), predicted("scores", classes + 1)


def ssd_anchors(model: keras.Model, image_size: tuple[int, int] | None = None) -> np.ndarray:
    """The anchors that the outputs of an `SSDLite` are relative to.

    Args:
        model: An `SSDLite`, also one loaded from a file.
        image_size: `(height, width)` in pixels; default: the model's own.

    Returns:
        `(anchors, 4)` float32: centre y, centre x, height, width in shares of the image.

    Raises:
        ValueError: `model` is no `SSDLite`, or the image size is missing or against the model's.

    Example:
        >>> import keras_parc
        >>> backbone = keras_parc.ParCNetTiny(include_top=False, input_shape=(32, 32, 3))
        >>> keras_parc.ssd_anchors(keras_parc.SSDLite(backbone, classes=2)).shape
        (52, 4)
    """
    anchors, sizes = anchor_layout(model, image_size)
    return anchors.on(sizes)


def anchor_layout(
    model: keras.Model, image_size: tuple[int, int] | None
) -> tuple[Anchors, list[tuple[int, int]]]:
    """The anchors of a model, and `(height, width)` of its feature maps; see `ssd_anchors`."""
    boxes = next(
        (each for each in model.layers if isinstance(each, PerAnchor) and each.anchors), None
    )
    if boxes is None:
        raise ValueError(f"{model.name!r} is no `keras_parc.SSDLite`: it has no anchors.")
    own = tuple(model.inputs[0].shape[1:3])
    size = own if image_size is None else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            f"`image_size` must be (height, width) in pixels, got {image_size}; {model.name!r} is "
            f"built for {own}."
        )
    if any(mine not in (None, side) for mine, side in zip(own, size, strict=True)):
        raise ValueError(f"{model.name!r} is built for images of {own}, not {size}.")
    maps = [keras.KerasTensor(each.shape) for each in boxes.input]
    if None in own:
        heads = keras.Model(model.inputs[0], boxes.input)
        maps = heads.compute_output_spec(keras.KerasTensor((1, *size, model.inputs[0].shape[-1])))
    return Anchors(**boxes.anchors), [tuple(each.shape[1:3]) for each in maps]
