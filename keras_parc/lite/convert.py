"""Conversion of a Keras model to a `.tflite` file of built-in operations only."""

import dataclasses
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import keras

from keras_parc.lite import detector
from keras_parc.lite.detector import Postprocess, is_detector
from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.image_facts import record
from keras_parc.lite.file.metadata import Metadata, add_metadata
from keras_parc.lite.file.probe import mark_safe
from keras_parc.lite.process import TaskError, conversion_process
from keras_parc.lite.quantize import fine_tuning, int8, ranges
from keras_parc.lite.quantize.calibration import MAX_IMAGES, calibration_images
from keras_parc.lite.rewrite import deploy as rewriting
from keras_parc.lite.rewrite.emission import emit
from keras_parc.lite.rewrite.forms import check_target
from keras_parc.lite.rewrite.graph import Graph
from keras_parc.lite.rewrite.importing import import_model
from keras_parc.lite.rewrite.operations import ACTIVATION, SOFTMAX
from keras_parc.models.deeplab_v3 import low_resolution
from keras_parc.models.inputs import InputScale, crop_of, known_scale
from keras_parc.models.ssd_lite import ssd_anchors
from keras_parc.support.files import replacing
from keras_parc.support.images import CENTRE

log = logging.getLogger(__name__)

QUANTIZE = (None, "float16", "dynamic", "int8")
IO = ("float32", "uint8", "int8")


def to_tflite(
    model: keras.Model,
    path: str | os.PathLike,
    input_size: tuple[int, int] | None = None,
    quantize: str | None = None,
    calibration: str | os.PathLike | Iterable | None = None,
    io: str = "float32",
    *,
    rewrite: bool = True,
    target: str = "litert",
    metadata: Metadata | None = None,
    fine_tune: bool = False,
    postprocess: Postprocess | None = None,
    input_range: str | None = None,
) -> Path:
    """Convert a model to a `.tflite` file with a fixed input of one image.

    The model is rewritten by `deploy` first. `keras_parc.inspect` tells what the file contains,
    `keras_parc.agreement` how close it is to the model. The upsampling at the end of a segmenter
    (`keras_parc.DeepLabV3`) is left out: the file returns the logits at low resolution, and clients
    such as MediaPipe resize them to the image.

    Args:
        model: A Keras model over one image input, `(batch, height, width, channels)`.
        path: The file to write, ending in `.tflite`. Written under a temporary name and renamed.
        input_size: `(height, width)` in pixels; default: the model's own. Needed when that is
            unknown.
        quantize: None for float32; "float16": weights in float16; "dynamic": weights in int8,
            activations in float32; "int8": weights per channel and activations in int8.
        calibration: For "int8": several hundred images from the training data, as the model takes
            them: `(n, height, width, channels)`, an iterable of `(height, width, channels)`, a
            `tf.data` set, or a folder of image files; see `calibration_images`.
        io: Type of the input and the outputs: "float32", or with "int8" also "uint8" or "int8".
        rewrite: Whether to rewrite the model; False converts it as it is, for comparison.
        target: See `deploy`.
        metadata: Labels, normalization and description to put into the file, so that MediaPipe
            Tasks and Android's libraries run it without code. They feed RGB: the model must be
            built with `include_preprocessing=True`.
        fine_tune: For "int8": train the biases of the file (the model does not change) to make up
            for the rounding, on 1000 to 4096 calibration images. It takes minutes; new biases that
            do not help on images held out are dropped. See `fine_tuning.fine_tune`.
        postprocess: For a detector (`keras_parc.SSDLite`): what follows its last convolution;
            default: `Postprocess()`.
        input_range: What the model takes, where it does not say so itself: one of "0..255", "0..1",
            "-1..1", "imagenet" (mean and deviation of ImageNet), "caffe" (BGR, mean subtracted),
            "bgr-0..1" (the authors'). It is recorded in the file, where the tools of this package
            read it; without it, `keras_parc.models.inputs.known_scale` finds it in the model.

    Returns:
        The path written.

    Raises:
        ValueError: An argument is out of its range, the input size is unknown or not the model's,
            calibration images are missing, of the wrong shape, or not finite, or metadata or
            post-processing do not fit the model.
        RuntimeError: Keras does not run on TensorFlow, the model needs an operation that is not
            built into TensorFlow Lite, or the conversion process died.
        OSError: The folder cannot be written.

    Example:
        >>> import keras_parc, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> keras_parc.TFLiteModel(path).input_shape
        (1, 32, 32, 3)
    """
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"Export needs the TensorFlow backend, Keras runs on {keras.config.backend()!r}. Save "
            "the model, then load and export it with KERAS_BACKEND=tensorflow."
        )
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"`path` must end in .tflite, got {str(path)!r}.")
    if quantize not in QUANTIZE:
        raise ValueError(f"`quantize` must be one of {QUANTIZE}, got {quantize!r}.")
    if io not in IO or (io != "float32" and quantize != "int8"):
        raise ValueError(f"`io` must be 'float32', or with int8 one of {IO}, got {io!r}.")
    if fine_tune and quantize != "int8":
        raise ValueError(f"`fine_tune` needs `quantize='int8'`, got {quantize!r}.")
    check_target(target)
    shape = rewriting.input_shape(model, input_size)
    if metadata is not None and not isinstance(metadata, Metadata):
        raise ValueError(f"`metadata` must be a `keras_parc.Metadata`, got {metadata!r}.")
    model = low_resolution(model)
    anchors = ssd_anchors(model, shape[:2]) if is_detector(model) else None
    if postprocess is not None and anchors is None:
        raise ValueError(f"`postprocess` is for an `SSDLite`, which {model.name!r} is not.")
    if metadata is not None:
        _check_metadata(metadata, model, anchors is not None)
    scale, crop, metadata = _image_facts(model, metadata, input_range)
    images = None
    if quantize == "int8":
        limit = fine_tuning.MAX_IMAGES if fine_tune else MAX_IMAGES
        images = calibration_images(calibration, shape, model, limit, input_range)
    # The file is created first: the folder may not be writable.
    with replacing(path) as temporary, conversion_process() as process:
        temporary.touch()
        process.start()
        softmax = False
        if rewrite:
            model, softmax = _rewritten(model, shape, target, quantize == "int8")
        types = (io, "float32" if softmax or anchors is not None else io)
        method = ranges.DEFAULT if anchors is None else detector.RANGES
        content = _convert(model, shape, quantize, images, types, process, fine_tune, method)
        content = _finish(content, model, quantize, io if softmax else None)
        if anchors is not None:
            content = detector.finish(content, anchors, postprocess or Postprocess())
        if shape[-1] == 3:
            content = record(content, scale, crop)
        if metadata is not None:
            content = add_metadata(content, metadata, anchors)
        temporary.write_bytes(content)
        mark_safe(content)
    return path


