"""Layers with weights or shapes of their own, and the blocks that models are built of."""

# First, so that what `keras_parc` does once Keras is there finds no half-imported file here.
import keras  # noqa: F401

from keras_parc.layers.batch_norm import BatchNormalization
from keras_parc.layers.grouped import ExpandingDepthwiseConv2D, GroupedConv2D
from keras_parc.layers.image_input import ImageInput
from keras_parc.layers.layer_scale import LayerScale
from keras_parc.layers.parc import ParCH, ParCV, PositionEmbedding
from keras_parc.layers.patches import Fold, Unfold
from keras_parc.layers.per_anchor import PerAnchor
from keras_parc.layers.resize import ResizeLike

__all__ = [
    "BatchNormalization",
    "ExpandingDepthwiseConv2D",
    "Fold",
    "GroupedConv2D",
    "ImageInput",
    "LayerScale",
    "ParCH",
    "ParCV",
    "PerAnchor",
    "PositionEmbedding",
    "ResizeLike",
    "Unfold",
]
