"""Running a `.tflite` file on the current LiteRT runtime."""

import os
from pathlib import Path

import numpy as np
from flatbuffers import flexbuffers

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.metadata import recorded_scale
from keras_parc.lite.file.probe import check_runs, refusal
from keras_parc.models.inputs import InputScale, check_values
from keras_parc.support import compat
from keras_parc.support.notices import without_notices


def open_file(path: str | os.PathLike, threads: int = 1, delegate: bool = True):
    """An interpreter of a `.tflite` file, tensors allocated; `delegate=False`: without XNNPACK.

    It is first run in a child process if need be: see `probe.check_runs`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a TensorFlow Lite model, or cannot be run.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    with open(path, "rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise ValueError(
                f"{str(path)!r} is not a TensorFlow Lite model: its identifier 'TFL3' is "
                "missing. Export one with `keras_parc.to_tflite`."
            )
    kernels = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    check_runs(path, kernels.name, threads)
    try:
        with without_notices():  # of the delegate, that it exists
            interpreter = Interpreter(
                str(path), num_threads=threads, experimental_op_resolver_type=kernels
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(refusal(path, str(error))) from error
    return interpreter


def operators(path: str | os.PathLike) -> list[str]:
    """Names of the operations in a file, in order, before a delegate replaces them."""
    return [each["op_name"] for each in compat.operation_details(open_file(path, delegate=False))]


class _ImageFile:
    """A file that takes one image at a time."""

    def __init__(self, path: str | os.PathLike, threads: int):
        self.path = Path(path)
        self._interpreter = open_file(path, threads)
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise ValueError(f"A file with one input is needed; {str(path)!r} has {len(inputs)}.")
        self._input = inputs[0]
        recorded, self.crop = recorded_scale(path)
        self.input_scale = recorded or self._quantized_scale()
        self.input_shape = tuple(int(side) for side in self._input["shape"])
        self.input_dtype = np.dtype(self._input["dtype"])

    def _quantized_scale(self) -> InputScale | None:
        """Of a uint8 input, which clients pass pixels as they are, what these stand for."""
        scale, zero_point = self._input["quantization"]
        if self._input["dtype"] != np.uint8 or not scale:
            return InputScale() if self._input["dtype"] == np.uint8 else None
        return InputScale((float(zero_point),) * 3, (float(f"{1 / scale:.6g}"),) * 3)

    def operators(self) -> list[str]:
        """Names of the operations in the file, in order, before a delegate replaces them."""
        return operators(self.path)

    def _checked(self, images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        if images.shape[1:] != self.input_shape[1:]:
            raise ValueError(
                f"Images must be (n, {', '.join(map(str, self.input_shape[1:]))}), got "
                f"{images.shape}."
            )
        check_values(images, self.input_scale)
        return images

    def _run(self, image: np.ndarray) -> None:
        image, (scale, zero_point) = image[None], self._input["quantization"]
        if self.input_dtype != np.float32 and scale:
            limits = np.iinfo(self.input_dtype)
            image = np.clip(np.rint(image / scale + zero_point), limits.min, limits.max)
        self._interpreter.set_tensor(self._input["index"], image.astype(self.input_dtype))
        self._interpreter.invoke()

    def _value(self, output: dict) -> np.ndarray:
        value = self._interpreter.get_tensor(output["index"])[0]
        scale, zero_point = output["quantization"]
        if output["dtype"] != np.float32 and scale:
            value = (value.astype("float32") - zero_point) * scale
        return value


class TFLiteModel(_ImageFile):
    """A `.tflite` file as a function of images.

    A damaged file can end the runtime, and with it the process. So one that this process has not
    made is first run in a child process, on zeros and on random pixels: 0.2 s and two inferences,
    once for each content. A file made to fail on other images alone is not found so.

    Args:
        path: The file.
        threads: Threads of the runtime, at least 1.

    Attributes:
        path: The file.
        input_shape: Shape of the input, `(1, height, width, channels)`.
        input_dtype: Type of the input.
        input_scale: What the file takes, a `keras_parc.models.inputs.InputScale`; None where it
            does not say.
        crop: How much of an image it sees in evaluation, see `keras_parc.layers.ImageInput`.
        output_shape: Shape of the output, `(1, ...)`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a TensorFlow Lite model, cannot be run, or it has
            several inputs or outputs.

    Example:
        >>> import keras_parc, numpy, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> keras_parc.TFLiteModel(path)(numpy.zeros((5, 32, 32, 3))).shape
        (5, 2)
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        super().__init__(path, threads)
        outputs = self._interpreter.get_output_details()
        if len(outputs) != 1:
            raise ValueError(f"A file with one output is needed; {str(path)!r} has {len(outputs)}.")
        self._output = outputs[0]
        self.output_shape = tuple(int(side) for side in self._output["shape"])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run images `(n, height, width, channels)`, as the model takes them, one by one.

        Warns if all values of an image lie in 0..1 and the model takes pixels.

        Returns:
            The outputs as float32, `(n, ...)`; quantized values are converted to real numbers.

        Raises:
            ValueError: The images are not of the model's size, or hold NaN or infinity.
        """
        return np.stack([self._one(image) for image in self._checked(images)])

    def _one(self, image: np.ndarray) -> np.ndarray:
        self._run(image)
        return self._value(self._output)


class TFLiteDetector(_ImageFile):
    """A `.tflite` file of a detector with post-processing inside, as a function of images.

    Args:
        path: The file.
        threads: Threads of the runtime, at least 1.

    Attributes:
        path: The file.
        input_shape: Shape of the input, `(1, height, width, channels)`.
        input_dtype: Type of the input.
        input_scale: What the file takes, a `keras_parc.models.inputs.InputScale`; None where it
            does not say.
        crop: How much of an image it sees in evaluation, see `keras_parc.layers.ImageInput`.
        classes: Number of classes, without background.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a TensorFlow Lite model, cannot be run, or it is not
            such a detector.

    Example:
        >>> import keras_parc, numpy, tempfile
        >>> backbone = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), include_top=False)
        >>> model = keras_parc.SSDLite(backbone, classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> found = keras_parc.TFLiteDetector(path)(numpy.zeros((5, 32, 32, 3)))
        >>> len(found), sorted(found[0])
        (5, ['boxes', 'labels', 'scores'])
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        super().__init__(path, threads)
        self._outputs = {}
        if self._interpreter.get_signature_list():
            self._outputs = self._interpreter.get_signature_runner().get_output_details()
        if set(self._outputs) != {"boxes", "classes", "scores", "count"}:
            raise ValueError(
                f"{str(path)!r} is not a detector with post-processing inside: its outputs are "
                f"{sorted(self._outputs)}. Export one with `keras_parc.to_tflite`."
            )
        try:
            graph = flatbuffer.read(self.path.read_bytes()).subgraphs[0]
            options = flexbuffers.Loads(bytes(graph.operators[-1].customOptions))
            self.classes = int(options["num_classes"])
        except Exception as error:  # the readers raise whatever damage provokes
            problem = f"the number of its classes cannot be read ({error!r})"
            raise ValueError(refusal(path, problem)) from error

    def __call__(self, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Run images `(n, height, width, channels)`, as the model takes them, one by one.

        Warns if all values of an image lie in 0..1 and the model takes pixels.

        Returns:
            For each image "boxes" `(k, 4)`, `[ymin, xmin, ymax, xmax]` as fractions of the image,
            "scores" `(k,)` and "labels" `(k,)`, for the k boxes found: as `keras_parc.detections`.

        Raises:
            ValueError: The images are not of the model's size, or hold NaN or infinity.
        """
        return [self._one(image) for image in self._checked(images)]

    def _one(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self._run(image)
        values = {name: np.array(self._value(each)) for name, each in self._outputs.items()}
        count = int(values["count"])  # Values beyond it are left over in memory.
        return {
            "boxes": values["boxes"][:count],
            "scores": values["scores"][:count],
            "labels": values["classes"][:count].astype("int32"),
        }


def open_model(path: str | os.PathLike, threads: int = 1) -> TFLiteModel | TFLiteDetector:
    """A `.tflite` file as a function of images, whether it has one output or is a detector.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is neither.
    """
    several = len(open_file(path, threads).get_output_details()) > 1
    return (TFLiteDetector if several else TFLiteModel)(path, threads)
