"""What a `.tflite` file says about itself: labels, input normalization, description.

MediaPipe Tasks and Android's Task Library run a model without code when they find these: a table
in the file's metadata and, for the labels, a zip archive behind the model's bytes
(https://ai.google.dev/edge/litert/conversion/tensorflow/metadata).
"""

import io
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_parc.lite.file.metadata_tables import decode, encode
from keras_parc.models.boxes import VARIANCE

ENTRY = "TFLITE_METADATA"
LABEL_FILE = "labels.txt"
AXIS_LABELS, VALUE_LABELS = 2, 3  # A label for each place of the last axis, or for each value.
RGB, GRAYSCALE = 1, 2
SEGMENTER_ENTRY = "SEGMENTER_METADATA"
DETECTOR_ENTRY = "DETECTOR_METADATA"
ACTIVATIONS = ("none", "sigmoid", "softmax")
# The version of the schema that added what the task needs.
PARSER_VERSIONS = {"classify": "1.0.0", "detect": "1.2.0", "segment": "1.5.0"}
# MediaPipe's names of a detector's outputs, and what the names in the signature contain.
DETECTIONS = {
    "location": ("location", "box"),
    "category": ("category", "class"),
    "score": ("score",),
    "number of detections": ("num", "count"),
}
RAW_DETECTIONS = ("location", "score")  # Where the client decodes and suppresses.
# What flatbuffers and zipfile raise on damaged content.
DAMAGE = (
    *(ValueError, TypeError, AttributeError, LookupError, RuntimeError, EOFError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a `.tflite` file says about itself.

    Args:
        labels: Names of the classes, a list of strings without line breaks, in the order of the
            scores.
        name: Name of the model.
        description: What it does.
        version: Its version, such as "1.0".
        author: Who made it.
        licence: Its licence, such as "Apache-2.0".
        mean: One value, or one a channel, subtracted from RGB pixels of 0..255 ...
        std: ... and what the difference is divided by, above 0. The result is the model's input:
            0 and 1 for a model that takes 0..255. MediaPipe wants the same values for all channels.
        task: "classify", "detect" or "segment".
        activation: For "segment", what remains to be done to the scores: "none", "sigmoid" or
            "softmax" (the logits of `keras_parc.DeepLabV3`).

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
    task: str = "classify"
    activation: str = "none"

    def __post_init__(self):
        for field in ("name", "description", "version", "author", "licence"):
            if not isinstance(getattr(self, field), str):
                raise ValueError(f"`{field}` must be a string, got {getattr(self, field)!r}.")
        if isinstance(self.labels, str):
            raise ValueError(f"`labels` must be a list of strings, got {self.labels!r}.")
        labels = tuple(self.labels)
        for label in labels:
            if not isinstance(label, str) or "".join(label.splitlines()) != label:
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
        if self.task not in PARSER_VERSIONS:
            raise ValueError(f"`task` must be one of {list(PARSER_VERSIONS)}, got {self.task!r}.")
        if self.activation not in (ACTIVATIONS if self.task == "segment" else ("none",)):
            raise ValueError(
                f"`activation` must be one of {ACTIVATIONS} for 'segment' and 'none' for other "
                f"tasks, got {self.activation!r} for {self.task!r}."
            )
        for field, value in (("labels", labels), ("mean", mean), ("std", std)):
            object.__setattr__(self, field, value)


def add_metadata(content: bytes, metadata: Metadata, anchors: np.ndarray | None = None) -> bytes:
    """Put metadata into the bytes of a `.tflite` file; the same input gives the same bytes.

    Args:
        content: A `.tflite` file without metadata whose input is one RGB image
            `(1, height, width, 3)`, float32 or uint8 for MediaPipe. Outputs: "classify" one of
            `(1, classes)`; "segment" the last of `(1, height, width, classes)`; "detect" four,
            named in the signature after boxes, classes, scores and their number, or two, deltas
            `(1, anchors, 4)` and probabilities `(1, anchors, classes)`, so named.
        metadata: What to put in.
        anchors: Of a detector with two outputs, `(anchors, 4)`: centre y, centre x, height, width.

    Returns:
        The new content; the model computes the same.

    Raises:
        ValueError: `content` is no such file or has metadata already, the number of labels is not
            that of the classes, or a uint8 input is quantized in another way than `mean` and `std`
            say (clients give it the pixels as they are).

    Example:
        >>> import keras_parc, tempfile
        >>> model = keras_parc.ParCNetXS(input_shape=(32, 32, 3), classes=2)
        >>> path = keras_parc.to_tflite(model, tempfile.mkdtemp() + "/model.tflite")
        >>> size = path.write_bytes(add_metadata(path.read_bytes(), Metadata(labels=["a", "b"])))
        >>> read_metadata(path).labels
        ('a', 'b')
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(_model(content))
    if any(entry.name == ENTRY.encode() for entry in model.metadata or []):
        raise ValueError("The file has metadata already; export the model again.")
    table = encode("ModelMetadata", _describe(model, metadata, anchors), b"M001")
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(table, np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = ENTRY, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    file = io.BytesIO(builder.Output())
    if metadata.labels:
        with zipfile.ZipFile(file, "a") as archive:
            # ZipInfo's own date is fixed, at 1980; its system is the one it runs on.
            information = zipfile.ZipInfo(LABEL_FILE)
            information.create_system = 3
            archive.writestr(information, "".join(f"{label}\n" for label in metadata.labels))
    return file.getvalue()


def read_metadata(path: str | os.PathLike) -> Metadata | None:
    """Read the metadata of a `.tflite` file, from whichever writer.

    Args:
        path: The file.

    Returns:
        The metadata, or None where the file has none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a TensorFlow Lite model, or its metadata is damaged.

    Example:
        >>> import keras_parc, tempfile
        >>> model = keras_parc.ParCNetXS(input_shape=(32, 32, 3), classes=2)
        >>> path, metadata = tempfile.mkdtemp() + "/model.tflite", Metadata(labels=["a", "b"])
        >>> read_metadata(keras_parc.to_tflite(model, path, metadata=metadata)) == metadata
        True
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    content = path.read_bytes()
    try:
        model = _model(content)
        for i in range(model.MetadataLength()):
            if model.Metadata(i).Name() == ENTRY.encode():
                data = model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy()
                return _understand(decode("ModelMetadata", bytes(data)), content)
    except DAMAGE as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error
    return None


def _model(content):
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise ValueError("It is not a TensorFlow Lite model: its identifier 'TFL3' is missing.")
    return schema.Model.GetRootAs(content, 0)


def _describe(model, metadata: Metadata, anchors: np.ndarray | None) -> dict:
    """The table of the metadata, after a look at the model's tensors."""
    if len(model.subgraphs) != 1 or len(model.subgraphs[0].inputs) != 1:
        raise ValueError("A model of one subgraph with one input is needed.")
    graph = model.subgraphs[0]
    _check_input(graph.tensors[graph.inputs[0]], metadata)
    shapes = [tuple(graph.tensors[index].shape.tolist()) for index in graph.outputs]
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
        **OUTPUTS[metadata.task](model, shapes, metadata, anchors),
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


def _label_files(kind, metadata):
    description = "Names of the classes, one a line."
    file = {"name": LABEL_FILE, "description": description, "type": kind}
    return {"associated_files": [file]} if metadata.labels else {}


def _scores(model, shapes, metadata, anchors):
    if len(shapes) != 1 or shapes[0] != (1, shapes[0][-1]):
        raise ValueError(f"A classifier has one output (1, classes), got {shapes}.")
    _check_labels(shapes[0][-1], metadata)
    tensor = {
        "name": "score",
        "description": "Scores of the classes",
        "content": {"content_properties": ("FeatureProperties", {})},
        **_label_files(AXIS_LABELS, metadata),
    }
    return {"output_tensor_metadata": [tensor]}


def _mask(model, shapes, metadata, anchors):
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(f"A segmenter has one output (1, height, width, classes), got {shapes}.")
    _check_labels(shapes[0][-1], metadata)
    tensor = {
        "name": "segmentation_masks",
        "description": "Scores of the classes at each pixel",
        "content": {
            "content_properties": ("ImageProperties", {"color_space": GRAYSCALE}),
            "range": {"min": 1, "max": 2},
        },
        **_label_files(AXIS_LABELS, metadata),
    }
    options = {"activation": ACTIVATIONS.index(metadata.activation)}
    custom = {
        "name": SEGMENTER_ENTRY,
        "data": encode("ImageSegmenterOptions", options, b"V001"),
    }
    return {"output_tensor_metadata": [tensor], "custom_metadata": [custom]}


def _detections(model, shapes, metadata, anchors):
    """MediaPipe finds a detector's outputs by these names, wherever they stand."""
    signatures = model.signatureDefs or []
    graph = model.subgraphs[0]
    given = {
        output.tensorIndex: output.name.decode()
        for signature in signatures[:1]
        for output in signature.outputs
    }
    names = [given.get(index, "") for index in graph.outputs]
    roles = [
        next((role for role, words in DETECTIONS.items() if any(w in name for w in words)), None)
        for name in names
    ]
    raw = len(roles) == 2 and anchors is not None
    wanted = RAW_DETECTIONS if raw else tuple(DETECTIONS)
    if sorted(roles, key=str) != sorted(wanted):
        count = "two" if raw else "four"
        raise ValueError(
            f"A detector has {count} outputs, named after {list(wanted)}: got {names}."
        )
    box = {"index": (1, 0, 3, 2), "type": 1, "coordinate_type": 0}  # top, left, bottom, right: 0..1
    location = {"content_properties": ("BoundingBoxProperties", box)}
    feature = {"content_properties": ("FeatureProperties", {})}
    if raw:
        classes = shapes[roles.index("score")][-1]
        _check_labels(classes, metadata)
        tensors = {
            "location": {"content": location},
            "score": {"content": feature, **_label_files(AXIS_LABELS, metadata)},
        }
        custom = {"name": DETECTOR_ENTRY, "data": _decoding(anchors, classes)}
        more = {"custom_metadata": [custom]}
    else:
        axis = {"range": {"min": 2, "max": 2}}  # One value of the second axis for each detection.
        tensors = {
            "location": {"content": location | axis},
            "category": {"content": feature | axis, **_label_files(VALUE_LABELS, metadata)},
            "score": {"content": feature | axis},
            "number of detections": {"content": feature},
        }
        group = {"name": "detection_result", "tensor_names": list(DETECTIONS)[:3]}
        more = {"output_tensor_groups": [group]}
    return {"output_tensor_metadata": [{"name": role, **tensors[role]} for role in roles], **more}


def _decoding(anchors: np.ndarray, classes: int) -> bytes:
    """How a client makes boxes of deltas."""
    names = ("y_center", "x_center", "height", "width")
    anchors = [dict(zip(names, each, strict=True)) for each in anchors.tolist()]
    scales = zip(("y_scale", "x_scale", "h_scale", "w_scale"), VARIANCE, strict=True)
    options = {
        "ssd_anchors_options": {"fixed_anchors_schema": {"anchors": anchors}},
        "tensors_decoding_options": {
            "num_classes": classes,
            "num_boxes": len(anchors),
            "num_coords": 4,
            "num_values_per_keypoint": 2,  # of none, and yet the client insists
            **{name: 1 / variance for name, variance in scales},
            "apply_exponential_on_box_size": 1,
        },
    }
    return encode("ObjectDetectorOptions", options, b"V001")


OUTPUTS = {"classify": _scores, "segment": _mask, "detect": _detections}


def _check_labels(classes, metadata):
    if len(metadata.labels) != classes:
        raise ValueError(
            f"`labels` must name each of the model's {classes} classes, got {len(metadata.labels)}."
        )


def _understand(table: dict, content: bytes) -> Metadata:
    (subgraph,) = table["subgraph_metadata"]
    values = {field: table.get(field, "") for field in ("name", "description", "version", "author")}
    for unit in subgraph["input_tensor_metadata"][0].get("process_units", []):
        if "options" in unit:
            values |= unit["options"][1]
    outputs = subgraph["output_tensor_metadata"]
    task, activation = "classify", "none"
    if "location" in {output.get("name") for output in outputs}:
        task = "detect"
    for entry in subgraph.get("custom_metadata", []):
        if entry["name"] == SEGMENTER_ENTRY:
            task = "segment"
            options = decode("ImageSegmenterOptions", entry["data"])
            activation = ACTIVATIONS[options.get("activation", 0)]
    labels = ()
    for output in outputs:
        for file in output.get("associated_files", []):
            if file.get("type") in (AXIS_LABELS, VALUE_LABELS) and not labels:
                with zipfile.ZipFile(io.BytesIO(content)) as archive:
                    labels = archive.read(file["name"]).decode().splitlines()
    licence = table.get("license", "")
    return Metadata(**values, labels=labels, licence=licence, task=task, activation=activation)
