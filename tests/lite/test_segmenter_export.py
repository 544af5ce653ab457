"""Exported segmenters: the rules of the head, one partition, class maps as Keras'."""

import json
import sys

import keras
import masks
import numpy as np
import pytest
from clients import TOOLS, command
from keras import layers
from PIL import Image
from rewritten import check, conv, read

import keras_parc
from keras_parc.layers.resize import ResizeLike
from keras_parc.lite.rewrite.deploy import rewrite
from keras_parc.models.deeplab_v3 import DeepLabV3, atrous_pyramid_pooling, low_resolution
from keras_parc.support.class_maps import painted
from keras_parc.tasks.segmentation.measuring import (
    class_map,
    confusion_matrix,
    intersections_over_unions,
    segmentation_logits,
)
from keras_parc.tasks.segmentation.predicting import picture as painted_picture
from keras_parc.tasks.segmentation.predicting import segment_files


def rewritten(function, shape):
    """The nodes after the rewrite, by operation; that it is the same is checked too."""
    check(function, shape)
    image = keras.Input(shape)
    graph = read(keras.Model(image, function(image)))
    rewrite(graph)
    return {
        op: [n for n in graph.nodes() if n.op.name == op] for op in ("conv", "depthwise", "resize")
    }


@pytest.mark.parametrize(
    ("rate", "kernel"),
    [(1, (3, 3)), (5, (3, 3)), (6, (3, 1)), (7, (3, 1)), (8, (1, 1)), (30, (1, 1))],
)
def test_taps_that_see_only_padding_are_cut_off(rate, kernel):
    """The map has 8 rows and 6 columns."""
    for op, layer in (
        ("conv", conv(5, 3, dilation_rate=rate)),
        ("depthwise", layers.DepthwiseConv2D(3, padding="same", dilation_rate=rate)),
    ):
        (node,) = rewritten(layer, (8, 6, 4))[op]
        assert node["kernel"].shape[:2] == kernel
    (node,) = rewritten(conv(5, 5, dilation_rate=rate), (8, 6, 4))["conv"]
    assert max(node["kernel"].shape[:2]) <= 5


def test_an_even_kernel_and_a_valid_one_keep_their_taps():
    (node,) = rewritten(conv(5, 2, dilation_rate=9), (8, 6, 4))["conv"]
    assert node["kernel"].shape[:2] == (2, 2)
    (node,) = rewritten(conv(5, 3, dilation_rate=2, padding="valid"), (8, 6, 4))["conv"]
    assert node["kernel"].shape[:2] == (3, 3)


def test_the_pooled_branch_becomes_a_broadcasting_addition():
    def pooled(x):
        mean = conv(3)(layers.GlobalAveragePooling2D(keepdims=True)(x))
        y = layers.Concatenate()([conv(2)(x), ResizeLike()([mean, x]), conv(4)(x)])
        return layers.Activation("relu")(layers.BatchNormalization()(conv(5)(y)))

    nodes = rewritten(pooled, (8, 6, 4))
    assert not nodes["resize"]
    assert [n.inputs[0].shape[:2] for n in nodes["conv"]].count((1, 1)) == 2


def test_a_spread_pixel_elsewhere_stays_as_it_is():
    def spread(x):
        mean = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return layers.Multiply()([x, ResizeLike()([mean, x])])

    assert len(rewritten(spread, (8, 6, 4))["resize"]) == 1


def test_the_pyramid_has_no_resize_and_no_long_reach():
    def head(x):
        return conv(3)(atrous_pyramid_pooling(x, (2, 6, 12), width=8))

    nodes = rewritten(head, (8, 6, 4))
    assert not nodes["resize"]
    for node in nodes["conv"]:
        for size, rate, side in zip(
            node["kernel"].shape, node["dilation"], node.inputs[0].shape, strict=False
        ):
            assert size == 1 or rate < side


@pytest.mark.parametrize("quantize", [pytest.param(None, marks=pytest.mark.slow), "int8"])
def test_all_of_a_segmenter_is_one_partition(tmp_path, quantize):
    """ParC-Net over a rectangle whose map of 4 x 6 is smaller than all rates."""
    keras.utils.set_random_seed(0)
    backbone = keras_parc.ParCNetTiny(
        include_top=False, input_shape=(64, 96, 3), include_preprocessing=True
    )
    model = DeepLabV3(backbone, classes=11)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3)).astype("float32")
    path = keras_parc.to_tflite(
        model, tmp_path / "model.tflite", quantize=quantize, calibration=images
    )
    found = keras_parc.inspect(path)
    assert (found.partitions, found.outside) == (1, {})
    assert not {"RESIZE_BILINEAR", "SPACE_TO_BATCH_ND", "ARG_MAX"} & set(found.operations)
    assert keras_parc.TFLiteModel(path).output_shape == (1, 4, 6, 11)
    if quantize is None:
        assert keras_parc.agreement(model, path, images).signal_to_noise_db > 60


