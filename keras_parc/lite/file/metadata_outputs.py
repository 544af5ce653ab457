"""What a file's metadata says about its outputs, for each task."""

from typing import TYPE_CHECKING

import numpy as np

from keras_parc.lite.file.metadata_tables import encode
from keras_parc.models.boxes import VARIANCE

if TYPE_CHECKING:
    from keras_parc.lite.file.metadata import Metadata

LABEL_FILE = "labels.txt"
AXIS_LABELS, VALUE_LABELS = 2, 3  # A label for each place of the last axis, or for each value.
GRAYSCALE = 2
SEGMENTER_ENTRY = "SEGMENTER_METADATA"
DETECTOR_ENTRY = "DETECTOR_METADATA"
ACTIVATIONS = ("none", "sigmoid", "softmax")
# The version of the schema that added what the task needs.
PARSER_VERSIONS = {
    "classification": "1.0.0",
    "detection": "1.2.0",
    "embed": "1.0.0",
    "segmentation": "1.5.0",
}
# MediaPipe's names of a detector's outputs, and what the names in the signature contain.
DETECTIONS = {
    "location": ("location", "box"),
    "category": ("category", "class"),
    "score": ("score",),
    "number of detections": ("num", "count"),
}
RAW_DETECTIONS = ("location", "score")  # Where the client decodes and suppresses.


def describe_outputs(model, metadata: "Metadata", anchors: np.ndarray | None) -> dict:
    """The fields of a `SubGraphMetadata` that are about the outputs.

    Args:
        model: The objects of a file with one subgraph.
        metadata: What the file says about itself.
        anchors: Of a detector that leaves decoding to the client, `(anchors, 4)`.

    Returns:
        Fields as `metadata_tables.encode` takes them.

    Raises:
        ValueError: The outputs are not those of the task, or the labels are not as many as the
            classes.
    """
    graph = model.subgraphs[0]
    shapes = [tuple(graph.tensors[index].shape.tolist()) for index in graph.outputs]
    return OUTPUTS[metadata.task](model, shapes, metadata, anchors)


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


def _embedding(model, shapes, metadata, anchors):
    if len(shapes) != 1 or shapes[0] != (1, shapes[0][-1]):
        raise ValueError(
            f"An embedder has one output (1, features), got {shapes}: build the model with "
            '`pooling="avg"`.'
        )
    tensor = {
        "name": "embedding",
        "description": "Features of the image",
        "content": {"content_properties": ("FeatureProperties", {})},
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


OUTPUTS = {
    "classification": _scores,
    "detection": _detections,
    "embed": _embedding,
    "segmentation": _mask,
}


def _check_labels(classes, metadata):
    if metadata.labels and len(metadata.labels) != classes:
        raise ValueError(
            f"`labels` must name each of the model's {classes} classes, got {len(metadata.labels)}."
        )
