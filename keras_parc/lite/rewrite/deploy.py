"""The rewrite of a model for inference: same function, other operations."""

from numbers import Integral

import keras

from keras_parc.lite.rewrite import forms
from keras_parc.lite.rewrite import rules_activation as activation
from keras_parc.lite.rewrite import rules_channels as channels
from keras_parc.lite.rewrite import rules_convnets as convnets
from keras_parc.lite.rewrite import rules_linear as linear
from keras_parc.lite.rewrite import rules_parc as parc
from keras_parc.lite.rewrite import rules_segmentation as segmentation
from keras_parc.lite.rewrite.emission import emit
from keras_parc.lite.rewrite.graph import Graph, apply_everywhere
from keras_parc.lite.rewrite.importing import import_model

FOLDING = (
    linear.drop_identity,
    linear.fold_backward,
    linear.push_forward,
    linear.push_scale_forward,
    convnets.push_past_wrap,
    convnets.fold_into_parts,
)
JOINING = (
    parc.merge_circulars,
    parc.join_slices,
    parc.join_circulars,
    parc.join_affines,
    parc.join_residuals,
)


def deploy(
    model: keras.Model,
    input_size: tuple[int, int] | None = None,
    *,
    target: str = "litert",
) -> keras.Model:
    """Rewrite a model for inference at one input size: it computes the same, faster.

    Normalization and position embeddings fold into the convolutions, the two halves of a ParC
    block become one, circular convolutions get the form that the target runs fastest, grouped
    convolutions become depthwise ones, hard activations become operations that delegates run in
    int8, and preprocessing goes into the first convolution. Layers that are not known, such as your
    own, stay as they are and are named in the log.

    Args:
        model: A functional model over one image, `(batch, height, width, channels)`; it is not
            changed.
        input_size: `(height, width)` in pixels; default: the model's own. Needed when that is
            unknown.
        target: "litert" for current LiteRT, "portable" for runtimes that do not run int8 matrix
            products well (tflite-runtime up to 2.14, ARMv7).

    Returns:
        A functional model of plain Keras layers with fixed sides and the outputs of `model`: equal
        in float32 up to rounding, at most 1e-5 of the largest output.

    Raises:
        ValueError: The model is not functional, the target is unknown, or the input size is
            unknown or not the model's.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCNetTiny(input_shape=(64, 64, 3))
        >>> len(keras_parc.deploy(model).layers) < len(model.layers)
        True
    """
    forms.check_target(target)
    graph = import_model(model, input_shape(model, input_size))
    rewrite(graph, target)
    return emit(graph)


def rewrite(graph: Graph, target: str = "litert") -> None:
    """Apply all rules to a graph, in place.

    Args:
        graph: What `import_model` returns.
        target: "litert" or "portable", see `deploy`.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1)(image))
        >>> graph = import_model(keras.Model(image, x), (8, 8, 3))
        >>> rewrite(graph)
        >>> [node.op for node in graph.nodes()]
        [input, conv]
    """
    apply_everywhere(
        graph, convnets.drop_reshape, linear.dense_as_convolution, activation.expand_hard
    )
    apply_everywhere(graph, *FOLDING, *JOINING, channels.fold_permutation)
    apply_everywhere(graph, segmentation.crop_unseen_taps, segmentation.part_spread)
    apply_everywhere(graph, linear.scale_back_through_product, *FOLDING)
    apply_everywhere(graph, channels.split_groups)
    apply_everywhere(graph, channels.fold_permutation)
    forms.lower_circulars(graph, target)
    apply_everywhere(graph, *FOLDING, parc.join_affines)
    apply_everywhere(graph, convnets.activate_parts)


def input_shape(model: keras.Model, input_size: tuple[int, int] | None) -> tuple[int, int, int]:
    """The `(height, width, channels)` a model is to be exported at.

    Raises:
        ValueError: The model does not take one image, or `input_size` is missing or impossible.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a Keras model, got {model!r}. Open a file with "
            "`keras.models.load_model`."
        )
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"A functional model is needed, {model.name!r} is subclassed or not yet built."
        )
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        raise ValueError(f"A model over one image input is needed, got the inputs {shapes}.")
    height, width, channels = model.inputs[0].shape[1:]
    if input_size is None:
        input_size = (height, width)
    if not isinstance(input_size, (tuple, list)) or len(input_size) != 2:
        raise ValueError(f"`input_size` must be (height, width), got {input_size!r}.")
    if None in input_size:
        raise ValueError(
            f"The input size of {model.name!r} is not fixed: pass `input_size=(height, width)`."
        )
    for side, own, wanted in zip(("height", "width"), (height, width), input_size, strict=True):
        if isinstance(wanted, bool) or not isinstance(wanted, Integral) or wanted < 1:
            raise ValueError(
                f"`input_size`: the {side} must be positive, a whole number of pixels, got "
                f"{wanted!r}."
            )
        if own not in (None, wanted):
            raise ValueError(
                f"`input_size` asks for {side} {wanted}, but {model.name!r} is built for {own}. "
                "Build it with that size, or with None for both sides."
            )
    return (*map(int, input_size), channels)
