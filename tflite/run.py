#!/usr/bin/env python3
"""Run a .tflite model on images: classification, detection or segmentation.

    python run.py IMAGE... MODEL [--top K] [--threads N] [--labels FILE]

Needs numpy, Pillow and ai-edge-litert or tflite-runtime; Python 3.9 or newer, numpy 1.19 or newer.
Normalization, output names and labels come from the metadata in the file, where it has any.
"""

import argparse
import os
import platform
import struct
import sys
import zipfile
import zlib
from collections import namedtuple

import numpy as np

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
# The evaluation rule for classification: at input size 256, the short side goes to 288.
RESIZE_RATIO = 288 / 256
MAX_LABELS = 2**22  # bytes
# What the names of a detector's outputs contain: ours, and those MediaPipe asks for.
DETECTION_OUTPUTS = {
    "boxes": ("box", "location"),
    "classes": ("class", "category"),
    "scores": ("score",),
    "count": ("count", "num"),
}

Metadata = namedtuple("Metadata", "mean std output_names labels")


class ToolError(Exception):
    """A mistake the caller can fix; printed as one line, exit code 2."""


def load_runtime():
    """Return the interpreter module and the runtime's name with its version."""
    reasons = []
    for name in RUNTIMES:
        try:
            module = __import__(name + ".interpreter", fromlist=["Interpreter"])
        except (ImportError, AttributeError) as error:  # AttributeError: built for another numpy
            reasons.append(f"{name}: {one_line(error)}")
            continue
        version = getattr(sys.modules[name], "__version__", "of unknown version")
        return module, f"{name.replace('_', '-')} {version}"
    need = "pip install ai-edge-litert"
    if platform.machine().startswith("armv7"):
        need = "pip install tflite-runtime==2.12.0 (Python 3.9, glibc 2.34 or newer)"
    raise ToolError(
        f"expected a TFLite runtime, none can be imported ({'; '.join(reasons)}): {need}"
    )


def check_is_file(path, what):
    """Refuse a folder, a pipe or a device, at which reading could wait for ever."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ToolError(f"expected a file as {what}, {path} is none")


def open_model(path, threads=1, kernels="AUTO"):
    """Return an interpreter for the file, with its tensors allocated.

    `kernels` is a member of the runtime's OpResolverType: AUTO uses XNNPACK where it can.
    """
    check_is_file(path, "the model")
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ToolError(f"cannot read the model {path}: {error.strerror}") from error
    if head[4:8] != b"TFL3":
        raise ToolError(
            f"{path} is not a .tflite: expected TFL3 at bytes 4 to 8, got {head[4:8]!r}"
        )
    module, runtime = load_runtime()
    try:
        interpreter = module.Interpreter(
            model_path=str(path),
            num_threads=threads,
            experimental_op_resolver_type=module.OpResolverType[kernels],
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ToolError(f"{runtime} cannot load {path}: {one_line(error)}") from error
    except SystemError as error:
        raise ToolError(f"{runtime} was built for another numpy: pip install 'numpy<2'") from error
    return interpreter


def one_line(error):
    """The message of an error on one line, cut where it gets long."""
    return " ".join(str(error).split())[:300]


# --- metadata -------------------------------------------------------------------------------------
# A flatbuffer table starts with the distance back to its vtable; the vtable lists where each field
# lies. Field numbers: tensorflow/lite/schema/schema.fbs and metadata_schema.fbs.


def read_metadata(path):
    """Read what a file says about itself; empty values where it says nothing."""
    with open(path, "rb") as file:
        model = file.read()
    mean, std, names = [0.0], [1.0], []
    try:
        data = _metadata_buffer(model)
        if data:
            subgraph = _vector(data, _follow(data, 0), 3)[0]
            for tensor in _vector(data, subgraph, 2)[:1]:
                for unit in _vector(data, tensor, 4):
                    kind = _field(data, unit, 0)
                    if kind and data[kind] == 1:  # NormalizationOptions
                        options = _follow(data, _field(data, unit, 1))
                        mean, std = (_floats(data, options, field) for field in (0, 1))
            names = [_string(data, tensor, 0) for tensor in _vector(data, subgraph, 3)]
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ToolError(f"the metadata in {path} is damaged: export the model again") from error
    return Metadata(mean, std, names, _packed_labels(path))


def _metadata_buffer(model):
    root = _follow(model, 0)
    buffers = _vector(model, root, 4)
    for entry in _vector(model, root, 6):
        if _string(model, entry, 0) == "TFLITE_METADATA":
            field = _field(model, entry, 1)
            index = struct.unpack_from("<I", model, field)[0] if field else 0
            return _bytes(model, buffers[index], 0)
    return b""


def _packed_labels(path):
    """The labels in the archive that metadata writers append to a .tflite, or None."""
    try:
        with zipfile.ZipFile(path) as archive:
            texts = [each for each in archive.infolist() if each.filename.endswith(".txt")]
            texts.sort(key=lambda each: "label" not in each.filename)
            if not texts:
                return None
            if texts[0].file_size > MAX_LABELS:
                raise ToolError(
                    f"the labels in {path} take {texts[0].file_size} bytes: give others (--labels)"
                )
            return lines_of(archive.read(texts[0]).decode())
    except zipfile.BadZipFile:
        return None
    except (RuntimeError, NotImplementedError, ValueError, OSError, zlib.error) as error:
        # encrypted, packed in an unknown way, damaged, or not UTF-8
        raise ToolError(
            f"the labels in {path} cannot be read ({one_line(error)}): give others (--labels)"
        ) from error


def _follow(data, position):
    return position + struct.unpack_from("<I", data, position)[0]


def _field(data, table, number):
    """Where field `number` of a table lies, or None where it is left at its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    entry = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + entry)[0] if entry < size else 0
    return table + offset if offset else None


