"""The end of an exported detector: from deltas and logits to what clients read."""

from dataclasses import dataclass

import keras
import numpy as np
from flatbuffers import flexbuffers

from keras_parc.lite.file import flatbuffer
from keras_parc.models.boxes import VARIANCE

OPERATION = "TFLite_Detection_PostProcess"
# int8 ranges of least squared error would cut off what is rare: the objects.
RANGES = "minmax"


@dataclass(frozen=True, kw_only=True)
class Postprocess:
    """What an exported detector does after its last convolution.

    Args:
        raw: False: the runtime's operation TFLite_Detection_PostProcess decodes the boxes and
            suppresses overlapping ones, class by class. The outputs are "boxes"
            `(1, max_boxes, 4)`, `[ymin, xmin, ymax, xmax]` as fractions of the image, "classes"
            and "scores" `(1, max_boxes)` and "count" `(1,)`, all float32; only the first `count`
            boxes are valid.
            True: the client decodes and suppresses. The outputs are "boxes" `(1, anchors, 4)`,
            deltas y, x, height, width, and "scores" `(1, anchors, classes)`, probabilities without
            the background. The anchors are in the metadata.
        score_threshold: Boxes of a lower probability are dropped, 0 to 1.
        iou_threshold: Of two boxes of one class with a larger intersection over union, only the
            one of higher probability is kept, 0 to 1.
        max_boxes: How many boxes are returned at most, at least 1.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> Postprocess(max_boxes=25).max_boxes
        25
    """

    raw: bool = False
    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    max_boxes: int = 100

    def __post_init__(self):
        for name in ("score_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be 0 to 1, got {getattr(self, name)}.")
        if self.max_boxes < 1:
            raise ValueError(f"`max_boxes` must be at least 1, got {self.max_boxes}.")


def is_detector(model: keras.Model) -> bool:
    """Whether a model has the outputs of an `SSDLite`."""
    output = getattr(model, "output", None)  # a Sequential model may have none
    return isinstance(output, dict) and set(output) == {"boxes", "scores"}


def finish(content: bytes, anchors: np.ndarray, post: Postprocess) -> bytes:
    """Put softmax and post-processing behind the deltas and logits of a file, in float32.

    Args:
        content: The bytes of a file with the outputs "boxes" and "scores", float32.
        anchors: `(anchors, 4)`, "center_yxhw".
        post: The thresholds, and which of the two forms.

    Returns:
        The new content.
    """
    model = flatbuffer.read(content)
    graph = model.subgraphs[0]
    (signature,) = model.signatureDefs
    outputs = {entry.name.decode(): entry.tensorIndex for entry in signature.outputs}
    probabilities = flatbuffer.softmax(model, outputs["scores"], "probabilities")
    if post.raw:
        found = {"boxes": outputs["boxes"], "scores": _foreground(model, probabilities)}
    else:
        found = _detections(model, outputs["boxes"], probabilities, anchors, post)
    graph.outputs = np.int32(list(found.values()))
    signature.outputs = [_entry(name, number) for name, number in found.items()]
    return flatbuffer.write(model)


def _detections(model, boxes: int, probabilities: int, anchors, post: Postprocess) -> dict:
    classes = int(model.subgraphs[0].tensors[probabilities].shape[-1]) - 1
    count = post.max_boxes
    shapes = {"boxes": (1, count, 4), "classes": (1, count), "scores": (1, count), "count": (1,)}
    inputs = [boxes, probabilities, flatbuffer.add_constant(model, "anchors", anchors)]
    numbers = flatbuffer.append(model, OPERATION, inputs, shapes, flatbuffer.TYPES["float32"])
    options = {
        "max_detections": count,
        "max_classes_per_detection": 1,
        "detections_per_class": count,
        "use_regular_nms": True,  # class by class, as detectors are evaluated
        "nms_score_threshold": post.score_threshold,
        "nms_iou_threshold": post.iou_threshold,
        "num_classes": classes,
        **{f"{side}_scale": 1 / part for side, part in zip("yxhw", VARIANCE, strict=True)},
    }
    operator = model.subgraphs[0].operators[-1]
    operator.customOptions = np.frombuffer(flexbuffers.Dumps(options), "uint8")
    return dict(zip(shapes, numbers, strict=True))


def _foreground(model, probabilities: int) -> int:
    """The probabilities without those of the background."""
    shape = model.subgraphs[0].tensors[probabilities].shape
    size = np.int32([*shape[:2], shape[2] - 1])
    inputs = [
        probabilities,
        flatbuffer.add_constant(model, "foreground_begin", np.int32([0, 0, 1])),
        flatbuffer.add_constant(model, "foreground_size", size),
    ]
    builtin, dtype = flatbuffer.BUILTIN.SLICE, flatbuffer.TYPES["float32"]
    return flatbuffer.append(model, builtin, inputs, {"foreground": size}, dtype)[0]


def _entry(name: str, number: int):
    entry = flatbuffer.schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), number
    return entry
