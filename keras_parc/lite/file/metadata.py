"""What a `.tflite` file says about itself: labels, input normalization, description.

MediaPipe Tasks and Android's Task Library run a model without code when they find these: a table
in the file's metadata and, for the labels, a zip archive behind the model's bytes
(https://ai.google.dev/edge/litert/conversion/tensorflow/metadata).
"""

import dataclasses
import io
import lzma
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_parc.layers.image_input import CHANNELS
from keras_parc.lite.file import flatbuffer, image_facts
from keras_parc.lite.file.metadata_outputs import (
    ACTIVATIONS,
    AXIS_LABELS,
    LABEL_FILE,
    PARSER_VERSIONS,
    SEGMENTER_ENTRY,
    VALUE_LABELS,
    describe_outputs,
)
from keras_parc.lite.file.metadata_tables import decode, encode
from keras_parc.models.inputs import InputScale
from keras_parc.support.images import CENTRE
from keras_parc.support.text import lines_of

ENTRY = "TFLITE_METADATA"
RGB = 1
MAX_LABELS = 2**22  # bytes, unpacked
# Earlier words for the tasks.
OLD_TASKS = {"classify": "classification", "detect": "detection", "segment": "segmentation"}
# What flatbuffers and zipfile raise on damaged content.
DAMAGE = (
    *(ValueError, TypeError, AttributeError, LookupError, RuntimeError, EOFError),
    *(struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError),
)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a `.tflite` file says about itself.

    Args:
        labels: Names of the classes, a list of strings without line breaks, in the order of the
            scores; empty if the classes have no names: then the file has no list of labels.
        name: Name of the model.
        description: What it does.
        version: Its version, such as "1.0".
        author: Who made it.
        licence: Its licence, such as "Apache-2.0".
        mean: What clients subtract from RGB pixels of 0..255, one value or one a channel.
        std: What they divide the difference by, above 0, one value or one a channel. The result is
            the model's input: 0 and 1 are for a model that takes 0..255. MediaPipe needs the same
            values for all channels.
        channels: "rgb" or "bgr": the order of the colours that the model takes. Clients such as
            MediaPipe know only "rgb".
        crop: As of `keras_parc.layers.ImageInput`: how much of an image a classifier is shown by
            the tools of this package.
        task: "classification", "detection", "segmentation", or "embed" for the features of a model
            without a head, which have no labels.
        activation: For "segmentation", what the client must apply to the scores: "none", "sigmoid"
            or "softmax" (for the logits of `keras_parc.DeepLabV3`).

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> Metadata(labels=["cat", "dog"], mean=127.5, std=127.5).mean
        (127.5,)
    """

    labels: tuple[str, ...] = ()
    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    licence: str = ""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: str = "rgb"
    crop: float = CENTRE
    task: str = "classification"
    activation: str = "none"

    def __post_init__(self):
        for field in ("name", "description", "version", "author", "licence"):
            if not isinstance(getattr(self, field), str):
                raise ValueError(f"`{field}` must be a string, got {getattr(self, field)!r}.")
        if isinstance(self.labels, str):
            raise ValueError(f"`labels` must be a list of strings, got {self.labels!r}.")
        labels = tuple(self.labels)
        for label in labels:
            if not isinstance(label, str) or "\n" in label or "\r" in label:
                raise ValueError(f"A label must be a string without line breaks, got {label!r}.")
        # The file holds float32; the shortest decimal makes what is read equal to what was given.
        mean, std = (
            tuple(float(str(value)) for value in np.atleast_1d(np.asarray(values, np.float32)))
            for values in (self.mean, self.std)
        )
        if not len(mean) == len(std) or len(mean) not in (1, 3):
            raise ValueError(f"`mean` and `std` must be 1 or 3 values, got {mean} and {std}.")
        if not np.isfinite(mean + std).all() or min(std) <= 0:
            raise ValueError(f"`mean` must be finite, `std` above 0, got {mean} and {std}.")
        if self.channels not in CHANNELS:
            raise ValueError(f"`channels` must be one of {CHANNELS}, got {self.channels!r}.")
        if not 0 < self.crop <= 1:
            raise ValueError(f"`crop` must be above 0, 1 at most, got {self.crop!r}.")
        task = OLD_TASKS.get(self.task, self.task)
        if task not in PARSER_VERSIONS:
            raise ValueError(f"`task` must be one of {list(PARSER_VERSIONS)}, got {self.task!r}.")
        if self.activation not in (ACTIVATIONS if task == "segmentation" else ("none",)):
            raise ValueError(
                f"`activation` must be one of {ACTIVATIONS} for 'segmentation' and 'none' for "
                f"other tasks, got {self.activation!r} for {task!r}."
            )
        if task == "embed" and labels:
            raise ValueError(f"An embedder has no `labels`, got {labels}.")
        mean, std = (values[:1] if len(set(values)) == 1 else values for values in (mean, std))
        if len(mean) != len(std):
            mean, std = (values * (3 // len(values)) for values in (mean, std))
        values = {"labels": labels, "mean": mean, "std": std, "task": task}
        for field, value in values.items():
            object.__setattr__(self, field, value)

    @property
    def scale(self) -> InputScale:
        """What the model takes."""
        mean, std = (each * (3 // len(each)) for each in (self.mean, self.std))
        return InputScale(mean, std, self.channels)


def add_metadata(content: bytes, metadata: Metadata, anchors: np.ndarray | None = None) -> bytes:
    """Put metadata into the bytes of a `.tflite` file; the same input gives the same bytes.

    Args:
        content: A `.tflite` file without metadata whose input is one RGB image
            `(1, height, width, 3)`, float32 or uint8 for MediaPipe. Its outputs are, for
            "classification", one `(1, classes)`; for "embed", one `(1, features)`; for
            "segmentation", one
            `(1, height, width, classes)`; for "detection", four whose names in the signature
            contain "box", "class", "score" and "count", or two, deltas `(1, anchors, 4)` ("box")
            and probabilities `(1, anchors, classes)` ("score").
        metadata: What to put in.
        anchors: Of a detector with two outputs, `(anchors, 4)`: centre y, centre x, height, width.

    Returns:
        The new content; the model computes the same.

    Raises:
        ValueError: `content` is not such a file or already has metadata, the labels are not as many
            as the classes, or a uint8 input is not quantized as `mean` and `std` say (clients pass
            it the pixels as they are).

    Example:
        >>> import keras_parc, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> size = path.write_bytes(add_metadata(path.read_bytes(), Metadata(labels=["a", "b"])))
        >>> read_metadata(path).labels
        ('a', 'b')
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(_model(content))
    if any(entry.name == ENTRY.encode() for entry in model.metadata or []):
        raise ValueError("The file already has metadata; export the model again.")
    table = encode("ModelMetadata", _describe(model, metadata, anchors), b"M001")
    flatbuffer.add_entry(model, ENTRY, table)
    file = io.BytesIO()
    file.write(flatbuffer.write(model))
    if metadata.labels:
        with zipfile.ZipFile(file, "a") as archive:
            # ZipInfo's default date is fixed, in 1980; its default system is the one it runs on.
            information = zipfile.ZipInfo(LABEL_FILE)
            information.create_system = 3
            archive.writestr(information, "".join(f"{label}\n" for label in metadata.labels))
    return file.getvalue()


