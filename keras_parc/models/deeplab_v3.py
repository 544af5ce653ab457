"""DeepLabV3: semantic segmentation over any backbone of this package.

Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution for Semantic Image Segmentation,
arXiv 1706.05587; built as ParC-Net's authors build it.
"""

import os

import keras
from keras import layers

from keras_parc.layers.blocks import Tensor, conv, conv_norm_act
from keras_parc.layers.resize import ResizeLike
from keras_parc.models.classifier import weight_loader
from keras_parc.models.features import STRIDES, copied, features, layers_by_level
from keras_parc.models.parc_net import ParCNetS
from keras_parc.models.registry import find_model, register_model
from keras_parc.weights import names

ATROUS_RATES = (6, 12, 18)  # at output stride 16
WIDTH = 256
DROPOUT = 0.1
LOGITS = "segmentation_logits"
UPSAMPLE = "upsample"
_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)


def atrous_pyramid_pooling(x: Tensor, rates: tuple[int, int, int], width: int = WIDTH) -> Tensor:
    """Atrous spatial pyramid pooling (DeepLabV3, section 3.3).

    A 1x1 convolution, three 3x3 ones whose taps lie `rate` pixels apart, and the mean of the map,
    side by side; then a 1x1 convolution over all of them. Each is normalized and rectified.

    Args:
        x: `(batch, height, width, channels)`.
        rates: Dilation of the three convolutions, in pixels of the map.
        width: Channels of every branch and of the result.

    Returns:
        `(batch, height, width, width_of_branch)`.
    """
    branches = [conv_norm_act(x, width, activation="relu", name="aspp1")]
    for number, rate in enumerate(rates, start=2):
        branches.append(
            conv_norm_act(x, width, 3, activation="relu", name=f"aspp{number}", dilation=rate)
        )
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool_mean")(x)
    pooled = conv_norm_act(pooled, width, activation="relu", name="aspp_pool")
    branches.append(ResizeLike(name="aspp_pool_spread")([pooled, x]))
    x = layers.Concatenate(name="aspp_concat")(branches)
    x = conv_norm_act(x, width, activation="relu", name="aspp_project")
    return layers.Dropout(DROPOUT, name="aspp_dropout")(x)


def encoder(backbone: keras.Model, output_stride: int = 16, dilated: bool = False) -> keras.Model:
    """A copy of a backbone whose last map is finer.

    Args:
        backbone: A model that `keras_parc.features` takes.
        output_stride: 32, 16 or 8: the last stages lose their stride.
        dilated: Whether the 3x3 convolutions after a lost stride are dilated, so that each sees as
            much of the image as before. Circular convolutions see all of it in any case.

    Returns:
        The model of `keras_parc.features` with weights of its own, equal to the backbone's.

    Raises:
        ValueError: `output_stride` is none of these, or the backbone has a smaller one already.
    """
    if output_stride not in (32, 16, 8):
        raise ValueError(f"`output_stride` must be 32, 16 or 8, got {output_stride!r}.")
    pyramid = features(backbone)
    own = _output_stride(pyramid)
    if own < output_stride or (dilated and own < 32):
        wanted = "32" if dilated else f"{output_stride} or more"
        raise ValueError(
            f"A backbone of output stride {wanted} is needed; that of {backbone.name!r} is {own}. "
            "Build it with its default `output_stride=32`."
        )
    # Of each level that loses its stride, the dilation before and after the place of the stride.
    lost = [level for level in pyramid.output if output_stride < STRIDES[level]]
    rates = {level: (2**i, 2 ** (i + 1)) if dilated else (1, 1) for i, level in enumerate(lost)}
    members = layers_by_level(pyramid)
    convolutions = [each for each in pyramid.layers if isinstance(each, _CONVOLUTIONS)]
    strided = {id(each.input) for each in convolutions if max(each.strides) > 1}
    changes = {
        name: _without_stride(pyramid.get_layer(name), *rates[level], strided)
        for level in lost
        for name in members[level]
    }
    return copied(pyramid, changes)


def _output_stride(pyramid: keras.Model) -> int:
    side = 256  # at which every stride divides evenly
    channels = pyramid.inputs[0].shape[-1]
    known = tuple(pyramid.inputs[0].shape[1:3])
    probe = known if None not in known else (side, side)
    image = keras.KerasTensor((1, *probe, channels), pyramid.inputs[0].dtype)
    last = pyramid.compute_output_spec(image)["P5"]
    return min((32, 16, 8), key=lambda stride: abs(probe[0] / stride - last.shape[1]))


def _without_stride(layer, before: int, after: int, strided_inputs: set[int]) -> dict:
    """What changes in a layer's settings when its stage loses its stride."""
    if isinstance(layer, layers.ZeroPadding2D):
        sides, rate = layer.get_config()["padding"], after
        if id(layer.output) in strided_inputs:  # of even sides a stride needs a pixel less
            sides, rate = [(max(side), max(side)) for side in sides], before
        return {"padding": tuple(tuple(rate * amount for amount in side) for side in sides)}
    if isinstance(layer, layers.MaxPooling2D) and max(layer.pool_size) == 1:
        return {"strides": 1}  # the way around a block of ResNet-V2
    if not isinstance(layer, _CONVOLUTIONS):
        return {}
    strided, size = max(layer.strides) > 1, max(layer.kernel_size)
    changes = {"dilation_rate": 1 if size == 1 else before if strided else after}
    if strided:
        changes["strides"] = 1
        if size % 2 == 0:  # a patch of 2x2 without overlap: the map keeps its size
            changes["padding"] = "same"
    return changes


