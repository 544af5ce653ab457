"""Pictures of what a model looks at, and of what is inside the ParC layers."""

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from keras_parc.support import compat
from keras_parc.support.extras import needs_extra


def grad_cam(
    model: keras.Model,
    image: np.ndarray,
    class_index: int | None = None,
    layer: str | None = None,
) -> np.ndarray:
    """Which places of an image speak for a class: gradient-weighted class activation mapping.

    Runs on the TensorFlow, JAX and PyTorch backends.

    Args:
        model: A functional classifier of images; a softmax at its end is left out.
        image: `(height, width, channels)`, as the model takes it.
        class_index: The class, from 0; default: the one the model predicts.
        layer: Name of the layer whose output map is weighted; default: the last map, the one
            before the pooling.

    Returns:
        `(height, width)` float32 of the image's size, 0..1, 1 at the strongest place; all 0 where
        nothing speaks for the class.

    Raises:
        ValueError: The image does not fit the model, the class or the layer does not exist, the
            layer's output is no map, or the model is no functional classifier.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, arXiv 1610.02391, equations 1 and 2.

    Example:
        >>> import numpy as np, keras_parc
        >>> model = keras_parc.ParCNetTiny(input_shape=(64, 64, 3), classes=10)
        >>> keras_parc.grad_cam(model, np.random.rand(64, 64, 3)).shape
        (64, 64)
    """
    image = np.asarray(image, "float32")
    _check_image(model, image)
    _check_classifier(model)
    target = _map_layer(model, layer)
    shape, seen = _run(model, image, target)
    classes = seen["scores"].shape[-1]
    if class_index is None:
        class_index = int(np.argmax(ops.convert_to_numpy(seen["scores"])[0]))
    if not 0 <= class_index < classes:
        raise ValueError(f"`class_index` must be in 0..{classes - 1}, got {class_index}.")

    def score(shift):
        _, seen = _run(model, image, target, shift)
        return seen["scores"][0, class_index]

    # The gradient by something added to the map is that by the map.
    gradient = _gradient(score, np.zeros(shape, "float32"))[0]
    features = ops.convert_to_numpy(seen["map"])[0]
    heat = np.maximum(features @ gradient.mean((0, 1)), 0)
    size = image.shape[:2]
    heat = ops.image.resize(heat[..., None], size, "bilinear", data_format="channels_last")
    heat = ops.convert_to_numpy(heat)[..., 0].astype("float32")
    return heat / heat.max() if heat.max() > 0 else heat


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Lay a heat map over an image. Needs matplotlib.

    Args:
        image: `(height, width, 3)` RGB, 0..255.
        heat: `(height, width)`, 0..1, such as `grad_cam` returns.
        opacity: Of the colours, 0..1.

    Returns:
        `(height, width, 3)` uint8, RGB: blue is 0, red is 1.

    Raises:
        ValueError: The two differ in size.

    Example:
        >>> import numpy as np
        >>> overlay(np.zeros((4, 6, 3)), np.ones((4, 6))).shape
        (4, 6, 3)
    """
    with needs_extra():
        from matplotlib import colormaps

    image, heat = np.asarray(image, "float32"), np.asarray(heat)
    if image.shape != (*heat.shape, 3):
        raise ValueError(
            f"`image` must be (height, width, 3) of the size of `heat` {heat.shape}, got "
            f"{image.shape}."
        )
    colours = 255 * colormaps["jet"](heat)[..., :3]
    return np.rint((1 - opacity) * image + opacity * colours).clip(0, 255).astype("uint8")


def effective_receptive_field(
    model: keras.Model,
    images: np.ndarray,
    layer: str | None = None,
    place: tuple[float, float] = (0.5, 0.5),
) -> np.ndarray:
    """How much each pixel moves one place of a layer's output map.

    The absolute gradient of that place, all its channels together, by the pixels; mean over the
    images. Runs on the TensorFlow, JAX and PyTorch backends.

    Args:
        model: A functional model of images.
        images: `(n, height, width, channels)`, as the model takes them, at least one. Random ones
            do; the mean of a few is smoother.
        layer: Name of the layer; default: the last one whose output is a map.
        place: Where in the map, from the top left (0, 0) to the bottom right (1, 1).

    Returns:
        `(height, width)` float32, 0..1, 1 at the pixel that counts most.

    Raises:
        ValueError: The images do not fit the model, there is no such layer or its output is no map,
            or `place` is out of range.

    Source: Luo et al., Understanding the Effective Receptive Field, NeurIPS 2016, arXiv 1701.04128.

    Example:
        >>> import numpy as np, keras_parc
        >>> model = keras_parc.ParCNetXS(input_shape=(64, 64, 3), include_top=False)
        >>> effective_receptive_field(model, np.random.rand(1, 64, 64, 3)).shape
        (64, 64)
    """
    images = np.asarray(images, "float32")
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"`images` must be (n, height, width, channels) with n of at least 1, got "
            f"{images.shape}."
        )
    if not all(0 <= part <= 1 for part in place):
        raise ValueError(f"`place` must be two numbers from 0 to 1, got {place}.")
    _check_image(model, images[0])
    target = _map_layer(model, layer)

    def centre(image):
        answer = _run(model, image, target)[1]["map"][0]
        row, column = (
            round(part * (side - 1)) for part, side in zip(place, answer.shape[:2], strict=True)
        )
        return ops.sum(answer[row, column])

    field = np.mean([np.abs(_gradient(centre, image)).sum(-1) for image in images], axis=0)
    return (field / field.max()).astype("float32") if field.max() > 0 else field


def fields_figure(fields: Mapping[str, np.ndarray]):
    """Draw receptive fields side by side, dark where a pixel counts. Needs matplotlib.

    Args:
        fields: What `effective_receptive_field` returned, by title.

    Returns:
        A matplotlib figure. Under each field is the share of its pixels that, strongest first, make
        up 95 % of all.

    Example:
        >>> figure = fields_figure({"even": np.ones((8, 8)), "spot": np.eye(8)})
        >>> [axis.get_xlabel() for axis in figure.axes]
        ['95 % in 95 % of the pixels', '95 % in 12 % of the pixels']
    """
    figure, axes = _row(len(fields))
    for axis, (title, field) in zip(axes, fields.items(), strict=True):
        # The square root shows what is weak but not nothing.
        axis.imshow(np.sqrt(field), cmap="gray_r", vmin=0, vmax=1)
        strongest = np.sort(field.ravel())[::-1].cumsum()
        share = (np.searchsorted(strongest, 0.95 * strongest[-1] * (1 - 1e-6)) + 1) / field.size
        axis.set(title=title, xticks=[], yticks=[])
        axis.set_xlabel(f"95 % in {100 * share:.0f} % of the pixels")
    return figure


def kernels_figure(layer: layers.Layer, sides: Sequence[int], channels: int = 4):
    """Draw what a ParC layer stores and what it makes of it for given sides. Needs matplotlib.

    Args:
        layer: A built `ParCV` or `ParCH`.
        sides: Sides in positions of the map, each at least 1.
        channels: How many channels to draw, the first ones.

    Returns:
        A matplotlib figure: the base kernel, and the instance kernel of each side, over the
        distance in parts of the side.

    Raises:
        ValueError: The layer has no base kernel.

    Source: equation 2 of the paper.

    Example:
        >>> import keras_parc
        >>> layer = keras_parc.ParCV(8)
        >>> layer.build((None, None, None, 4))
        >>> len(kernels_figure(layer, sides=(6, 12)).axes)
        3
    """
    from keras_parc.layers.parc import align_corners_matrix

    if not hasattr(layer, "base_kernel"):
        raise ValueError(f"{layer.name!r} is no built ParC layer: it has no `base_kernel`.")
    base = ops.convert_to_numpy(layer.base_kernel)
    base = base.reshape(len(base), -1)[:, :channels]
    resampled = {
        f"instance kernel, side {n}": align_corners_matrix(len(base), n) @ base for n in sides
    }
    figure, axes = _row(1 + len(sides))
    for axis, (title, kernel) in zip(
        axes, {f"base kernel, {len(base)}": base, **resampled}.items(), strict=True
    ):
        for values, style in zip(kernel.T, _styles(), strict=False):
            axis.plot(np.arange(len(kernel)) / len(kernel), values, "k", **style)
        axis.set(title=title, xlabel="distance, parts of the side")
    return figure


def positions_figure(layers_: Mapping[str, layers.Layer]):
    """Draw position embeddings as pictures, position by channel. Needs matplotlib.

    Args:
        layers_: Built `PositionEmbedding`, `ParCV` or `ParCH` layers, by title.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: A layer has no position embedding.

    Example:
        >>> import keras_parc
        >>> layer = keras_parc.PositionEmbedding(8, along="height")
        >>> layer.build((None, None, None, 4))
        >>> positions_figure({"height": layer}).axes[0].get_ylabel()
        'position'
    """
    figure, axes = _row(len(layers_))
    for axis, (title, layer) in zip(axes, layers_.items(), strict=True):
        if getattr(layer, "base_position", None) is None:
            raise ValueError(f"{layer.name!r} has no position embedding `base_position`.")
        values = ops.convert_to_numpy(layer.base_position)
        most = np.abs(values).max()
        axis.imshow(values, cmap="gray", vmin=-most, vmax=most, aspect="auto")
        axis.set(title=title, xlabel="channel", ylabel="position")
    return figure


def pictures_figure(pictures: Mapping[str, np.ndarray], columns: int = 4):
    """Draw pictures or single maps in a grid. Needs matplotlib.

    Args:
        pictures: `(height, width, 3)` RGB 0..255, or `(height, width)` of any range, by title.
        columns: Pictures in a row.

    Returns:
        A matplotlib figure.

    Example:
        >>> len(pictures_figure({"a": np.ones((4, 4)), "b": np.ones((4, 4, 3))}).axes)
        2
    """
    rows = -(-len(pictures) // columns)
    figure, axes = _row(min(columns, len(pictures)), rows)
    for axis in axes[len(pictures) :]:
        axis.remove()
    for axis, (title, picture) in zip(axes, pictures.items(), strict=False):
        picture = np.asarray(picture)
        axis.imshow(picture.astype("uint8") if picture.ndim == 3 else picture, cmap="gray")
        axis.set(title=title, xticks=[], yticks=[])
    return figure


def _row(columns: int, rows: int = 1):
    with needs_extra():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * columns, 3 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def _styles() -> list[dict]:
    """Lines that differ in black and white."""
    return [
        {"linestyle": line, "linewidth": width}
        for width in (2, 0.8)
        for line in ("-", "--", "-.", ":")
    ]


def _check_image(model, image: np.ndarray) -> None:
    if not compat.has_graph(model):
        raise ValueError("Expected a functional Keras model.")
    wanted = tuple(model.inputs[0].shape[1:])
    fits = len(wanted) == image.ndim == 3 and all(
        side in (None, own) for side, own in zip(wanted, image.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"`image` must be {wanted}, as {model.name!r} takes it; got {image.shape}."
        )


def _check_classifier(model) -> None:
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        shapes = [tuple(output.shape) for output in model.outputs]
        raise ValueError(f"{model.name!r} is no classifier: its outputs are {shapes}.")


def _map_layer(model: keras.Model, name: str | None) -> layers.Layer:
    """The layer named, or the last one that puts out a map."""
    if name is None:
        for layer in reversed(model.layers):
            if isinstance(layer.output, keras.KerasTensor) and _is_map(layer.output.shape):
                return layer
        raise ValueError(f"{model.name!r} has no layer that puts out a map.")
    found = [layer for layer in model.layers if layer.name == name]
    if not found:
        raise ValueError(f"`layer`: {model.name!r} has no layer {name!r}.")
    if not _is_map(found[0].output.shape):
        shape = tuple(found[0].output.shape)
        raise ValueError(f"`layer`: the output of {name!r} is no map, but {shape}.")
    return found[0]


def _is_map(shape) -> bool:
    return len(shape) == 4 and tuple(shape[1:3]) != (1, 1)


def _run(model, image: np.ndarray, target: layers.Layer, shift=None):
    """Run one image; `shift` is added to the output of `target`.

    Returns:
        The shape of that output, and a dict of it ("map") and of the scores before a softmax.
    """
    seen = {}
    last = model.layers[-1]

    def operation(op):
        def call(*args, **kwargs):
            if op is last and getattr(op, "activation", None) is keras.activations.softmax:
                seen["scores"] = args[0]
                if isinstance(op, layers.Dense):
                    seen["scores"] = ops.matmul(args[0], op.kernel)
                    seen["scores"] += op.bias if op.use_bias else 0.0
            elif op is last and isinstance(op, layers.Softmax):
                seen["scores"] = args[0]
            result = op(*args, **kwargs)
            if op is target:
                seen["map"] = result
                return result if shift is None else result + shift
            return result

        return call

    output = compat.run_through_graph(model, [ops.convert_to_tensor(image[None])], operation)
    seen.setdefault("scores", output)
    return tuple(seen["map"].shape), seen


def _gradient(function: Callable, x: np.ndarray) -> np.ndarray:
    """The gradient of a scalar function of one tensor, on the backend that Keras runs."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x).numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(ops.convert_to_tensor(x)))
    if backend == "torch":
        import torch

        x = ops.convert_to_tensor(x).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(function(x), x)
        return gradient.cpu().numpy()
    raise RuntimeError(f"Gradients need TensorFlow, JAX or PyTorch, Keras runs on {backend!r}.")