@pytest.mark.slow
def test_rates_that_reach_and_output_stride_8(segmenter_files):
    for path in segmenter_files.values():
        found = keras_parc.inspect(path)
        assert found.partitions == 1
        assert set(found.outside) <= {"QUANTIZE"}  # of a uint8 file, at its two ends


@pytest.mark.parametrize("kind", [("int8", "float32"), ("int8", "uint8")])
def test_int8_is_as_good_as_keras(segmenter_files, kind):
    images, truth = masks.images_and_masks(64, seed=1)
    size, maps = truth.shape[1:], {}
    file = keras_parc.TFLiteModel(segmenter_files[kind])
    for name, model in (("keras", masks.segmenter()), ("file", file)):
        maps[name] = np.stack([class_map(x, size) for x in segmentation_logits(model, images)])
    ious = {
        name: 100 * np.nanmean(intersections_over_unions(confusion_matrix(truth, found, 3)))
        for name, found in maps.items()
    }
    assert ious["keras"] > 75
    assert abs(ious["keras"] - ious["file"]) <= 1.0
    assert (maps["keras"] == maps["file"]).mean() >= 0.97


def test_the_file_says_what_it_is(segmenter_files, tmp_path):
    for path in segmenter_files.values():
        assert keras_parc.read_metadata(path) == masks.METADATA
    wrong = keras_parc.Metadata(task="segmentation", labels=["a", "b"])
    with pytest.raises(ValueError, match=r"2 labels, but .* has 3 classes"):
        keras_parc.to_tflite(masks.segmenter(), tmp_path / "m.tflite", metadata=wrong)
    of_classifier = keras_parc.Metadata(labels=masks.LABELS)
    with pytest.raises(ValueError, match="one output of rank 2"):
        keras_parc.to_tflite(masks.segmenter(), tmp_path / "m.tflite", metadata=of_classifier)
    assert not list(tmp_path.iterdir())


def test_a_deployed_model_keeps_its_upsampling():
    model, (images, _) = masks.segmenter(), masks.images_and_masks(2, seed=3)
    ours = np.asarray(keras_parc.deploy(model)(images))
    theirs = np.asarray(model(images))
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()
    assert low_resolution(model).output_shape == (None, 8, 8, 3)


def test_predict_paints(segmenter_files, tmp_path, run_cli):
    images, truth = masks.images_and_masks(2, seed=5)
    picture, path = tmp_path / "square.png", segmenter_files[None, "float32"]
    large = Image.fromarray(images[1].astype("uint8")).resize((96, 128), Image.Resampling.NEAREST)
    large.save(picture)
    code, printed, _ = run_cli("predict", path, picture, "--draw", tmp_path / "drawn", "--json")
    assert code == 0
    (result,) = json.loads(printed)
    found = {each["class"]: each["share"] for each in result["pixels"]}
    label = masks.LABELS[truth[1].max()]
    assert found[label] == pytest.approx((truth[1] > 0).mean(), abs=0.05)
    with Image.open(tmp_path / "drawn" / "square.png") as drawn:
        assert drawn.size == (96, 128)
        assert np.any(np.asarray(drawn) != np.asarray(large))
    (classes,) = segment_files(masks.segmenter(), [picture])
    assert classes.shape == (128, 96)
    ours = painted_picture(picture, classes)
    with Image.open(tmp_path / "drawn" / "square.png") as theirs:
        assert (np.asarray(ours) != np.asarray(theirs)).mean() < 0.02


def test_export_command(run_cli, tmp_path):
    masks.segmenter().save(tmp_path / "model.keras")
    (tmp_path / "names.txt").write_text("\n".join(masks.LABELS))
    out = tmp_path / "model.tflite"
    code, printed, errors = run_cli(
        "export", tmp_path / "model.keras", out, "--labels", tmp_path / "names.txt"
    )
    assert code == 0, errors
    assert "XNNPACK partitions" in printed
    found = keras_parc.read_metadata(out)
    assert (found.task, found.activation, found.labels) == (
        "segmentation",
        "softmax",
        tuple(masks.LABELS),
    )


def test_run_py_paints_the_same(segmenter_files, tmp_path):
    """tflite/run.py, which knows nothing of this package."""
    images, _ = masks.images_and_masks(2, seed=5)
    picture, file = tmp_path / "square.png", segmenter_files["int8", "uint8"]
    large = Image.fromarray(images[1].astype("uint8")).resize((96, 128), Image.Resampling.NEAREST)
    large.save(picture)
    done = command(
        sys.executable, TOOLS / "run.py", picture, file, "--paint", tmp_path / "painted.png"
    )
    assert done.returncode == 0, done.stderr
    assert "background" in done.stdout
    (classes,) = segment_files(keras_parc.TFLiteModel(file), [picture])
    expected = painted(np.asarray(large), classes)
    with Image.open(tmp_path / "painted.png") as drawn:
        assert (np.asarray(drawn) != expected).any(-1).mean() < 0.01
    done = command(sys.executable, TOOLS / "run.py", picture, file, "--paint", tmp_path / "no.xyz")
    assert (done.returncode, "cannot write the picture" in done.stderr) == (2, True)