def _span(data, table, number):
    """Start and length of a vector field."""
    field = _field(data, table, number)
    if field is None:
        return 0, 0
    start = _follow(data, field)
    return start + 4, struct.unpack_from("<I", data, start)[0]


def _vector(data, table, number):
    start, length = _span(data, table, number)
    return [_follow(data, start + 4 * i) for i in range(length)]


def _floats(data, table, number):
    start, length = _span(data, table, number)
    return list(struct.unpack_from(f"<{length}f", data, start))


def _bytes(data, table, number):
    start, length = _span(data, table, number)
    return data[start : start + length]


def _string(data, table, number):
    return _bytes(data, table, number).decode()


# --- image in, tensor out -------------------------------------------------------------------------


def read_image(path):
    """Open an image upright and in RGB."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ToolError("expected Pillow, it is not installed: pip install pillow") from error
    check_is_file(path, "an image")
    try:
        image = Image.open(path)
        image.load()
        if image.mode == "F" or image.mode.startswith("I"):  # 16 bits: convert() would clip
            values = np.asarray(image)
            if image.mode == "F" or values.min() < 0 or values.max() >= 2**16:
                raise ValueError("its values are not of 8 or 16 bits")
            grey = Image.fromarray((values // 256).astype(np.uint8))
            grey.info = image.info  # the orientation
            image = grey
        return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise ToolError(f"expected an image, there is no file {path}") from error
    except Exception as error:  # decoders of damaged files fail with whatever comes
        raise ToolError(f"{path} is not an image Pillow can read: {one_line(error)}") from error


def resize(image, height, width, crop):
    """Bring an image to (height, width): the centre of it, or all of it, stretched.

    The centre is cut out of the image scaled to cover 288/256 of the size; an image of just the
    size is taken as it is.
    """
    pixels = np.asarray(image)
    if pixels.shape[:2] == (height, width):
        return pixels
    whole = height, width
    if crop:
        longer = max(height, width)
        short_side = round(longer * RESIZE_RATIO)
        tall, wide = short_side * height // longer, short_side * width // longer
        if pixels.shape[0] * wide < pixels.shape[1] * tall:
            whole = tall, tall * pixels.shape[1] // pixels.shape[0]
        else:
            whole = wide * pixels.shape[0] // pixels.shape[1], wide
    above, below, down = neighbours(pixels.shape[0], whole[0], height)
    before, behind, right = neighbours(pixels.shape[1], whole[1], width)
    down, right = down[:, None, None], right[:, None]
    rows = []
    for numbers in (above, below):
        start, end = (
            pixels[numbers[:, None], each].astype(np.float32) for each in (before, behind)
        )
        rows.append(start + (end - start) * right)
    return np.rint(rows[0] + (rows[1] - rows[0]) * down).astype(np.uint8)


def neighbours(source, target, count):
    """For the middle `count` of `target` pixels the two of `source` they lie between, and where.

    Bilinear, half-pixel centres, no antialiasing: as in training, and the same on every device.
    """
    first = (target - count) // 2
    places = np.arange(first, first + count, dtype=np.float32) + np.float32(0.5)
    places = places * (np.float32(source) / np.float32(target)) - np.float32(0.5)
    lower = np.floor(places)
    pair = (np.clip(each.astype(int), 0, source - 1) for each in (lower, np.ceil(places)))
    return (*pair, places - lower)


def encode(pixels, detail, mean, std):
    """Turn values of 0..255 into what the input tensor takes."""
    dtype = detail["dtype"]
    if dtype == np.uint8:
        return pixels
    values = (pixels.astype(np.float32) - np.float32(mean)) / np.float32(std)
    if dtype == np.float32:
        return values
    if dtype == np.int8:
        scale, zero = detail["quantization"]
        return np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)
    raise ToolError(f"expected a float32, uint8 or int8 input, the model has {np.dtype(dtype)}")


def decode(values, detail):
    """Turn an output tensor into float32."""
    scale, zero = detail["quantization"]
    if scale:
        return (values.astype(np.float32) - zero) * np.float32(scale)
    return values.astype(np.float32)


# --- tasks ----------------------------------------------------------------------------------------


def task_of(details):
    """Tell from the outputs what a model does."""
    shapes = [tuple(int(n) for n in detail["shape"]) for detail in details]
    if len(shapes) == 4:
        return detect
    if len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] * shapes[0][2] > 1:
        return segment
    if len(shapes) == 1:
        return classify
    raise ToolError(
        "expected 1 output (class scores or a class map) or 4 (boxes, classes, scores, count), "
        f"the model has {len(shapes)}: {shapes}"
    )


def classify(outputs, names, labels, top, size):
    """Return the `top` most probable classes as lines."""
    scores = outputs[0].ravel()
    if labels and len(labels) != scores.size:
        raise ToolError(f"expected {scores.size} labels, one a class, got {len(labels)}")
    if scores.min() < 0 or scores.max() > 1:  # logits
        scores = np.exp(scores - scores.max())
        scores /= scores.sum()
    order = np.argsort(-scores, kind="stable")[:top]
    return [f"{scores[i]:.4f}  {label_of(labels, i)}" for i in order]


def detect(outputs, names, labels, top, size):
    """Return the `top` best boxes as lines, in pixels of an image of `size` (height, width)."""
    found = {}
    for role, words in DETECTION_OUTPUTS.items():
        matches = [i for i, name in enumerate(names) if any(word in name.lower() for word in words)]
        if len(matches) != 1:
            raise ToolError(f"expected one output named like {words[0]!r}, the model has {names}")
        found[role] = outputs[matches[0]]
    count = max(int(found["count"].ravel()[0]), 0)  # beyond it lies uninitialised memory
    boxes = found["boxes"].reshape(-1, 4)[:count] * np.float32(size * 2)
    classes, scores = (found[role].ravel()[:count] for role in ("classes", "scores"))
    lines = []
    for i in np.argsort(-scores, kind="stable")[:top]:
        y0, x0, y1, x1 = boxes[i]
        where = f"x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f}"
        lines.append(f"{scores[i]:.4f}  {label_of(labels, int(classes[i]))}  {where}")
    return lines or ["nothing found"]


def segment(outputs, names, labels, top, size):
    """Return the `top` largest classes as lines, with their share of the pixels."""
    classes = outputs[0].shape[-1]
    if labels and len(labels) != classes:
        raise ToolError(f"expected {classes} labels, one a class, got {len(labels)}")
    share = np.bincount(outputs[0].argmax(-1).ravel(), minlength=classes) / outputs[0][..., 0].size
    order = np.argsort(-share, kind="stable")[:top]
    return [f"{share[i]:7.2%}  {label_of(labels, i)}" for i in order if share[i]]


def label_of(labels, index):
    """The name of a class, or its number where it has none."""
    name = labels[index] if labels and index < len(labels) else f"class {index}"
    return printable(name)


def printable(text):
    """The text without what would move the cursor or change the terminal: it may be anybody's."""
    return "".join(each if each.isprintable() else "?" for each in text)


