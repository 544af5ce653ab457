"""Functional blocks shared by the families: a tensor and a name prefix in, a tensor out.

All tensors are `(batch, height, width, channels)`. The layer names made here are the names that
`keras_parc.weights.names` reads, so a block and its names change together.
"""

from collections.abc import Callable
from typing import Any

from keras import initializers, layers, ops

from keras_parc.layers.batch_norm import BatchNormalization
from keras_parc.layers.grouped import ExpandingDepthwiseConv2D, GroupedConv2D
from keras_parc.layers.parc import ParCH, ParCV, PositionEmbedding

Tensor = Any  # A KerasTensor while a model is built.

NORM_EPSILON = 1e-5
NORM_MOMENTUM = 0.9  # Keras' momentum; PyTorch calls it 0.1.
BLOCK_DROPOUT = 0.1


def fan_out() -> initializers.Initializer:
    """The authors' initializer of convolutions; one per layer, since one repeats its values.

    Example:
        >>> layers.Conv2D(8, 3, kernel_initializer=fan_out()).kernel_initializer.distribution
        'untruncated_normal'
    """
    return initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def norm(x: Tensor, name: str) -> Tensor:
    """Batch normalization with the authors' epsilon and momentum.

    Example:
        >>> import keras
        >>> norm(keras.Input((32, 48, 8)), "stem_bn").shape
        (None, 32, 48, 8)
    """
    return BatchNormalization(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, name=name)(x)


