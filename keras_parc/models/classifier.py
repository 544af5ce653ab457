"""What every image classifier of the zoo shares: its arguments, input, head, weights, features."""

import functools
import os
from collections.abc import Callable

import keras
from keras import layers, ops

from keras_parc.layers.blocks import Tensor
from keras_parc.weights.loading import load_preset, preset_file
from keras_parc.weights.presets import Preset, find_preset

MIN_SIDE = 32


def image_input(input_tensor: Tensor | None, shape: tuple, minimum: int = MIN_SIDE) -> Tensor:
    """Check `shape` `(height, width, channels)` and make the input, or take `input_tensor`."""
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                f"`input_tensor` must be a Keras tensor such as `keras.Input(...)`, got "
                f"{type(input_tensor).__name__}."
            )
        shape = tuple(input_tensor.shape[1:])
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(f"The input must be (height, width, channels), got {tuple(shape)}.")
    for side, length in zip(("height", "width"), shape, strict=False):
        if length is not None and length < minimum:
            raise ValueError(f"The input {side} must be at least {minimum}, got {length}.")
    return keras.Input(shape, name="image") if input_tensor is None else input_tensor


def preprocess(x: Tensor) -> Tensor:
    """RGB 0..255 to what the authors' weights expect: BGR 0..1, no mean, no deviation."""
    if x.shape[-1] != 3:
        raise ValueError(
            f"`include_preprocessing=True` needs RGB images of 3 channels, got {x.shape[-1]}."
        )
    x = layers.Rescaling(1 / 255, name="rescale")(x)
    return ops.flip(x, axis=-1)


def image_classifier(
    backbone: Callable[[Tensor], Tensor],
    *,
    name: str,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool = False,
    dropout: float = 0.2,
    default_side: int = 256,
    architecture: str | None = None,
    head_norm: Callable[[Tensor], Tensor] | None = None,
) -> keras.Model:
    """Wrap a backbone function in the input, the head and the weights of a classifier.

    The public constructors pass their arguments through; they document them. `architecture` is
    the constructor's public name, by which `keras_parc.list_presets()` knows its weights;
    `head_norm` is applied to the pooled features.
    """
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max', got {pooling!r}.")
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be a whole number of at least 1, got {classes!r}.")
    load_into = weight_loader(weights, architecture, include_top)
    if input_shape is None:
        input_shape = (default_side, default_side, 3) if include_top else (None, None, 3)
    image = image_input(input_tensor, tuple(input_shape))
    x = backbone(preprocess(image) if include_preprocessing else image)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        x = head_norm(x) if head_norm else x
        x = layers.Dropout(dropout, name="head_dropout")(x)
        x = layers.Dense(
            classes,
            activation=classifier_activation,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="predictions",
        )(x)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(name="max_pool")(x)
    inputs = image if input_tensor is None else keras.utils.get_source_inputs(input_tensor)[0]
    model = keras.Model(inputs, x, name=name)
    load_into(model)
    return model


def weight_loader(
    weights: str | os.PathLike | None, architecture: str | None, include_top: bool = True
) -> Callable[[keras.Model], None]:
    """Find the weights of a constructor before its model is built: errors come at once.

    Args:
        weights: None, the name of a preset of `architecture`, or the path of a file.
        architecture: The constructor's public name.
        include_top: Whether the model has its top.

    Returns:
        A function that loads them into a model; with None it does nothing.

    Raises:
        ValueError: An unknown preset, or a file of another kind.
        FileNotFoundError: There is no such file.
        OSError: Published weights can be neither found nor downloaded, or not be cached.
    """
    found = _checked(weights, architecture, include_top)
    if isinstance(found, Preset):
        return functools.partial(load_preset, preset=found, path=preset_file(found))
    return lambda model: found and model.load_weights(found)


def _checked(
    weights: str | os.PathLike | None, architecture: str | None, include_top: bool
) -> str | Preset | None:
    """Reject an unknown preset or a missing file before the model is built."""
    if weights is None:
        return None
    path = os.fspath(weights)
    # A name, even where a folder "imagenet" lies about.
    if isinstance(weights, str) and not {os.sep, "."} & set(weights):
        return find_preset(architecture, weights, include_top)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"`weights`: there is no file {path!r}. Expected None, the name of a preset, or the "
            "path of a .weights.h5 or .keras file written by `save_weights` or `save`."
        )
    if path.endswith((".pt", ".pth")):
        raise ValueError(
            f"`weights`: {path!r} is a PyTorch checkpoint; convert it first: keras-parc import "
            f"{path} --model {architecture or 'MODEL'} {os.path.splitext(path)[0]}.weights.h5"
        )
    if not path.endswith((".weights.h5", ".keras")):
        raise ValueError(
            f"`weights`: expected a file ending in .weights.h5 or .keras, got {path!r}."
        )
    return path


def features(model: keras.Model) -> keras.Model:
    """The backbone of a model as a pyramid of feature maps, for detection and segmentation.

    The weights are shared with `model`; layers beyond the last stage are left out.

    Args:
        model: A model of this package, with or without its top, also one loaded from a file.

    Returns:
        A model with the inputs of `model` and a dict of outputs: "P2", "P3", "P4", "P5", the last
        tensor of stages 2 to 5, at strides 4, 8, 16, 32 (with `output_stride=16` P5 is at 16,
        with 8 P4 and P5 are at 8).

    Raises:
        ValueError: `model` has no layers named `stage2_...` to `stage5_...`.

    Example:
        >>> import keras_parc
        >>> backbone = keras_parc.ParCNetXS(include_top=False, input_shape=(64, 96, 3))
        >>> {key: map.shape[1:] for key, map in keras_parc.features(backbone).output.items()}
        {'P2': (16, 24, 64), 'P3': (8, 12, 96), 'P4': (4, 6, 128), 'P5': (2, 3, 160)}
    """
    pyramid = {}
    for stage in range(2, 6):
        members = [layer for layer in model.layers if layer.name.startswith(f"stage{stage}_")]
        if not members:
            raise ValueError(
                f"`features` takes a model of keras_parc, whose layers are named 'stage2_...' to "
                f"'stage5_...'; {model.name!r} has no layer 'stage{stage}_...'."
            )
        pyramid[f"P{stage}"] = members[-1].output
    return keras.Model(model.input, pyramid, name=f"{model.name}_features")
