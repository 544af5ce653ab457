"""Small .tflite models, metadata and images for the tests of the tools in tflite/."""

import shutil
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

SIDE = 32
HALVES = ["top", "bottom", "left", "right"]


def halves_kernel():
    """Weights that measure how bright each half of an image is, from 0 to 8."""
    kernel = np.zeros((SIDE, SIDE, 3, 4), np.float32)
    half = SIDE // 2
    kernel[:half, :, :, 0] = kernel[half:, :, :, 1] = 1
    kernel[:, :half, :, 2] = kernel[:, half:, :, 3] = 1
    return kernel.reshape(-1, 4) * np.float32(8 / 255 / (SIDE * half * 3))


def convert(path, function, shape=(1, SIDE, SIDE, 3), io=None, images=None, variables=()):
    """Write `function` as a .tflite: float32, or int8 with `io` as its input and output type.

    int8 is calibrated on `images`, on random ones with values of 0..255 where none are given.
    """
    module = tf.Module()
    module.tracked = list(variables)
    module.call = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float32, "image")])
    folder = f"{path}.saved"
    tf.saved_model.save(module, folder, signatures=module.call)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if io is not None:
        if images is None:
            images = np.random.default_rng(0).uniform(0, 255, (8, *shape)).astype(np.float32)
            images[0], images[1] = 0, 255
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = io
    Path(path).write_bytes(converter.convert())
    shutil.rmtree(folder)
    return str(path)


def scores(image):
    """Logits: which half of the image is the brightest?"""
    return tf.matmul(tf.reshape(image, (1, -1)), halves_kernel())


def halves(image):
    return tf.nn.softmax(scores(image))


def detector(image):
    """Two boxes, then what an uninitialised memory could hold; outputs in no special order."""
    zero = tf.reduce_mean(image) * 0
    return {
        "detection_scores": tf.constant([[0.25, 0.75, 9e9, 9e9]]) + zero,
        "num_detections": tf.constant([2.0]) + zero,
        "detection_boxes": tf.constant([[[0.0, 0, 0.5, 0.25], [0.5, 0.5, 1, 1]] + [[9e9] * 4] * 2])
        + zero,
        "detection_classes": tf.constant([[0.0, 1, 9e9, 9e9]]) + zero,
    }


def attach_metadata(path, mean, std, output_names, labels):
    """Write TFLite metadata as its schema says, independent of the reader under test."""
    builder = flatbuffers.Builder(0)

    def vector(items, prepend):
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            prepend(item)
        return builder.EndVector()

    def table(fields):
        builder.StartObject(12)
        for slot, value in fields.items():
            if slot == "kind":
                builder.PrependUint8Slot(0, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return builder.EndObject()

    def tables(items):
        return vector(items, builder.PrependUOffsetTRelative)

    mean, std = vector(mean, builder.PrependFloat32), vector(std, builder.PrependFloat32)
    unit = table({"kind": 1, 1: table({0: mean, 1: std})})
    image = table({4: tables([unit])})
    names = [builder.CreateString(name) for name in output_names]
    outputs = tables([table({0: name}) for name in names])
    subgraph = table({2: tables([image]), 3: outputs})
    builder.Finish(table({3: tables([subgraph])}), b"M001")

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(Path(path).read_bytes(), 0))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(bytes(builder.Output()), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    Path(path).write_bytes(bytes(builder.Output()))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "\n".join(labels) + "\n")
    return path


def conv_net():
    """Convolution, depthwise and pointwise convolution, pooling and a dense layer."""
    generator = np.random.default_rng(0)

    def weights(*shape):
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        return tf.constant(generator.normal(0, scale, shape), tf.float32)

    stem, depthwise, pointwise = weights(3, 3, 3, 16), weights(3, 3, 16, 1), weights(1, 1, 16, 32)
    dense = weights(32, 10)

    def net(image):
        x = tf.nn.relu6(tf.nn.conv2d(image / 64 - 2, stem, 2, "SAME"))
        x = tf.nn.relu6(tf.nn.depthwise_conv2d(x, depthwise * 6, [1, 1, 1, 1], "SAME"))
        x = tf.nn.relu6(tf.nn.conv2d(x, pointwise, 1, "SAME"))
        return tf.matmul(tf.reduce_mean(x, (1, 2)), dense) + tf.range(10.0) / 10

    return net


def half_white(folder, name, box, size=(64, 64), **save):
    """Save a black image with a white box (left, upper, right, lower)."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    image.save(folder / name, **save)
    return str(folder / name)