def output_names(interpreter, metadata):
    """The outputs' names: from the metadata, else the signature, else the tensors."""
    details = interpreter.get_output_details()
    if len(metadata.output_names) == len(details):
        return metadata.output_names
    names = {detail["index"]: detail["name"] for detail in details}
    signatures = interpreter.get_signature_list()
    if signatures:
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        for name, detail in runner.get_output_details().items():
            names[detail["index"]] = name
    return [names[detail["index"]] for detail in details]


def run(interpreter, image, metadata, labels, top, paint=None):
    """Run one image through a model and return the lines to print.

    `paint`: the picture to write with a segmenter's classes over the image.
    """
    detail = interpreter.get_input_details()[0]
    shape = tuple(int(n) for n in detail["shape"])
    if len(interpreter.get_input_details()) != 1 or len(shape) != 4 or shape[::3] != (1, 3):
        raise ToolError(f"expected one image input (1, height, width, 3), the model has {shape}")
    details = interpreter.get_output_details()
    task = task_of(details)
    pixels = resize(image, shape[1], shape[2], crop=task is classify)
    values = encode(pixels[None], detail, metadata.mean, metadata.std)
    interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    outputs = [decode(interpreter.get_tensor(each["index"]), each) for each in details]
    names = output_names(interpreter, metadata) if task is detect else []
    if paint:
        if task is not segment:
            raise ToolError("expected a segmenter to paint with, the model puts out no class map")
        from paint import class_map, painted

        try:
            painted(image, class_map(outputs[0][0], image.height, image.width)).save(paint)
        except (OSError, ValueError) as error:
            raise ToolError(f"cannot write the picture {paint}: {one_line(error)}") from error
    return task(outputs, names, labels, top, (image.height, image.width))


