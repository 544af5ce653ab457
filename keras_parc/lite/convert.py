"""Conversion of a Keras model to a `.tflite` file of built-in operations only."""

import dataclasses
import logging
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_parc.lite import detector
from keras_parc.lite.detector import Postprocess, is_detector
from keras_parc.lite.exported import ExportedFile
from keras_parc.lite.file.image_facts import record
from keras_parc.lite.file.metadata import Metadata, add_metadata
from keras_parc.lite.file.outputs import values_of
from keras_parc.lite.file.probe import mark_safe
from keras_parc.lite.file.strips import device_for, in_strips
from keras_parc.lite.process import conversion_process
from keras_parc.lite.proof import converted
from keras_parc.lite.quantize import ranges
from keras_parc.lite.quantize.calibration import calibration_images
from keras_parc.lite.quantized import quantized
from keras_parc.lite.rewrite.checked import Reference, random_samples
from keras_parc.lite.rewrite.forms import check_target
from keras_parc.lite.rewrite.signature import ModelInputs, model_inputs
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
    io: str | None = None,
    *,
    rewrite: bool = True,
    target: str = "litert",
    metadata: Metadata | None = None,
    postprocess: Postprocess | None = None,
    input_range: str | None = None,
    input_shape: Any = None,
    strict: bool = False,
    cache_kib: int | None = None,
) -> ExportedFile:
    """Convert a model to a `.tflite` file of fixed inputs of batch 1.

    The model is rewritten by `deploy` first. The rewritten model, and then the file, are compared
    with the model on random inputs and on calibration images: what would make them differ is left
    out and named in a warning. `keras_parc.inspect` tells what the file contains. The upsampling at
    the end of a segmenter (`keras_parc.DeepLabV3`) is left out: the file returns the logits at low
    resolution, and clients such as MediaPipe resize them to the image.

    Args:
        model: A built Keras model: functional, or subclassed and called once. Several inputs and
            outputs keep their names and order, as the model nests them. An input of uint8 images
            becomes one of float32.
        path: The file to write, ending in `.tflite`. Written under a temporary name and renamed.
        input_size: `(height, width)` in pixels; default: the model's own. Needed when that is
            unknown.
        quantize: None for float32; "float16": weights in float16; "dynamic": weights in int8,
            activations in float32; "int8": weights per channel and activations in int8.
        calibration: For "int8": several hundred images from the training data, as the model takes
            them: `(n, height, width, channels)`, an iterable of `(height, width, channels)`, a
            `tf.data` set, or a folder of image files; see `calibration_images`. Of a model of
            several inputs: arrays, nested as the model takes them, or an iterable of such examples.
        io: Type of the input and the outputs: "float32", or with "int8" also "uint8" or "int8".
            Default: "int8" for the target "npu", else "float32".
        rewrite: Whether to rewrite the model; False converts it as it is, for comparison.
        target: See `deploy`. For "npu", nothing computes in float32: `quantize` must be "int8";
            None writes the float32 file that it is compared with.
        metadata: Labels, normalization and description to put into the file, so that MediaPipe
            Tasks and Android's libraries run it without code. They feed RGB: the model must be
            built with `include_preprocessing=True`.
        postprocess: For a detector (`keras_parc.SSDLite`): what follows its last convolution;
            default: `Postprocess()`.
        input_range: What the model takes, where it does not say so itself: one of "0..255", "0..1",
            "-1..1", "imagenet" (mean and deviation of ImageNet), "caffe" (BGR, mean subtracted),
            "bgr-0..1" (the authors'). It is recorded in the file, where the tools of this package
            read it; without it, `keras_parc.models.inputs.known_scale` finds it in the model.
        input_shape: The shapes of all inputs without the batch, nested as the model takes them,
            where they are open and no images, or not known: `(28, 28)`, `[(224, 224, 3), (5,)]`.
        strict: Whether it is an error, not a warning, that a part of the model could not be
            rewritten so that it computes the same.
        cache_kib: KiB of the cache that a core of the device has to itself, such as 512 for a
            Raspberry Pi 5. Maps that do not fit are computed in strips of rows where that pays: the
            same results to the bit, in a fraction of the memory. 0: never, which suits a GPU.
            Default: 512 for "portable"; for "litert" 2048, and a larger cache behind it.

    Returns:
        The path written. With "int8" its `closeness` is that of the outputs to the model's, on
        calibration images that were held out.

    Raises:
        ValueError: An argument is out of its range, the shape of an input is unknown or not the
            model's, calibration images are missing, of the wrong shape, or not finite, metadata or
            post-processing do not fit the model, or with `strict` the rewrite differs.
        RuntimeError: Keras does not run on TensorFlow, the model needs an operation that is not
            built into TensorFlow Lite or that computes something else there, or the conversion
            process died.
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
    check_target(target)
    if target == "npu" and quantize != "int8":
        if quantize is not None:
            raise ValueError(
                f"An NPU runs int8 alone: `quantize` must be 'int8', got {quantize!r}."
            )
        log.warning("No NPU runs a float32 file: for one that it does, pass quantize='int8'.")
    if io is None:
        io = "int8" if target == "npu" and quantize == "int8" else "float32"
    if io not in IO or (io != "float32" and quantize != "int8"):
        raise ValueError(f"`io` must be 'float32', or with int8 one of {IO}, got {io!r}.")
    device = device_for(target, cache_kib)
    inputs = model_inputs(model, input_size, input_shape)
    if metadata is not None and not isinstance(metadata, Metadata):
        raise ValueError(f"`metadata` must be a `keras_parc.Metadata`, got {metadata!r}.")
    model = low_resolution(model)
    anchors = ssd_anchors(model, inputs.image[:2]) if is_detector(model) else None
    if postprocess is not None and anchors is None:
        raise ValueError(f"`postprocess` is for an `SSDLite`, which {model.name!r} is not.")
    if metadata is not None and inputs.image is not None:
        _check_metadata(metadata, model, inputs.image, anchors is not None)
    scale, crop, metadata = _image_facts(model, inputs, metadata, input_range)
    images = None
    if quantize == "int8":
        images = calibration_images(calibration, inputs, model, input_range=input_range)
    # The file is created first: the folder may not be writable.
    with replacing(path) as temporary, conversion_process() as process:
        temporary.touch()
        process.start()
        reference = Reference(model, inputs, _samples(inputs, scale, images))
        task = metadata.task if metadata is not None else None
        found = converted(
            reference, quantize, process, task=task, target=target, rewrite=rewrite, strict=strict
        )
        content, closeness = found.content, None
        if quantize == "int8":
            detects = anchors is not None
            content, closeness = quantized(
                found,
                images,
                io,
                detector.RANGES if detects else ranges.DEFAULT,
                target,
                ends_float=detects,
            )
        whole = content
        if rewrite:
            content = in_strips(content, device, reference.samples[0])
        if anchors is not None:
            content = detector.finish(content, anchors, postprocess or Postprocess())
        if inputs.image and inputs.image[-1] == 3:
            content = record(content, scale, crop)
        if metadata is not None:
            content = add_metadata(content, metadata, anchors)
        temporary.write_bytes(content)
        mark_safe(content)
    exported = ExportedFile(path)
    exported.closeness = closeness
    if quantize == "int8":
        exported.whole, exported.reference = whole, found.content
    return exported


def _samples(inputs: ModelInputs, scale, images) -> list[list[np.ndarray]]:
    """What the file is compared on: random inputs, and two calibration images if there are any."""
    chosen = [list(values_of(each)) for each in (images or [])[:2]]
    return random_samples(inputs, scale) + chosen


def _check_metadata(
    metadata: Metadata, model: keras.Model, image: tuple[int, ...], detects: bool
) -> None:
    if detects != (metadata.task == "detection"):
        raise ValueError(
            f"`metadata` is for the task {metadata.task!r}, which {model.name!r} does not do."
        )
    if detects:
        classes = model.output["scores"].shape[-1] - 1
    else:
        rank = 4 if metadata.task == "segmentation" else 2
        shapes = _output_shapes(model, image)
        if len(shapes) != 1 or len(shapes[0]) != rank:
            raise ValueError(
                f"`metadata` is for the task {metadata.task!r}, whose models have one output of "
                f"rank {rank}; {model.name!r} has {shapes}."
            )
        classes = shapes[0][-1]
    if metadata.labels and len(metadata.labels) != classes:
        raise ValueError(
            f"`metadata` has {len(metadata.labels)} labels, but {model.name!r} has {classes} "
            "classes."
        )


def _output_shapes(model: keras.Model, image: tuple[int, ...]) -> list[tuple]:
    """The shape of each output; a subclassed model, which does not list them, is asked."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        outputs = keras.tree.flatten(model(keras.KerasTensor((1, *image))))
    return [tuple(each.shape) for each in outputs]


def _image_facts(
    model: keras.Model, inputs: ModelInputs, metadata: Metadata | None, input_range: str | None
) -> tuple[InputScale | None, float, Metadata | None]:
    """What the file says of its images: scale, crop, and the metadata with the same scale."""
    if inputs.image is None:
        if metadata is not None or input_range is not None:
            raise ValueError(
                f"`metadata` and `input_range` are for models of one image; {model.name!r} takes "
                f"{[each.shape for each in inputs.entries]}."
            )
        return None, CENTRE, None
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
