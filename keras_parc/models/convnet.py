"""The constructor that the three ConvNets with ParC share.

The paper shows that ParC is a plug-in (section 4.3, Table 3): in the late stages of a ConvNet some
blocks get one step of ParC, half the channels along each side, in place of their spatial
convolution. The names of stages follow the stride: stage N ends at stride 2 ** N.
"""

import functools
import os
from collections.abc import Callable

import keras

from keras_parc.layers.blocks import Tensor
from keras_parc.models.classifier import image_classifier

_DOCSTRING = """{title}: {summary}

    Args:
        include_top: Whether to include the classifier. Without it the output is the last feature
            map, `(batch, height / 32, width / 32, {channels})`, or its pooled vector.
        weights: None (random) or the path of a `.weights.h5` or `.keras` file of this model.
        input_tensor: Optional Keras tensor to build on, e.g. `keras.Input((224, 224, 3))`.
        input_shape: `(height, width, 3)`, sides of at least 32 or None. Default: `(224, 224, 3)`
            with the top, `(None, None, 3)` without. At 224 no kernel is resampled; the authors'
            version takes nothing else, this one any size, rectangles too.
        pooling: Without the top: None, "avg" or "max".
        classes: Number of classes.
        classifier_activation: Activation of the top; None returns logits.
        name: Name of the model.
        include_preprocessing: True: the model takes RGB images 0..255 (uint8 or float) and turns
            them to BGR 0..1 itself, as all models of this package. False: it takes BGR 0..1.
        parc: False builds the plain ConvNet, for comparison.
        position_embedding: Whether the circular convolutions are position aware.
        output_stride: 32, 16 or 8, for dense prediction; without dilation.

    Returns:
        A functional `keras.Model`; see `keras_parc.features` for its feature pyramid.

    Raises:
        ValueError: An argument out of its range.
        FileNotFoundError: `weights` names no file.

    Source: arXiv 2203.03952, Table 3; {source}.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.{function}(input_shape=(64, 96, 3), classes=10)
        >>> model.output_shape
        (None, 10)
    """


def convnet(
    function: str,
    backbone: Callable[..., Tensor],
    *,
    model_name: str,
    title: str,
    summary: str,
    source: str,
    channels: int,
    dropout: float = 0.0,
    head_norm: Callable[[Tensor], Tensor] | None = None,
) -> Callable[..., keras.Model]:
    """Make the public constructor of a ConvNet.

    Args:
        function: Its name.
        backbone: Function of an image tensor and the keywords `parc`, `position_embedding` and
            `output_stride`: all up to the last feature map.
        model_name: Default name of the model.
        title: The paper's name.
        summary: One line on its size.
        source: Reference of the plain ConvNet.
        channels: Channels of the last feature map.
        dropout: Rate before the classifier.
        head_norm: Normalization of the pooled features.

    Returns:
        A function with the arguments of `keras.applications` and its own docstring.
    """

    def constructor(
        include_top: bool = True,
        weights: str | os.PathLike | None = None,
        input_tensor: Tensor | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        name: str = model_name,
        *,
        include_preprocessing: bool = False,
        parc: bool = True,
        position_embedding: bool = True,
        output_stride: int = 32,
    ) -> keras.Model:
        return image_classifier(
            functools.partial(
                backbone,
                parc=parc,
                position_embedding=position_embedding,
                output_stride=output_stride,
            ),
            name=name,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            include_preprocessing=include_preprocessing,
            dropout=dropout,
            default_side=224,
            head_norm=head_norm,
        )

    constructor.__name__ = constructor.__qualname__ = function
    constructor.__module__ = backbone.__module__  # where it is found by this name
    constructor.__doc__ = _DOCSTRING.format(
        title=title, summary=summary, channels=channels, source=source, function=function
    )
    return constructor