def lines_of(text):
    """The lines of a text file; what else Unicode calls a line's end may be part of a name."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n").split("\n")


def read_labels(path):
    """Read a label file: one class a line."""
    check_is_file(path, "labels")
    try:
        with open(path, encoding="utf-8") as file:
            return lines_of(file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"cannot read the labels {path}: {one_line(error)}") from error


def positive(text):
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="+")
    parser.add_argument("model")
    parser.add_argument("--top", type=positive, default=5, metavar="K", help="lines an image (5)")
    parser.add_argument("--threads", type=positive, default=os.cpu_count(), metavar="N")
    parser.add_argument(
        "--labels", metavar="FILE", help="one class a line; default: the model's own"
    )
    parser.add_argument(
        "--paint", metavar="FILE", help="of a segmenter: write the image with its classes"
    )
    parser.add_argument("--mean", type=float, nargs="+", help="default: from the metadata, else 0")
    parser.add_argument("--std", type=float, nargs="+", help="default: from the metadata, else 1")
    args = parser.parse_args(arguments)
    try:
        images = [read_image(path) for path in args.image]
        interpreter = open_model(args.model, args.threads)
        metadata = read_metadata(args.model)
        metadata = metadata._replace(mean=args.mean or metadata.mean, std=args.std or metadata.std)
        if {len(metadata.mean), len(metadata.std)} - {1, 3}:
            raise ToolError(f"expected 1 or 3 values, got mean {metadata.mean}, std {metadata.std}")
        if args.paint and len(args.image) > 1:
            raise ToolError("expected one image with --paint")
        labels = read_labels(args.labels) if args.labels else metadata.labels
        for path, image in zip(args.image, images):
            lines = run(interpreter, image, metadata, labels, args.top, args.paint)
            print("\n  ".join([printable(path), *lines]))
    except ToolError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
