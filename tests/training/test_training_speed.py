"""Forms of convolutions that train fast give what the plain ones give; `benchmark` measures."""

import csv
import importlib.util
import json
import sys
import types
from contextlib import nullcontext
from functools import partial

import keras
import numpy as np
import pytest
from keras import layers, ops
from registered import register_for_test, registry_of_its_own

import keras_parc
import small_training
from backends import gradients
from experiments import convolution_forms as forms
from experiments import training_rates
from keras_parc.layers.grouped import ExpandingDepthwiseConv2D, GroupedConv2D, grouped_conv
from keras_parc.models import registry
from keras_parc.support.machine import circumstances
from keras_parc.training import rates as benchmark


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def assert_same(ours, theirs):
    """Result and gradients, relative to the largest value."""
    for a, b in zip(ours, theirs, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.any_backend
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (9, 4), (4, 9), (1, 6), (6, 1)])
@pytest.mark.parametrize("form", [name for name in forms.CIRCULAR if name != "tiled"])
def test_circular_forms_and_their_gradients(form, size, axis):
    """Against the paper's: a depthwise convolution over the tiled map."""
    x, kernel = drawn(2, *size, 3), drawn(size[axis - 1], 3, seed=1)
    if form == "fourier" and size[axis - 1] == 1:
        pytest.skip("TensorFlow's Fourier transform of one value has no gradient")
    plain = forms.with_gradients(partial(forms.tiled, axis=axis))(x, kernel)
    assert_same(forms.with_gradients(partial(forms.CIRCULAR[form], axis=axis))(x, kernel), plain)


def one_by_one(x, kernel, strides=1):
    """A grouped convolution as Keras' dense one, a group at a time."""
    inside = kernel.shape[2]
    groups = x.shape[-1] // inside
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    options = {"strides": strides, "padding": "same", "data_format": "channels_last"}
    return np.concatenate(
        [ops.convert_to_numpy(ops.conv(*part, **options)) for part in parts], axis=-1
    )


SHAPES = [(1, 2, 4), (1, 3, 8), (1, 1, 8), (3, 1, 8), (3, 2, 12), (3, 3, 4)]


@pytest.mark.any_backend
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize(("side", "inside", "filters"), SHAPES)
def test_grouped_conv(side, inside, filters, strides):
    x, kernel = drawn(2, 7, 6, 4 * inside), drawn(side, side, inside, filters, seed=1)
    y = grouped_conv(
        ops.convert_to_tensor(x), ops.convert_to_tensor(kernel), (strides,) * 2, "same"
    )
    assert_same([y], [one_by_one(x, kernel, strides)])


def pairs():
    """A layer of ours and Keras' own."""
    options = {"padding": "same", "bias_initializer": "normal", "activation": "silu"}
    for side, filters in ((1, 8), (3, 12)):
        arguments = {"filters": filters, "kernel_size": side, "groups": 4, **options}
        yield GroupedConv2D(**arguments), layers.Conv2D(**arguments)
    dilated = {"filters": 12, "kernel_size": 3, "groups": 4, "dilation_rate": 2, **options}
    yield GroupedConv2D(**dilated), layers.Conv2D(**dilated)
    arguments = {"kernel_size": 3, "depth_multiplier": 2, **options}
    yield ExpandingDepthwiseConv2D(**arguments), layers.DepthwiseConv2D(**arguments)


@pytest.mark.any_backend
@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: pair[0].name)
def test_layers_train_and_save_as_those_of_keras(pair, tmp_path):
    x, results = drawn(2, 6, 5, 8), []
    for layer in pair:
        image = keras.Input((None, None, 8))
        model = keras.Model(image, layer(image))
        model.set_weights([drawn(*weight.shape, seed=3) for weight in model.weights])
        y, grad_x, grads, _ = gradients(
            model, x, drawn(2, 6, 5, layer.kernel.shape[-1] * 1)[..., :1]
        )
        results.append([y, grad_x, *grads.values()])
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert type(again.layers[-1]) is type(layer)
        assert_same([again(x)], [y])
    assert_same(*results)


@pytest.fixture
def two_models(monkeypatch):
    register_for_test(monkeypatch, small_training.small_model, "other")
    return ["small", "other"]


