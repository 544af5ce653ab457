"""Layers with weights of their own, and the blocks that models are built of."""

from keras_parc.layers.grouped import ExpandingDepthwiseConv2D, GroupedConv2D
from keras_parc.layers.parc import ParCH, ParCV, PositionEmbedding
from keras_parc.layers.resize import ResizeLike

__all__ = [
    "ExpandingDepthwiseConv2D",
    "GroupedConv2D",
    "ParCH",
    "ParCV",
    "PositionEmbedding",
    "ResizeLike",
]
