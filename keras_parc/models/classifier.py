"""What every classifier shares: its arguments, input, head and weights."""

import functools
import os
from collections.abc import Callable

import keras
from keras import layers, ops

from keras_parc.layers.blocks import Tensor
from keras_parc.layers.image_input import ImageInput
from keras_parc.models.features import features
from keras_parc.models.inputs import AUTHORS, InputScale
from keras_parc.models.registry import ModelEntry, find_model
from keras_parc.weights.loading import load_own, load_preset, preset_file
from keras_parc.weights.presets import Preset, find_preset

MIN_SIDE = 32
DEFAULT_SIZE = (256, 256)


def image_input(
    input_tensor: Tensor | None, shape: tuple, scale: InputScale, minimum: int = MIN_SIDE
) -> Tensor:
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
    if input_tensor is not None:
        return input_tensor
    if shape[-1] != 3:
        return keras.Input(shape, name="image")
    return ImageInput(shape, scale.mean, scale.std, scale.channels, name="image").output


def preprocess(x: Tensor, scale: InputScale) -> Tensor:
    """RGB 0..255 to what the weights expect."""
    if x.shape[-1] != 3:
        raise ValueError(
            f"The preprocessing inside the model needs RGB images of 3 channels, got "
            f"{x.shape[-1]}: pass `include_preprocessing=False` and scale the images yourself."
        )
    factor = [1 / std for std in scale.std]
    offset = [-mean / std for mean, std in zip(scale.mean, scale.std, strict=True)]
    if len({*zip(factor, offset, strict=True)}) == 1:
        (factor, *_), (offset, *_) = factor, offset
    x = layers.Rescaling(factor, offset=offset, name="rescale")(x)
    return ops.flip(x, axis=-1) if scale.channels == "bgr" else x


def image_classifier(
    backbone: Callable[[Tensor], Tensor],
    architecture: str | None = None,
    *,
    name: str,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool = True,
    dropout: float = 0.2,
    head_norm: Callable[[Tensor], Tensor] | None = None,
    scale: InputScale = AUTHORS,
) -> keras.Model:
    """Wrap a backbone function in the input, the head and the weights of a classifier.

    Args:
        backbone: Function of an image tensor `(batch, height, width, channels)` that returns the
            last feature map.
        architecture: Name of the registered constructor, which knows the default input size and the
            published weights; None: 256x256, and none.
        name: Name of the model; this and the arguments up to `include_preprocessing` are those of
            the public constructors, which document them.
        dropout: Rate before the classifier.
        head_norm: Function applied to the pooled features.
        scale: What the backbone takes: by default BGR 0..1, as the authors'.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.
        OSError: Published weights can be neither found nor downloaded, or not be cached.

    Example:
        >>> from keras_parc.layers.blocks import conv_norm_act
        >>> net = image_classifier(lambda x: conv_norm_act(x, 8, 3, 2), name="net", classes=10)
        >>> net.output_shape
        (None, 10)
    """
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max', got {pooling!r}.")
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be a whole number of at least 1, got {classes!r}.")
    softmax = keras.activations.get(classifier_activation) is keras.activations.softmax
    if include_top and classes == 1 and softmax:
        raise ValueError(
            "The softmax of one class is 1 for every image: pass `classes=2`, or "
            "`classifier_activation='sigmoid'` for a yes or no."
        )
    entry = find_model(architecture) if architecture else None
    load_into = weight_loader(weights, entry, include_top)
    if input_shape is None:
        size = entry.input_size if entry else DEFAULT_SIZE
        input_shape = (*size, 3) if include_top else (None, None, 3)
    outer = InputScale() if include_preprocessing else scale
    image = image_input(input_tensor, tuple(input_shape), outer)
    x = backbone(preprocess(image, scale) if include_preprocessing else image)
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
    # What comes before an `input_tensor` is not in published weights.
    load_into(model, model if input_tensor is None else keras.Model(image, x))
    return model


def weight_loader(
    weights: str | os.PathLike | None, entry: ModelEntry | None, include_top: bool = True
) -> Callable[[keras.Model, keras.Model], None]:
    """Find the weights of a constructor before its model is built: errors come at once.

    Args:
        weights: None, the name of a preset of the model, or the path of a file.
        entry: The model's entry; None for a model that is not registered.
        include_top: Whether the model has its top.

    Returns:
        A function of the model and of the part of it that published weights are for, which loads
        them; with None it does nothing.

    Raises:
        ValueError: An unknown preset, or a file of another kind.
        FileNotFoundError: There is no such file.
        OSError: Published weights can be neither found nor downloaded, or not be cached.
    """
    found = _checked(weights, entry, include_top)
    if isinstance(found, Preset):
        published = functools.partial(_published, entry, found)
        path = preset_file(found, published, entry.name_map)
        return lambda model, own: load_preset(own, found, path, published, entry.class_layers)
    if found is None:
        return lambda model, own: None
    return lambda model, own: load_own(model, found, entry.class_layers if entry else ())


def _published(entry: ModelEntry, preset: Preset) -> keras.Model:
    """The model that the converted file of a preset fits."""
    if preset.scope:
        return features(entry.build(include_top=False))
    return entry.build(classes=preset.classes)


def _checked(
    weights: str | os.PathLike | None, entry: ModelEntry | None, include_top: bool
) -> str | Preset | None:
    """Reject an unknown preset or a missing file before the model is built."""
    if weights is None:
        return None
    path = os.fspath(weights)
    # A name, even where a folder "imagenet" lies about.
    if isinstance(weights, str) and not {os.sep, "."} & set(weights):
        presets = entry.all_presets if entry else ()
        return find_preset(presets, entry.name if entry else None, weights, include_top)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"`weights`: there is no file {path!r}. Expected None, the name of a preset, or the "
            "path of a .weights.h5 or .keras file written by `save_weights` or `save`."
        )
    if path.endswith((".pt", ".pth")):
        raise ValueError(
            f"`weights`: {path!r} is a PyTorch checkpoint; convert it first: keras-parc import "
            f"{path} --model {entry.name if entry else 'MODEL'} "
            f"{os.path.splitext(path)[0]}.weights.h5"
        )
    if not path.endswith((".weights.h5", ".keras")):
        raise ValueError(
            f"`weights`: expected a file ending in .weights.h5 or .keras, got {path!r}."
        )
    return path
