"""Pictures of what a model looks at."""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops


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
        >>> model = keras_parc.ParCNetXS(input_shape=(64, 64, 3), classes=10)
        >>> keras_parc.grad_cam(model, np.random.rand(64, 64, 3)).shape
        (64, 64)
    """
    image = np.asarray(image, "float32")
    _check(model, image)
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
    from matplotlib import colormaps

    image, heat = np.asarray(image, "float32"), np.asarray(heat)
    if image.shape != (*heat.shape, 3):
        raise ValueError(
            f"`image` must be (height, width, 3) of the size of `heat` {heat.shape}, got "
            f"{image.shape}."
        )
    colours = 255 * colormaps["jet"](heat)[..., :3]
    return np.rint((1 - opacity) * image + opacity * colours).clip(0, 255).astype("uint8")


def _check(model, image: np.ndarray) -> None:
    if not hasattr(model, "_nodes_by_depth"):
        raise ValueError("`grad_cam` takes a functional Keras model.")
    wanted = tuple(model.inputs[0].shape[1:])
    fits = len(wanted) == image.ndim == 3 and all(
        side in (None, own) for side, own in zip(wanted, image.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"`image` must be {wanted}, as {model.name!r} takes it; got {image.shape}."
        )
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

    output = model._run_through_graph([ops.convert_to_tensor(image[None])], operation)
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
    raise RuntimeError(f"`grad_cam` needs TensorFlow, JAX or PyTorch, Keras runs on {backend!r}.")