def conv(
    x: Tensor,
    filters: int,
    kernel_size: int = 1,
    strides: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    name: str | None = None,
    dilation: int = 1,
    initializer: initializers.Initializer | None = None,
) -> Tensor:
    """Convolution, zero-padded by `(kernel_size - 1) / 2` on all four sides at every stride.

    Keras' "same" pads only bottom and right at stride 2, which moves the output by half a pixel.
    One input channel per group becomes a depthwise layer. A dilated convolution (stride 1) is
    padded `dilation` times as much. `initializer` is that of the kernel; None: the authors' for
    backbones.

    Example:
        >>> import keras
        >>> conv(keras.Input((32, 48, 3)), 8, kernel_size=3, strides=2, name="stem").shape
        (None, 16, 24, 8)
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    shared = {"strides": strides, "padding": padding, "use_bias": use_bias, "name": name}
    shared["dilation_rate"] = dilation
    if groups == x.shape[-1] and groups > 1:
        # The authors' fan-out counts all output channels, whatever the groups.
        deviation = (2.0 / (filters * kernel_size**2)) ** 0.5
        depthwise = ExpandingDepthwiseConv2D if filters > groups else layers.DepthwiseConv2D
        return depthwise(
            kernel_size,
            depth_multiplier=filters // groups,
            depthwise_initializer=initializer or initializers.RandomNormal(stddev=deviation),
            **shared,
        )(x)
    convolution = GroupedConv2D if groups > 1 else layers.Conv2D
    return convolution(
        filters, kernel_size, groups=groups, kernel_initializer=initializer or fan_out(), **shared
    )(x)


def conv_norm_act(
    x: Tensor,
    filters: int,
    kernel_size: int = 1,
    strides: int = 1,
    groups: int = 1,
    activation: str | None = "silu",
    name: str = "conv",
    dilation: int = 1,
    initializer: initializers.Initializer | None = None,
) -> Tensor:
    """Convolution without bias, batch normalization, activation (None: linear).

    Example:
        >>> import keras
        >>> image = keras.Input((32, 48, 3))
        >>> model = keras.Model(image, conv_norm_act(image, 8, 3, 2, name="stem"))
        >>> [layer.name for layer in model.layers[1:]]
        ['stem_conv_pad', 'stem_conv', 'stem_bn', 'stem_act']
    """
    options = {"dilation": dilation, "initializer": initializer}
    x = conv(x, filters, kernel_size, strides, groups, name=f"{name}_conv", **options)
    x = norm(x, name=f"{name}_bn")
    return layers.Activation(activation, name=f"{name}_act")(x) if activation else x


def inverted_residual(
    x: Tensor,
    filters: int,
    strides: int,
    name: str,
    expansion: int = 4,
    activation: str = "silu",
    spatial: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """MobileNetV2's block: expand, depthwise 3x3, project; residual when the shape is kept.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Output channels.
        strides: Of the depthwise convolution.
        name: Prefix of the layer names.
        expansion: Hidden channels for each input channel; 1 leaves the expansion out.
        activation: After the first two convolutions.
        spatial: What stands in for the depthwise convolution, before its normalization.

    Returns:
        `(batch, height / strides, width / strides, filters)`, sides rounded up.

    Example:
        >>> import keras
        >>> inverted_residual(keras.Input((33, 48, 16)), 24, strides=2, name="stage2_ir1").shape
        (None, 17, 24, 24)
    """
    hidden = expansion * x.shape[-1]
    y = x
    if expansion > 1:
        y = conv_norm_act(y, hidden, activation=activation, name=f"{name}_expand")
    if spatial is None:
        y = conv(y, hidden, 3, strides, groups=hidden, name=f"{name}_depthwise_conv")
    else:
        y = spatial(y)
    y = norm(y, f"{name}_depthwise_bn")
    y = layers.Activation(activation, name=f"{name}_depthwise_act")(y)
    y = conv_norm_act(y, filters, activation=None, name=f"{name}_project")
    if strides == 1 and x.shape[-1] == filters:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


def channel_attention(x: Tensor, hidden: int, name: str) -> Tensor:
    """Squeeze-and-excitation with batch normalization: the attention of ParC-Net (section 3.2).

    Example:
        >>> import keras
        >>> channel_attention(keras.Input((8, 8, 32)), hidden=2, name="attention").shape
        (None, 8, 8, 32)
    """
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    gate = conv_norm_act(gate, hidden, activation="hard_silu", name=f"{name}_squeeze")
    gate = conv_norm_act(gate, x.shape[-1], activation="hard_sigmoid", name=f"{name}_excite")
    return layers.Multiply(name=f"{name}_scale")([x, gate])


def parc_halves(
    x: Tensor, lengths: tuple[int, int], name: str, position_embedding=True, depthwise=True
) -> Tensor:
    """One step of ParC in place of a spatial convolution: how the paper puts it into ConvNets.

    The first half of the channels goes down the columns, the second along the rows.

    Args:
        x: `(batch, height, width, channels)`, at least two channels.
        lengths: Stored kernel lengths along the height and along the width.
        name: Prefix of the layer names.
        position_embedding: Whether position embeddings are added first.
        depthwise: False: dense convolutions within each half, as in ParC-ResNet50.

    Returns:
        A tensor of the shape of `x`.

    Example:
        >>> import keras
        >>> parc_halves(keras.Input((14, 14, 32)), (14, 14), "stage4_parc").shape
        (None, 14, 14, 32)
    """
    first, second = ops.split(x, [x.shape[-1] // 2], axis=-1)

    def operator(layer, length, half):
        return layer(
            length,
            position_embedding=position_embedding,
            use_bias=True,
            depthwise=depthwise,
            position_initializer=initializers.TruncatedNormal(stddev=0.02),
            name=half,
        )

    first = operator(ParCV, lengths[0], f"{name}_v")(first)
    second = operator(ParCH, lengths[1], f"{name}_h")(second)
    return layers.Concatenate(name=f"{name}_concat")([first, second])


def circular_mixer(x: Tensor, length: int, position_embedding: bool, name: str) -> Tensor:
    """The spatial half of a ParC block: two steps over two halves of the channels, residual.

    Half one goes down the columns, then along the rows; half two the other way round. Step one is
    position embedding, normalization, convolution; step two has no normalization.

    Example:
        >>> import keras
        >>> circular_mixer(keras.Input((8, 12, 32)), 8, True, "stage5_parc1").shape
        (None, 8, 12, 32)
    """
    first, second = ops.split(x, 2, axis=-1)
    a, b = first, second
    if position_embedding:
        a = PositionEmbedding(length, "height", name=f"{name}_v1_position")(a)
        b = PositionEmbedding(length, "width", name=f"{name}_h1_position")(b)
    a, b = norm(a, f"{name}_v1_bn"), norm(b, f"{name}_h1_bn")
    a = ParCV(length, position_embedding=False, name=f"{name}_v1")(a)
    b = ParCH(length, position_embedding=False, name=f"{name}_h1")(b)
    a = ParCH(length, position_embedding=position_embedding, name=f"{name}_h2")(a)
    b = ParCV(length, position_embedding=position_embedding, name=f"{name}_v2")(b)
    a = layers.Add(name=f"{name}_a_add")([first, a])
    b = layers.Add(name=f"{name}_b_add")([second, b])
    return layers.Concatenate(name=f"{name}_concat")([a, b])


def big_kernel_mixer(x: Tensor, size: int, name: str) -> Tensor:
    """`circular_mixer` with zero-padded depthwise kernels of a fixed size, no embedding.

    As in the authors' code, whose ablation goes twice along the same axis: half one down the
    columns twice, half two along the rows twice.

    Example:
        >>> import keras
        >>> big_kernel_mixer(keras.Input((8, 8, 32)), 5, "stage5_parc1").shape
        (None, 8, 8, 32)
    """

    def column(t, step):
        return layers.DepthwiseConv2D((size, 1), padding="same", use_bias=False, name=step)(t)

    def row(t, step):
        return layers.DepthwiseConv2D((1, size), padding="same", use_bias=False, name=step)(t)

    first, second = ops.split(x, 2, axis=-1)
    a, b = norm(first, f"{name}_v1_bn"), norm(second, f"{name}_h1_bn")
    a = column(column(a, f"{name}_v1"), f"{name}_v2")
    b = row(row(b, f"{name}_h1"), f"{name}_h2")
    a = layers.Add(name=f"{name}_a_add")([first, a])
    b = layers.Add(name=f"{name}_b_add")([second, b])
    return layers.Concatenate(name=f"{name}_concat")([a, b])


def channel_mixer(x: Tensor, hidden: int, attention: bool, name: str) -> Tensor:
    """The channel half of a ParC block: normalization, two 1x1 convolutions, attention, residual.

    The dropout comes before the attention, as in the authors' code.

    Example:
        >>> import keras
        >>> channel_mixer(keras.Input((8, 8, 32)), 64, True, "stage5_parc1").shape
        (None, 8, 8, 32)
    """
    width = x.shape[-1]
    y = norm(x, f"{name}_ffn_bn")
    y = conv(y, hidden, use_bias=True, name=f"{name}_ffn_expand")
    y = layers.Activation("hard_silu", name=f"{name}_ffn_act")(y)
    y = conv(y, width, use_bias=True, name=f"{name}_ffn_project")
    y = layers.Dropout(BLOCK_DROPOUT, name=f"{name}_ffn_dropout")(y)
    if attention:
        y = channel_attention(y, width // 16, f"{name}_attention")
    return layers.Add(name=f"{name}_ffn_add")([x, y])


def parc_block(
    x: Tensor,
    length: int,
    hidden: int,
    name: str,
    position_embedding: bool = True,
    attention: bool = True,
    big_kernel: int | None = None,
) -> Tensor:
    """MetaFormer-like block of ParC-Net: a spatial mixer, then a channel mixer (Figure 4).

    Args:
        x: `(batch, height, width, width_of_block)`, an even number of channels.
        length: Stored kernel length of the circular convolutions.
        hidden: Channels inside the channel mixer.
        name: Prefix of the layer names.
        position_embedding: Whether the spatial mixer adds position embeddings. The authors embed
            only in the first block of a stage.
        attention: Whether channel attention closes the block.
        big_kernel: Ablation: this zero-padded kernel size instead of circular convolution.

    Returns:
        A tensor of the shape of `x`.

    Example:
        >>> import keras
        >>> parc_block(keras.Input((8, 12, 32)), length=8, hidden=64, name="stage5_parc1").shape
        (None, 8, 12, 32)
    """
    if big_kernel is None:
        x = circular_mixer(x, length, position_embedding, name)
    else:
        x = big_kernel_mixer(x, big_kernel, name)
    return channel_mixer(x, hidden, attention, name)


def local_global_frame(
    x: Tensor, width: int, groups: int, fusion: str, global_blocks, name: str
) -> Tensor:
    """A local branch, a global branch, and their fusion with the input (MobileViT's frame, light).

    Args:
        x: `(batch, height, width, channels)`.
        width: Channels of the global branch.
        groups: Groups of the grouped convolutions into and out of the global branch.
        fusion: "add" or "concat": how the global branch meets the input.
        global_blocks: Function of a tensor: the blocks of the global branch.
        name: Prefix of the layer names.

    Returns:
        A tensor of the shape of `x`.

    Example:
        >>> import keras
        >>> image = keras.Input((8, 8, 64))
        >>> local_global_frame(
        ...     image, 32, 32, "add", lambda x: parc_block(x, 8, 64, "stage5_parc1"), "stage5"
        ... ).shape
        (None, 8, 8, 64)
    """
    channels = x.shape[-1]
    y = conv_norm_act(x, width, 3, groups=groups, name=f"{name}_local")
    y = conv(y, width, name=f"{name}_local_pointwise")
    y = norm(global_blocks(y), f"{name}_global_bn")
    y = conv_norm_act(y, channels, groups=groups, name=f"{name}_reduce")
    if fusion == "add":
        y = layers.Add(name=f"{name}_fusion_add")([x, y])
    else:
        y = layers.Concatenate(name=f"{name}_fusion_concat")([y, x])
    return conv_norm_act(y, channels, 3, name=f"{name}_fusion")


def resnext_parc_block(
    x: Tensor, length: int, hidden: int, name: str, position_embedding: bool, attention: bool
) -> Tensor:
    """Ablation "without MetaFormer": a ResNeXt-like bottleneck around the same ParC.

    A reconstruction. The paper's Table 2 names the row (5.3 M parameters) and its block only as
    ResNeXt-like, and the authors' code has no such block. Here: 1x1 to `hidden` channels, the
    two-step ParC as ResNeXt's grouped convolution (position embeddings in every block, as in the
    paper's equations), channel attention, 1x1 back, one residual around all of it.

    Example:
        >>> import keras
        >>> resnext_parc_block(keras.Input((8, 8, 32)), 8, 64, "stage5_parc1", True, True).shape
        (None, 8, 8, 32)
    """
    width = x.shape[-1]
    y = conv_norm_act(x, hidden, name=f"{name}_expand")
    a, b = ops.split(y, 2, axis=-1)
    a = ParCV(length, position_embedding=position_embedding, name=f"{name}_v1")(a)
    b = ParCH(length, position_embedding=position_embedding, name=f"{name}_h1")(b)
    a = ParCH(length, position_embedding=position_embedding, name=f"{name}_h2")(a)
    b = ParCV(length, position_embedding=position_embedding, name=f"{name}_v2")(b)
    y = layers.Concatenate(name=f"{name}_concat")([a, b])
    y = layers.Activation("silu", name=f"{name}_parc_act")(norm(y, f"{name}_parc_bn"))
    if attention:
        y = channel_attention(y, width // 16, f"{name}_attention")
    y = conv_norm_act(y, width, activation=None, name=f"{name}_project")
    y = layers.Dropout(BLOCK_DROPOUT, name=f"{name}_dropout")(y)
    return layers.Add(name=f"{name}_add")([x, y])
