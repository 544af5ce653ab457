"""Running a `.tflite` file on the current LiteRT runtime."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from flatbuffers import flexbuffers

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.metadata import recorded_scale
from keras_parc.lite.file.outputs import quantized, real
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


class _File:
    """A file that takes one example at a time."""

    def __init__(self, path: str | os.PathLike, threads: int):
        self.path = Path(path)
        self._interpreter = open_file(path, threads)
        self._inputs, self._outputs = file_tensors(self._interpreter)
        self.input_shape = alone({name: tensor_shape(each) for name, each in self._inputs.items()})
        self.input_dtype = alone(
            {name: np.dtype(each["dtype"]) for name, each in self._inputs.items()}
        )
        self.names = tuple(self._inputs)
        recorded, self.crop = recorded_scale(path)
        self.input_scale = recorded or self._quantized_scale()

    def _quantized_scale(self) -> InputScale | None:
        """Of a uint8 input, which clients pass pixels as they are, what these stand for."""
        each, *others = self._inputs.values()
        if others or each["dtype"] != np.uint8:
            return None
        scale, zero_point = each["quantization"]
        if not scale:
            return InputScale()
        return InputScale((float(zero_point),) * 3, (float(f"{1 / scale:.6g}"),) * 3)

    def operators(self) -> list[str]:
        """Names of the operations in the file, in order, before a delegate replaces them."""
        return operators(self.path)

    def _checked(self, inputs) -> Iterator[tuple[np.ndarray, ...]]:
        """The examples one by one, an array for each input."""
        arrays = [np.asarray(each) for each in self._flat(inputs)]
        for array, (name, each) in zip(arrays, self._inputs.items(), strict=True):
            shape = tensor_shape(each)
            if array.shape[1:] != shape[1:] or array.ndim != len(shape):
                what = "Images" if len(arrays) == 1 else f"The input {name!r}"
                raise ValueError(
                    f"{what} must be (n, {', '.join(map(str, shape[1:]))}), got {array.shape}."
                )
        if len(arrays) == 1 and arrays[0].ndim == 4:
            check_values(arrays[0], self.input_scale)
        counts = sorted({len(array) for array in arrays})
        if len(counts) > 1:
            raise ValueError(f"The inputs have different numbers of examples: {counts}.")
        return zip(*arrays, strict=True)

    def _flat(self, inputs) -> list:
        names = list(self._inputs)
        if isinstance(inputs, dict):
            if set(inputs) == set(names):
                return [inputs[name] for name in names]
        elif len(names) == 1:
            return [inputs]
        elif isinstance(inputs, (list, tuple)) and len(inputs) == len(names):
            return list(inputs)
        raise ValueError(
            f"The inputs must be a dictionary of {names}, or a list of them in this order."
        )

    def _run(self, example: Sequence[np.ndarray]) -> None:
        for value, each in zip(example, self._inputs.values(), strict=True):
            self._interpreter.set_tensor(each["index"], quantized(value[None], each))
        self._interpreter.invoke()

    def _value(self, output: dict) -> np.ndarray:
        return first(real(self._interpreter.get_tensor(output["index"]), output))


def file_tensors(interpreter) -> tuple[dict[str, dict], dict[str, dict]]:
    """The inputs and the outputs by name, in order: those of the signature, where there is one."""
    found = []
    for kind in ("input", "output"):
        details = getattr(interpreter, f"get_{kind}_details")()
        names: dict[int, list[str]] = {}  # of a tensor that is two outputs there are two
        if interpreter.get_signature_list():
            runner = interpreter.get_signature_runner()
            for name, each in getattr(runner, f"get_{kind}_details")().items():
                names.setdefault(int(each["index"]), []).append(name)
        found.append({(names.get(int(x["index"])) or [x["name"]]).pop(0): x for x in details})
    return tuple(found)


def tensor_shape(tensor: dict) -> tuple[int, ...]:
    """The shape of a tensor of the runtime; `tensor`: its details."""
    return tuple(int(side) for side in tensor["shape"])


def first(output: np.ndarray) -> np.ndarray:
    """An output without its batch of one; as it is, if its first side is no batch."""
    return output[0] if output.shape[:1] == (1,) else output


def alone(values: dict):
    """The only value of a dictionary; the dictionary if it has several."""
    return next(iter(values.values())) if len(values) == 1 else values


class TFLiteModel(_File):
    """A `.tflite` file as a function of images, or of whatever it takes.

    A damaged file can end the runtime, and with it the process. So one that this process has not
    made is first run in a child process, on zeros and on random pixels: 0.2 s and two inferences,
    once for each content. A file made to fail on other images alone is not found so.

    Args:
        path: The file.
        threads: Threads of the runtime, at least 1.

    Attributes:
        path: The file.
        input_shape: Shape of the input, `(1, height, width, channels)`; of several inputs a
            dictionary by name, in order. So are `input_dtype` and `output_shape`.
        names: Of the inputs, in order.
        input_dtype: Type of the input.
        input_scale: What the file takes, a `keras_parc.models.inputs.InputScale`; None where it
            does not say.
        crop: How much of an image it sees in evaluation, see `keras_parc.layers.ImageInput`.
        output_shape: Shape of the output, `(1, ...)`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a TensorFlow Lite model, or cannot be run.

    Example:
        >>> import keras_parc, numpy, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> keras_parc.TFLiteModel(path)(numpy.zeros((5, 32, 32, 3))).shape
        (5, 2)
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        super().__init__(path, threads)
        self.output_shape = alone(
            {name: tensor_shape(each) for name, each in self._outputs.items()}
        )

    def __call__(self, images):
        """Run images `(n, height, width, channels)`, as the model takes them, one by one.

        Warns if all values of an image lie in 0..1 and the model takes pixels.

        Args:
            images: Of a file of several inputs a dictionary or list of arrays `(n, ...)`.

        Returns:
            The outputs, `(n, ...)`, quantized values as real numbers (float32); of several outputs
            a dictionary by name, in order.

        Raises:
            ValueError: The images are not of the model's size, or hold NaN or infinity.
        """
        found: dict[str, list] = {name: [] for name in self._outputs}
        for example in self._checked(images):
            self._run(example)
            for name, each in self._outputs.items():
                found[name].append(np.array(self._value(each)))
        return alone({name: np.stack(values) for name, values in found.items()})


class TFLiteDetector(_File):
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
        return [self._one(example) for example in self._checked(images)]

    def _one(self, example: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        self._run(example)
        values = {name: np.array(self._value(each)) for name, each in self._outputs.items()}
        count = int(values["count"])  # Values beyond it are left over in memory.
        return {
            "boxes": values["boxes"][:count],
            "scores": values["scores"][:count],
            "labels": values["classes"][:count].astype("int32"),
        }


def open_model(path: str | os.PathLike, threads: int = 1) -> TFLiteModel | TFLiteDetector:
    """A `.tflite` file as a function of images, whether it is a detector or not.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be run.
    """
    operations = compat.operation_details(open_file(path, threads))
    detects = any(each["op_name"] == "TFLite_Detection_PostProcess" for each in operations)
    return (TFLiteDetector if detects else TFLiteModel)(path, threads)
