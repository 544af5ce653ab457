#!/usr/bin/env python3
"""Run a .tflite model on images: classification, detection or segmentation.

    python run.py IMAGE... MODEL [--top K] [--threads N] [--labels FILE]

Needs model_file.py beside it, numpy, Pillow and ai-edge-litert or tflite-runtime; Python 3.9 or
newer, numpy 1.19 or newer.
What images the model takes, output names and labels come from the file, where it says so.
"""

import argparse
import os
import platform
import sys

import numpy as np

from model_file import ToolError, check_is_file, check_model, lines_of, one_line, read_metadata

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
# What the names of a detector's outputs contain: ours, and those MediaPipe asks for.
DETECTION_OUTPUTS = {
    "boxes": ("box", "location"),
    "classes": ("class", "category"),
    "scores": ("score",),
    "count": ("count", "num"),
}


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


def open_model(path, threads=1, kernels="AUTO"):
    """Return an interpreter for the file, with its tensors allocated.

    `kernels` is a member of the runtime's OpResolverType: AUTO uses XNNPACK where it can.
    """
    check_model(path)
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


def resize(image, height, width, crop=None):
    """Bring an image to (height, width): the centre of it, or all of it, stretched.

    `crop`: the longer side as a share of the image that the centre is cut out of, which is scaled
    to cover just that; None: stretched. An image of just the size is taken as it is.
    """
    pixels = np.asarray(image)
    if pixels.shape[:2] == (height, width):
        return pixels
    whole = height, width
    if crop:
        longer = max(height, width)
        short_side = round(longer / crop)
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


def encode(pixels, detail, metadata):
    """Turn RGB values of 0..255 into what the input tensor takes."""
    dtype, mean, std = detail["dtype"], metadata.mean, metadata.std
    if metadata.channels == "bgr":
        pixels = pixels[..., ::-1]
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
    pixels = resize(image, shape[1], shape[2], metadata.crop if task is classify else None)
    values = encode(pixels[None], detail, metadata)
    interpreter.set_tensor(detail["index"], values)
    try:
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise ToolError(f"the runtime fails on the model: {one_line(error)}") from error
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
    parser.add_argument(
        "--channels", choices=("rgb", "bgr"), help="default: from the file, else rgb"
    )
    parser.add_argument("--mean", type=float, nargs="+", help="default: from the file, else 0")
    parser.add_argument("--std", type=float, nargs="+", help="default: from the file, else 1")
    args = parser.parse_args(arguments)
    try:
        images = [read_image(path) for path in args.image]
        interpreter = open_model(args.model, args.threads)
        metadata = read_metadata(args.model)
        given = {name: getattr(args, name) for name in ("channels", "mean", "std")}
        metadata = metadata._replace(**{name: value for name, value in given.items() if value})
        if {len(metadata.mean), len(metadata.std)} - {1, 3}:
            raise ToolError(f"expected 1 or 3 values, got mean {metadata.mean}, std {metadata.std}")
        if args.paint and len(args.image) > 1:
            raise ToolError("expected one image with --paint")
        labels = read_labels(args.labels) if args.labels else metadata.labels
        for path, image in zip(args.image, images):
            lines = run(interpreter, image, metadata, labels, args.top, args.paint)
            print("\n  ".join([printable(path), *lines]))
        pixels = interpreter.get_input_details()[0]["dtype"] == np.uint8
        if not (metadata.said or args.mean or args.std or pixels):
            note = "does not say what it takes: RGB 0..255 is assumed (--mean, --std, --channels)"
            print(f"note: {printable(args.model)} {note}", file=sys.stderr)
    except ToolError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