@pytest.mark.any_backend
def test_training_rates(two_models):
    rows = benchmark.training_rates(two_models, size=32, batch=2, steps=2, rounds=3)
    assert [row["model"] for row in rows] == two_models
    assert rows[0]["speed_ratio"] == 1
    assert all(row["images_per_second"] > 0 for row in rows)
    assert {row["backend"] for row in rows} == {keras.config.backend()}
    assert rows[0]["jit"] is (keras.config.backend() == "jax")
    assert rows[0]["device"]


def test_benchmark_train_adds_to_a_table(run_cli, two_models, tmp_path):
    table = tmp_path / "deep" / "training.csv"
    options = ["--size", 32, "--batch", 2, "--steps", 1, "--rounds", 1, "--csv", table]
    code, output, errors = run_cli("benchmark", *two_models, *options)
    assert code == 0, errors
    assert "images per second" in output
    code, output, errors = run_cli("benchmark", two_models[0], *options, "--json")
    assert code == 0, errors
    assert [row["model"] for row in json.loads(output)] == two_models[:1]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["jit"]) for row in rows] == [
        (name, "False") for name in (*two_models, two_models[0])
    ]
    table.write_text("a,b\n1,2\n")
    code, _, errors = run_cli("benchmark", *two_models, *options)
    assert code == 2
    assert "has other columns, ['a', 'b']" in errors
    assert table.read_text() == "a,b\n1,2\n"


def test_jit_and_precision_reach_the_model(run_cli, two_models, monkeypatch):
    def stop(task, schedule):
        raise ValueError(f"{task.recipe.jit_compile} {task.recipe.mixed_precision}")

    monkeypatch.setattr(benchmark, "training_model", stop)
    options = ("small", "--jit", "--mixed-precision", "bfloat16")
    assert run_cli("benchmark", *options)[2] == "keras-parc: True bfloat16\n"
    assert circumstances(1, jit=True)["jit"] is True


@pytest.mark.any_backend
def test_compare_forms():
    rows = forms.compare_forms(batch=1, rounds=1, stages=[(4, 8)])
    assert {row["convolution"] for row in rows} == {name for name, *_ in forms.cases(1)}
    ours = [row for row in rows if row["form"] == "ours"]
    assert len(ours) == 4
    assert all(row["ratio"] == 1 for row in ours)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--forms"], "No such option: --forms"),
        (["parc_net_l"], "There is no model 'parc_net_l'. Did you mean 'parc_net_s'?"),
        (["small", "--mixed-precision", "half"], "There is no precision 'half'."),
    ],
)
def test_mistakes_end_in_one_line(run_cli, arguments, message):
    code, _, errors = run_cli("benchmark", *arguments)
    assert code == 2
    assert message in errors


def test_kimm_is_a_model_as_others_are_or_is_named_where_it_is_missing(monkeypatch):
    registry_of_its_own(monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs that package: pip install --no-deps kimm"):
        training_rates.register_kimm()
    kimm = types.SimpleNamespace(models=types.SimpleNamespace(MobileViTS=lambda **_: "kimm's"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "kimm", kimm)
    training_rates.register_kimm()
    assert registry.find_model(training_rates.KIMM).build() == "kimm's"


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="export needs TensorFlow")
def test_the_papers_forms_are_what_a_plain_conversion_starts_from(tmp_path):
    """A long depthwise convolution over the tiled map, and a grouped one, with the same results."""
    image = keras.Input((12, 6, 3))
    x = layers.Conv2D(8, 3, padding="same")(image)
    x = GroupedConv2D(4, 1, groups=4)(keras_parc.ParCV(12)(x))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    found = {}
    for name, forms_of in {"paper": forms.as_in_the_paper(), "ours": nullcontext()}.items():
        with forms_of:
            path = keras_parc.to_tflite(model, tmp_path / f"{name}.tflite", rewrite=False)
        found[name] = keras_parc.TFLiteModel(path)
    assert "DEPTHWISE_CONV_2D" in found["paper"].operators()
    assert "DEPTHWISE_CONV_2D" not in found["ours"].operators()
    images = np.random.default_rng(0).random((2, 12, 6, 3), "float32")
    scores = [each(images) for each in found.values()]
    np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-6)