def read_metadata(path: str | os.PathLike) -> Metadata | None:
    """Read the metadata of a `.tflite` file, whichever program wrote it.

    Args:
        path: The file.

    Returns:
        The metadata, its labels empty if the file has no list of them; None if it has no metadata.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a TensorFlow Lite model, or its metadata is damaged.

    Example:
        >>> import keras_parc, tempfile
        >>> model = keras_parc.ParCNetTiny(input_shape=(32, 32, 3), classes=2)
        >>> path, metadata = tempfile.mkdtemp() + "/model.tflite", Metadata(labels=["a", "b"])
        >>> read_metadata(keras_parc.to_tflite(model, path, metadata=metadata)) == metadata
        True
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    content = path.read_bytes()
    try:
        table, record = _entry(content, ENTRY), _entry(content, image_facts.ENTRY)
        values = {} if table is None else _understand(decode("ModelMetadata", table), content)
        if record is not None:
            scale, crop = image_facts.understood(record)
            values |= {"crop": crop} | (dataclasses.asdict(scale) if scale else {})
        return Metadata(**values) if values else None
    except DAMAGE as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error


def recorded_scale(path: str | os.PathLike) -> tuple[InputScale | None, float]:
    """What images a file takes, as far as it says so, and its crop.

    Args:
        path: A `.tflite` file, whichever program wrote it.

    Raises:
        ValueError: What it says is damaged.
    """
    content = Path(path).read_bytes()
    try:
        record = _entry(content, image_facts.ENTRY)
        if record is not None:
            return image_facts.understood(record)
        table = _entry(content, ENTRY)
        values = {} if table is None else _normalization(decode("ModelMetadata", table))
        if not values:
            return None, CENTRE
        return Metadata(mean=values["mean"], std=values["std"]).scale, CENTRE
    except DAMAGE as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error


def _entry(content: bytes, name: str) -> bytes | None:
    """What stands under a name in a file."""
    model = _model(content)
    for i in range(model.MetadataLength()):
        if model.Metadata(i).Name() == name.encode():
            return bytes(model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy())
    return None


def _model(content):
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise ValueError("It is not a TensorFlow Lite model: its identifier 'TFL3' is missing.")
    return schema.Model.GetRootAs(content, 0)


def _describe(model, metadata: Metadata, anchors: np.ndarray | None) -> dict:
    """The table of the metadata, after checking the model's tensors."""
    if len(model.subgraphs) != 1 or len(model.subgraphs[0].inputs) != 1:
        raise ValueError("A model of one subgraph with one input is needed.")
    graph = model.subgraphs[0]
    _check_input(graph.tensors[graph.inputs[0]], metadata)
    subgraph = {
        "input_tensor_metadata": [
            {
                "name": "image",
                "description": "RGB image",
                "content": {"content_properties": ("ImageProperties", {"color_space": RGB})},
                "process_units": [
                    {
                        "options": (
                            "NormalizationOptions",
                            {"mean": metadata.mean, "std": metadata.std},
                        )
                    }
                ],
            }
        ],
        **describe_outputs(model, metadata, anchors),
    }
    texts = {field: getattr(metadata, field) for field in ("name", "description", "version")}
    texts |= {"author": metadata.author, "license": metadata.licence}
    return {
        **{field: text for field, text in texts.items() if text},
        "subgraph_metadata": [subgraph],
        "min_parser_version": PARSER_VERSIONS[metadata.task],
    }


