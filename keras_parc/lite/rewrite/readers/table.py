"""Which function reads which Keras operation.

An operation is recognised by its exact class: a subclass, or a user's own class of the same name,
may compute something else, and is kept as it is.
"""

import functools
from collections.abc import Callable

from keras import layers

from keras_parc.layers.batch_norm import BatchNormalization
from keras_parc.layers.grouped import ExpandingDepthwiseConv2D, GroupedConv2D
from keras_parc.layers.parc import ParCH, ParCV, PositionEmbedding
from keras_parc.layers.resize import ResizeLike
from keras_parc.lite.rewrite.readers import attention, linear, maps, parc
from keras_parc.models.mobilevit import Fold, Unfold
from keras_parc.models.parc_convnext import LayerScale
from keras_parc.models.ssd_lite import PerAnchor
from keras_parc.support import compat

# Each takes the operation and what it is called on, and returns a node or a list of them.
READERS: dict[type, Callable] = {
    layers.Activation: maps.activation,
    layers.Add: maps.add,
    layers.AveragePooling2D: linear.average_pool,
    layers.BatchNormalization: linear.batch_norm,
    layers.Concatenate: maps.concat,
    layers.Conv2D: linear.conv,
    layers.Dense: linear.dense,
    layers.DepthwiseConv2D: linear.depthwise,
    layers.GlobalAveragePooling2D: maps.mean,
    layers.LayerNormalization: linear.layer_norm,
    layers.MaxPooling2D: linear.max_pool,
    layers.MultiHeadAttention: attention.attention,
    layers.Multiply: maps.multiply,
    layers.Normalization: linear.normalization,
    layers.ReLU: maps.relu,
    layers.Rescaling: linear.rescaling,
    layers.Reshape: maps.reshape,
    layers.SeparableConv2D: linear.separable,
    layers.Softmax: maps.softmax,
    layers.UpSampling2D: maps.upsampling,
    layers.ZeroPadding2D: maps.pad,
    **{
        compat.operation_class(name): functools.partial(maps.function, function)
        for name, function in maps.FUNCTIONS.items()
    },
    compat.operation_class("Add"): maps.add,
    compat.operation_class("Concatenate"): maps.concat,
    compat.operation_class("Flip"): maps.flip,
    compat.operation_class("GetItem"): maps.item,
    compat.operation_class("Multiply"): maps.multiply,
    compat.operation_class("Reshape"): maps.reshape,
    compat.operation_class("Softmax"): maps.softmax,
    compat.operation_class("Split"): maps.split,
    compat.operation_class("Stack"): maps.stack,
    compat.operation_class("Subtract"): maps.subtract,
    compat.operation_class("TrueDivide"): maps.divide,
    compat.convnext_class("LayerScale"): linear.layer_scale,
    BatchNormalization: linear.batch_norm,
    ExpandingDepthwiseConv2D: linear.depthwise,
    Fold: attention.fold,
    GroupedConv2D: linear.conv,
    LayerScale: linear.layer_scale,
    ParCH: parc.parc,
    ParCV: parc.parc,
    PositionEmbedding: parc.position,
    ResizeLike: maps.resize_like,
    Unfold: attention.unfold,
}
# These return their input in inference.
IDENTITY = {
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.RandomBrightness,
    layers.RandomColorDegeneration,
    layers.RandomColorJitter,
    layers.RandomContrast,
    layers.RandomErasing,
    layers.RandomFlip,
    layers.RandomGaussianBlur,
    layers.RandomGrayscale,
    layers.RandomHue,
    layers.RandomInvert,
    layers.RandomPerspective,
    layers.RandomPosterization,
    layers.RandomRotation,
    layers.RandomSaturation,
    layers.RandomSharpness,
    layers.RandomShear,
    layers.RandomTranslation,
    layers.RandomZoom,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    compat.convnext_class("StochasticDepth"),
}
# These are kept without a word: they have no weights, and plain conversion handles them well.
QUIET = {
    layers.AveragePooling2D,  # of padded maps
    layers.Concatenate,
    layers.Flatten,
    layers.MaxPooling2D,
    compat.operation_class("Concatenate"),
    compat.operation_class("GetItem"),
    PerAnchor,
}