def DeepLabV3(
    backbone: keras.Model,
    classes: int = 21,
    output_stride: int = 16,
    *,
    dilated: bool = False,
    rates: tuple[int, int, int] | None = None,
    width: int = WIDTH,
    name: str = "deeplab_v3",
) -> keras.Model:
    """Segment images: DeepLabV3 over a backbone.

    Args:
        backbone: Any model that `keras_parc.features` takes, such as `ParCNetS` or `MobileViTS`,
            built at its default output stride, with or without top, weights and preprocessing. Its
            weights are copied.
        classes: Number of classes, background included.
        output_stride: Pixels of the image for one of the map that is classified: 16, 8 or 32.
        dilated: Whether the encoder's 3x3 convolutions after a lost stride are dilated. The
            authors' are not.
        rates: Dilation of the three atrous convolutions in pixels of the map; None: 6, 12, 18, at
            output stride 8 twice that.
        width: Channels of the pyramid's branches and of their projection.
        name: Name of the model.

    Returns:
        A functional model of the backbone's input with logits `(batch, height, width, classes)` at
        the size of the image, any size of at least 32. The layer `"segmentation_logits"` has them
        at low resolution: `keras_parc.low_resolution(model)`.

    Raises:
        ValueError: An argument out of its range, or a backbone that is none of this package.

    Source: arXiv 1706.05587, section 3; ParC-Net (arXiv 2203.03952), section 4.3.

    Example:
        >>> import keras_parc
        >>> backbone = keras_parc.ParCNetXS(include_top=False, input_shape=(64, 96, 3))
        >>> keras_parc.DeepLabV3(backbone, classes=3).output_shape
        (None, 64, 96, 3)
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise ValueError(f"`classes` must be a whole number of at least 2, got {classes!r}.")
    if rates is None:
        rates = tuple(rate * (2 if output_stride == 8 else 1) for rate in ATROUS_RATES)
    if len(rates) != 3 or min(rates) < 1:
        raise ValueError(f"`rates` must be three whole numbers of at least 1, got {rates!r}.")
    if width < 1:
        raise ValueError(f"`width` must be at least 1, got {width!r}.")
    pyramid = encoder(backbone, output_stride, dilated)
    image = pyramid.inputs[0]
    x = atrous_pyramid_pooling(pyramid.output["P5"], rates, width)
    x = layers.SpatialDropout2D(DROPOUT, name="segmentation_dropout")(x)
    x = conv(x, classes, use_bias=True, name=LOGITS)
    x = ResizeLike(name=UPSAMPLE)([x, image])
    return keras.Model(image, x, name=name)


def low_resolution(model: keras.Model) -> keras.Model:
    """A segmenter without its last upsampling; the weights are shared.

    Args:
        model: A model of `DeepLabV3`. Any other model is returned as it is.

    Returns:
        A model with logits `(batch, height / output_stride, width / output_stride, classes)`.

    Example:
        >>> import keras_parc
        >>> backbone = keras_parc.ParCNetTiny(include_top=False, input_shape=(64, 96, 3))
        >>> model = keras_parc.DeepLabV3(backbone, classes=3)
        >>> keras_parc.low_resolution(model).output_shape
        (None, 4, 6, 3)
    """
    layer = (getattr(model, "layers", None) or [None])[-1]
    if not (isinstance(layer, ResizeLike) and layer.name == UPSAMPLE):
        return model
    return keras.Model(model.input, model.get_layer(LOGITS).output, name=model.name)


@register_model(
    task="segmentation",
    input_size=(512, 512),
    levels=find_model("ParCNetS").levels,
    class_layers=(LOGITS,),
    name_map=names.deeplab_v3_parc_net,
)
def DeepLabV3ParCNetS(
    weights: str | os.PathLike | None = None,
    classes: int = 21,
    input_shape: tuple[int | None, int | None, int] = (512, 512, 3),
    name: str = "deeplab_v3_parc_net_s",
    *,
    include_preprocessing: bool = True,
    position_embedding: bool = True,
    output_stride: int = 16,
    dilated: bool = False,
) -> keras.Model:
    """DeepLabV3 with ParC-Net-S, the paper's segmenter: 5.8 M parameters with 21 classes.

    Args:
        weights: None (random), "voc" (the authors' weights for PASCAL VOC 2012, 21 classes; with
            another number of classes all but the last layer is loaded), or the path of a
            `.weights.h5` or `.keras` file of this model.
        classes: Number of classes, background included.
        input_shape: `(height, width, 3)`, sides of at least 32 or None.
        name: Name of the model.
        include_preprocessing: True: the model takes RGB 0..255 and does itself what the authors'
            weights expect. False: it takes BGR 0..1.
        position_embedding: Whether the circular convolutions are position aware.
        output_stride: See `DeepLabV3`.
        dilated: See `DeepLabV3`.

    Returns:
        A functional model, see `DeepLabV3`.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.
        OSError: Published weights can be neither found nor downloaded, or not be cached.

    Source: arXiv 2203.03952, section 4.3 and Figure 7.

    Example:
        >>> import keras_parc, math
        >>> model = keras_parc.DeepLabV3ParCNetS(input_shape=(64, 64, 3))
        >>> sum(math.prod(variable.shape) for variable in model.trainable_variables)
        5816397
    """
    load_into = weight_loader(weights, find_model("DeepLabV3ParCNetS"))
    backbone = ParCNetS(
        include_top=False,
        input_shape=input_shape,
        include_preprocessing=include_preprocessing,
        position_embedding=position_embedding,
    )
    model = DeepLabV3(backbone, classes, output_stride, dilated=dilated, name=name)
    load_into(model, model)
    return model
