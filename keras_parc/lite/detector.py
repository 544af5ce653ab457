"""The end of an exported detector: from deltas and logits to what clients read."""

from dataclasses import dataclass

import keras
import numpy as np
from flatbuffers import flexbuffers

from keras_parc.lite.file import flatbuffer
from keras_parc.models.boxes import VARIANCE

OPERATION = "TFLite_Detection_PostProcess"
# How the ranges of int8 are chosen: those of least error cut off what is rare, the objects.
RANGES = "minmax"


@dataclass(frozen=True, kw_only=True)
class Postprocess:
    """What an exported detector does after its last convolution.

    Args:
        raw: False: the runtime's operation TFLite_Detection_PostProcess decodes the boxes and
            suppresses overlapping ones, class by class; outputs are "boxes" `(1, most, 4)`,
            `[ymin, xmin, ymax, xmax]` in shares of the image, "classes" and "scores" `(1, most)`
            and "count" `(1,)`, all float32. What lies past the count is not a result.
            True: the client does that; outputs are "boxes" `(1, anchors, 4)`, deltas y, x, height,
            width, and "scores" `(1, anchors, classes)`, probabilities without the background. The
            anchors are in the metadata.
        score_threshold: The least probability of a result, 0 to 1.
        iou_threshold: Of two boxes of one class that overlap by more, the better one stays, 0 to 1.
        most: The most results, at least 1.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> Postprocess(most=25).most
        25
    """

    raw: bool = False
    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    most: int = 100

    def __post_init__(self):
        for name in ("score_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be 0 to 1, got {getattr(self, name)}.")
        if self.most < 1:
            raise ValueError(f"`most` must be at least 1, got {self.most}.")


def is_detector(model: keras.Model) -> bool:
    """Whether a model puts out what an `SSDLite` does."""
    output = getattr(model, "output", None)  # a Sequential model may have none
    return isinstance(output, dict) and set(output) == {"boxes", "scores"}


def finish(content: bytes, anchors: np.ndarray, post: Postprocess) -> bytes:
    """Put softmax and post-processing behind the deltas and logits of a file, in float32.

    Args:
        content: The bytes of a file with the outputs "boxes" and "scores", float32.
        anchors: `(anchors, 4)`, "center_yxhw".
        post: What to do.

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
    shapes = {"boxes": (1, post.most, 4), "classes": (1, post.most), "scores": (1, post.most)}
    inputs = [boxes, probabilities, flatbuffer.add_constant(model, "anchors", anchors)]
    shapes["count"] = (1,)
    numbers = flatbuffer.append(model, OPERATION, inputs, shapes, flatbuffer.TYPES["float32"])
    options = {
        "max_detections": post.most,
        "max_classes_per_detection": 1,
        "detections_per_class": post.most,
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
