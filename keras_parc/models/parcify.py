"""ParC as a plug-in: put it into a ConvNet that exists."""

from collections.abc import Callable, Iterable

import keras
from keras import layers

from keras_parc.layers.blocks import parc_halves
from keras_parc.models.input_probe import new_input
from keras_parc.support import compat

DEFAULT_SIDE = 224  # Assumed for the sides a model leaves open.
LATE_STRIDE = 16


def parcify(
    model: keras.Model,
    where: Callable[[layers.Layer], bool] | Iterable[str] | None = None,
    *,
    position_embedding: bool = True,
) -> keras.Model:
    """Replace depthwise convolutions of a model by position-aware circular convolution.

    Each one chosen becomes `ParCV` over the first half of the channels and `ParCH` over the second,
    with a bias, as in the paper's ParC-MobileNetV2 and ParC-ConvNeXt. Their kernels are new and as
    long as the map at the model's input size (224 where that is open); all other weights are kept.
    The result works at once, but needs training: the new kernels are random.

    Args:
        model: A functional model over one image `(batch, height, width, channels)`, such as those
            of `keras.applications`; it is not changed. A `Conv2D` with a group per channel counts
            as depthwise. Models inside the model are not searched.
        where: Which convolutions. None: all of the late stages, at stride 16 and beyond (maps of
            14x14 and smaller at 224). A function of a layer: those for which it is true, among the
            depthwise convolutions of stride 1. Names of layers: exactly these.
        position_embedding: Whether the new operators add position embeddings.

    Returns:
        A new functional model, compiled if `model` is. It trains, saves, loads and exports as any
        other.

    Raises:
        ValueError: `model` is Sequential or subclassed, takes no image, or nothing was found to
            replace; a name that no layer has, or of a layer that cannot be replaced.

    Source: arXiv 2203.03952, section 4.3 and Table 3.

    Example:
        >>> import keras, keras_parc
        >>> plain = keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3))
        >>> model = keras_parc.parcify(plain, where=["block_15_depthwise"])
        >>> model.get_layer("block_15_depthwise_v").kernel_length
        2
    """
    _check_model(model)
    names = {layer.name for layer in model.layers}
    obstacles = {
        layer.name: _obstacle(layer) for layer in model.layers if _kernel_size(layer) is not None
    }
    possible = [model.get_layer(name) for name, obstacle in obstacles.items() if obstacle is None]
    shapes = _input_shapes(model, possible)
    if where is None:
        rows, columns = (-(-side // LATE_STRIDE) for side in _image_shape(model)[:2])
        chosen = [
            layer
            for layer in possible
            if shapes[layer.name][0] <= rows and shapes[layer.name][1] <= columns
        ]
    elif callable(where):
        chosen = [layer for layer in possible if where(layer)]
    else:
        chosen = _named([where] if isinstance(where, str) else list(where), model, names, obstacles)
    if not chosen:
        raise ValueError(
            f"{model.name!r} has no depthwise convolution to replace: looked for stride 1 and "
            f"'same' padding{'' if where is None else ', and `where`'}; found "
            f"{sorted(layer.name for layer in possible) or 'none'} before the choice."
        )
    return _replaced(
        model, {layer.name: shapes[layer.name][:2] for layer in chosen}, position_embedding
    )


def _check_model(model) -> None:
    if isinstance(model, keras.Sequential):
        raise ValueError(
            f"`parcify` takes a functional model; {model.name!r} is Sequential. Pass "
            "`keras.Model(model.inputs, model.outputs)`."
        )
    if not isinstance(model, keras.Model) or not compat.has_graph(model):
        kind = type(model).__name__
        raise ValueError(f"`parcify` takes a functional Keras model; got a subclassed one, {kind}.")
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        raise ValueError(f"`parcify` takes a model over one image, got the inputs {shapes}.")


def _image_shape(model: keras.Model) -> tuple[int, int, int]:
    height, width, channels = model.inputs[0].shape[1:]
    return height or DEFAULT_SIDE, width or DEFAULT_SIDE, channels


def _kernel_size(layer: layers.Layer) -> tuple[int, int] | None:
    """Of a depthwise convolution; None for any other layer and for 1x1."""
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    if not depthwise and isinstance(layer, layers.Conv2D):
        depthwise = 1 < layer.groups == layer.input.shape[-1]
    return layer.kernel_size if depthwise and max(layer.kernel_size) > 1 else None


def _obstacle(layer: layers.Layer) -> str | None:
    """Why a depthwise convolution cannot become ParC."""
    if max(layer.strides) > 1:
        return f"it has stride {max(layer.strides)}, ParC has stride 1"
    if compat.call_count(layer) > 1:
        return f"it is called {compat.call_count(layer)} times"
    if layer.padding != "same":
        return f"it has {layer.padding!r} padding and changes the size of the map"
    if layer.data_format != "channels_last":
        return "it has its channels first"
    if layer.output.shape[-1] != layer.input.shape[-1]:
        return "it multiplies the channels"
    return None


def _named(wanted: list[str], model, names: set[str], obstacles: dict) -> list[layers.Layer]:
    for name in wanted:
        if name not in names:
            possible = [each for each, obstacle in obstacles.items() if obstacle is None]
            raise ValueError(
                f"`where`: {model.name!r} has no layer {name!r}. To choose from: {possible}."
            )
        obstacle = obstacles.get(name, "it is no depthwise convolution")
        if obstacle is not None:
            raise ValueError(f"`where`: the layer {name!r} cannot become ParC: {obstacle}.")
    return [model.get_layer(name) for name in wanted]


def _input_shapes(model: keras.Model, chosen: list[layers.Layer]) -> dict[str, tuple[int, ...]]:
    """Shape of the map that each layer takes, without the batch."""
    if not chosen:
        return {}
    image = keras.KerasTensor((1, *_image_shape(model)), model.inputs[0].dtype)
    probe = keras.Model(model.input, {layer.name: layer.input for layer in chosen})
    return {
        name: tuple(tensor.shape[1:]) for name, tensor in probe.compute_output_spec(image).items()
    }


def _replaced(model, lengths: dict[str, tuple[int, int]], position_embedding: bool) -> keras.Model:
    def call(layer, *args, **kwargs):
        if layer.name not in lengths:
            return layer(*args, **kwargs)
        x = parc_halves(args[0], lengths[layer.name], layer.name, position_embedding)
        if layer.activation is not keras.activations.linear:
            x = layers.Activation(layer.activation, name=f"{layer.name}_activation")(x)
        return x

    new = keras.models.clone_model(model, input_tensors=new_input(model), call_function=call)
    kept = {layer.name: layer for layer in model.layers if layer.name not in lengths}
    for layer in new.layers:
        if layer.name in kept:
            layer.set_weights(kept[layer.name].get_weights())
    return new