def _check_input(tensor, metadata):
    from ai_edge_litert.schema_py_generated import TensorType

    shape = tuple(tensor.shape.tolist())
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise ValueError(f"The input must be one RGB image (1, height, width, 3), got {shape}.")
    if tensor.type not in (TensorType.FLOAT32, TensorType.UINT8, TensorType.INT8):
        raise ValueError("The input must be float32, uint8 or int8.")
    if tensor.type != TensorType.UINT8:
        return
    if max(len(metadata.mean), len(metadata.std)) > 1:
        raise ValueError(
            "A uint8 input has one scale for all channels, which cannot be three means or "
            f"deviations, {metadata.mean} and {metadata.std}: export with io='float32', or put the "
            "preprocessing into the model."
        )
    scale, zero = 1.0, 0
    if tensor.quantization is not None and tensor.quantization.scale is not None:
        (scale,), (zero,) = tensor.quantization.scale, tensor.quantization.zeroPoint
    pixels = np.array([[0.0], [255.0]])
    wanted = (pixels - metadata.mean) / metadata.std
    if np.abs((pixels - zero) * scale - wanted).max() > scale:
        raise ValueError(
            f"The uint8 input stands for {scale:.6g} * (pixel - {zero}), the metadata says (pixel "
            f"- {metadata.mean}) / {metadata.std}. Give the mean and std of the model, and "
            "calibrate on images with values of 0 and 255."
        )


def _normalization(table: dict) -> dict[str, tuple[float, ...]]:
    """Mean and deviation of the image in the metadata of a file, none if it does not say."""
    for unit in table["subgraph_metadata"][0]["input_tensor_metadata"][0].get("process_units", []):
        if "options" in unit:
            return {name: tuple(values) for name, values in unit["options"][1].items()}
    return {}


def _understand(table: dict, content: bytes) -> dict:
    (subgraph,) = table["subgraph_metadata"]
    values = {field: table.get(field, "") for field in ("name", "description", "version", "author")}
    values |= _normalization(table)
    outputs = subgraph["output_tensor_metadata"]
    task, activation = "classification", "none"
    if "location" in {output.get("name") for output in outputs}:
        task = "detection"
    for entry in subgraph.get("custom_metadata", []):
        if entry["name"] == SEGMENTER_ENTRY:
            task = "segmentation"
            options = decode("ImageSegmenterOptions", entry["data"])
            activation = ACTIVATIONS[options.get("activation", 0)]
    labels = ()
    for output in outputs:
        for file in output.get("associated_files", []):
            if file.get("type") in (AXIS_LABELS, VALUE_LABELS) and not labels:
                labels = _packed_lines(content, file["name"])
    licence = table.get("license", "")
    facts = {"labels": labels, "licence": licence, "task": task, "activation": activation}
    return values | facts


def _packed_lines(content: bytes, name: str) -> list[str]:
    """The lines of a text file in the archive behind the model."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = archive.getinfo(name).file_size
        if size > MAX_LABELS:
            raise ValueError(f"its labels take {size} bytes, expected at most {MAX_LABELS}.")
        text = archive.read(name).decode()
    return lines_of(text) if text else []
