"""Multiply-adds of a model, counted from its layers."""

import math

import keras
from keras import layers

from keras_parc.layers.parc import ParCH, ParCV


def count_macs(model: keras.Model, input_size: tuple[int, int] | None = None) -> int:
    """Count the multiply-adds of one image through convolutions, products and attention.

    Normalizations, activations, additions and the resampling of ParC kernels do not count, as is
    the habit of the field. One multiply-add is one MAC; "FLOPs" in papers is often twice that.

    Args:
        model: A functional model over images, `(batch, height, width, channels)`.
        input_size: `(height, width)`; default: the model's own. Needed when that is unknown.

    Returns:
        Multiply-adds, a whole number.

    Raises:
        ValueError: The input size is known neither to the model nor to the caller.

    Example:
        >>> import keras_parc
        >>> keras_parc.count_macs(keras_parc.ParCNetS())
        1657347584
    """
    height, width, channels = model.inputs[0].shape[1:]
    height, width = input_size or (height, width)
    if height is None or width is None:
        raise ValueError(
            f"The input size of {model.name!r} is not fixed: pass `input_size=(height, width)`."
        )
    image = keras.KerasTensor((1, height, width, channels), model.inputs[0].dtype)
    counted = [layer for layer in model.layers if _rule(layer) is not None]
    # Shapes at the size asked for: what goes into and comes out of every counted layer.
    probe = keras.Model(model.input, [(layer.input, layer.output) for layer in counted])
    total = 0
    for layer, (source, result) in zip(counted, probe.compute_output_spec(image), strict=True):
        source = source[0] if isinstance(source, (list, tuple)) else source
        total += _rule(layer)(layer, source.shape, result.shape)
    return total


def _weights_per_output(layer, _, result):
    return math.prod(result) * (math.prod(layer.kernel.shape) // layer.kernel.shape[-1])


def _depthwise(layer, _, result):
    return math.prod(result) * math.prod(layer.kernel_size)


def _circular(layer, source, result):
    taps = source[1 if layer.along == "height" else 2]
    return math.prod(result) * taps * (1 if layer.depthwise else source[-1])


def _attention(layer, source, _):
    tokens, width = source[-2], source[-1]
    inner = layer.num_heads * layer.key_dim
    sequences = math.prod(source[:-2])
    return sequences * tokens * (4 * width * inner + 2 * tokens * inner)


_RULES = {
    layers.DepthwiseConv2D: _depthwise,
    layers.Conv2D: _weights_per_output,
    layers.Dense: _weights_per_output,
    layers.MultiHeadAttention: _attention,
    ParCV: _circular,
    ParCH: _circular,
}


def _rule(layer):
    return next((rule for kind, rule in _RULES.items() if isinstance(layer, kind)), None)