def _check_metadata(metadata: Metadata, model: keras.Model, detects: bool) -> None:
    if detects != (metadata.task == "detection"):
        raise ValueError(
            f"`metadata` is for the task {metadata.task!r}, which {model.name!r} does not do."
        )
    if not detects:
        rank = 2 if metadata.task == "classification" else 4
        shapes = [tuple(each.shape) for each in model.outputs]
        if len(shapes) != 1 or len(shapes[0]) != rank:
            raise ValueError(
                f"`metadata` is for the task {metadata.task!r}, whose models have one output of "
                f"rank {rank}; {model.name!r} has {shapes}."
            )
    classes = model.output["scores"].shape[-1] - 1 if detects else model.output_shape[-1]
    if metadata.labels and len(metadata.labels) != classes:
        raise ValueError(
            f"`metadata` has {len(metadata.labels)} labels, but {model.name!r} has {classes} "
            "classes."
        )


def _image_facts(
    model: keras.Model, metadata: Metadata | None, input_range: str | None
) -> tuple[InputScale | None, float, Metadata | None]:
    """What the file says of its images: scale, crop, and the metadata with the same scale."""
    scale = known_scale(model, input_range)
    crop = crop_of(model) if metadata is None or metadata.crop == CENTRE else metadata.crop
    says_nothing = metadata is None or metadata.scale == InputScale()
    if scale is None and says_nothing:
        log.warning(
            "What range of values %s takes is not known: it is not recorded in the file. State it "
            "with `input_range` (--input-range).",
            model.name,
        )
    if metadata is None:
        return scale, crop, None
    if says_nothing:
        if scale is None:
            return None, crop, metadata
        mean, std = scale.mean, scale.std
        metadata = dataclasses.replace(metadata, mean=mean, std=std, channels=scale.channels)
    elif scale not in (None, metadata.scale):
        warnings.warn(
            f"The metadata say that {model.name!r} takes {metadata.scale}, the model itself that "
            f"it takes {scale}: the file says what the metadata say.",
            stacklevel=3,
        )
    if metadata.channels != "rgb":
        warnings.warn(
            f"{model.name!r} takes BGR, but the clients that read metadata feed RGB: build it with "
            "`include_preprocessing=True`.",
            stacklevel=3,
        )
    return metadata.scale, crop, metadata


def _rewritten(model, shape, target: str, cut: bool) -> tuple[keras.Model, bool]:
    """The deployed model, and whether a last softmax was cut off it."""
    graph = import_model(model, shape)
    rewriting.rewrite(graph, target)
    softmax = cut and _cut_softmax(graph)
    return emit(graph), softmax


def _cut_softmax(graph: Graph) -> bool:
    last = graph.outputs[0]
    if len(graph.outputs) > 1 or last.op is not ACTIVATION or last["function"] is not SOFTMAX:
        return False
    graph.outputs = list(last.inputs)
    return True


def _convert(
    model, shape, quantize, images, io: tuple[str, str], process, fine_tune: bool, method: str
) -> bytes:
    import tensorflow as tf

    # Weights become constants, and gradients are left out: otherwise TensorFlow traces functions to
    # save every weight and to derive every activation, which takes longer than the conversion.
    weights, state = (
        [variable.numpy() for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    function = tf.function(
        lambda image: model.stateless_call(weights, state, image, training=False)[0],
        input_signature=[tf.TensorSpec((1, *shape), tf.float32, name="image")],
    )
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures=function, options=options)
        try:
            content = process.run("convert", folder, quantize)
        except TaskError as error:
            raise RuntimeError(
                f"{model.name!r} cannot be converted to built-in operations: {error}"
            ) from None
    if fine_tune:
        tuned = fine_tuning.fine_tune(content, images, method)
        content, images = tuned.content, tuned.calibration
    if quantize == "int8":
        content = int8.quantize(content, images, *io, method)
    return content


def _finish(content: bytes, model, quantize: str | None, softmax_io: str | None) -> bytes:
    """Make the last changes to an int8 file: symmetric matrices, a softmax in float32."""
    if quantize != "int8":
        return content
    file = flatbuffer.read(content)
    matrices = [w for layer in model.layers for w in layer.get_weights() if w.ndim == 3]
    flatbuffer.symmetric_products(file, matrices)
    if softmax_io is not None:
        flatbuffer.append_softmax(file, softmax_io)
    return flatbuffer.write(file)
