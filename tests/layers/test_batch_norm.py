"""Batch normalization in one operation: Keras' layer is the reference."""

import keras
import numpy as np
import pytest
from keras import ops

from backends import gradients
from keras_parc import layers

SHAPES = [(4, 5, 3, 6), (1, 2, 4, 6), (8, 6)]


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(2.0, 3.0, size=shape).astype("float32")


def model_of(layer, shape):
    image = keras.Input((*(None for _ in shape[1:-1]), shape[-1]))
    model = keras.Model(image, layer(image))
    for number, weight in enumerate(model.weights):
        weight.assign(np.abs(drawn(*weight.shape, seed=number)) + 0.5)
    return model


def both(shape, **arguments):
    kinds = (layers.BatchNormalization, keras.layers.BatchNormalization)
    return [model_of(kind(name="norm", **arguments), shape) for kind in kinds]


def is_same(ours, theirs, tolerance=1e-5):
    ours, theirs = (np.asarray(ops.convert_to_numpy(a), "float32") for a in (ours, theirs))
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.any_backend
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "arguments",
    [{}, {"scale": False, "epsilon": 1e-5}, {"center": False, "momentum": 0.5}],
    ids=["default", "no_scale", "no_center"],
)
def test_trains_as_the_layer_of_keras(arguments, shape):
    x, weighting = drawn(*shape), drawn(*shape, seed=9)
    results = [gradients(model, x, weighting) for model in both(shape, **arguments)]
    (y, grad_x, grads, after), theirs = results
    assert is_same(y, theirs[0])
    assert is_same(grad_x, theirs[1])
    assert ({*grads}, {*after}) == ({*theirs[2]}, {*theirs[3]})
    assert all(is_same(grads[path], theirs[2][path]) for path in grads)
    assert all(is_same(after[path], theirs[3][path]) for path in after)


@pytest.mark.any_backend
@pytest.mark.parametrize("trainable", [True, False])
def test_infers_and_stays_frozen_as_the_layer_of_keras(trainable):
    x, models = drawn(2, 3, 5, 6), both((2, 3, 5, 6))
    for model in models:
        model.layers[-1].trainable = trainable
    before = [np.array(weight) for weight in models[0].get_weights()]
    assert is_same(*(model(x, training=False) for model in models))
    frozen = [model(x, training=not trainable) for model in models]
    assert is_same(*frozen)
    assert all(np.array_equal(a, b) for a, b in zip(models[0].get_weights(), before, strict=True))


@pytest.mark.any_backend
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_statistics_are_float32_in_mixed_precision(policy):
    shape = (2, 8, 8, 6)
    models = both(shape, dtype=policy)
    x = drawn(*shape) * 100  # Squares beyond the range of float16.
    ours, theirs = (model(x, training=True) for model in models)
    assert keras.backend.standardize_dtype(ours.dtype) == policy.removeprefix("mixed_")
    assert is_same(ours, theirs, 2e-2 if "bfloat" in policy else 2e-3)
    for a, b in zip(models[0].weights, models[1].weights, strict=True):
        assert keras.backend.standardize_dtype(a.dtype) == "float32"
        assert is_same(a, b)


@pytest.mark.any_backend
def test_weights_and_files_of_the_layer_of_keras_fit(tmp_path):
    ours, theirs = both((1, 4, 4, 6))
    ours.set_weights([drawn(6, seed=number + 7) ** 2 for number in range(4)])
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours.load_weights(tmp_path / "theirs.weights.h5")
    x = drawn(1, 4, 4, 6)
    assert is_same(ours(x), theirs(x))
    ours.save(tmp_path / "ours.keras")
    again = keras.models.load_model(tmp_path / "ours.keras")
    assert type(again.layers[-1]) is layers.BatchNormalization
    assert is_same(again(x), ours(x), 0)


def test_one_operation_in_the_graph():
    """The point of the layer, forward and backward."""
    tf = pytest.importorskip("tensorflow")
    if keras.config.backend() != "tensorflow":
        pytest.skip("TensorFlow's operation")
    layer = layers.BatchNormalization()
    layer.build((None, 4, 4, 6))

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(loss, layer.trainable_variables[0].value)

    graph = step.get_concrete_function(tf.TensorSpec((2, 4, 4, 6))).graph
    kinds = [op.type for op in graph.get_operations()]
    assert {"FusedBatchNormV3", "FusedBatchNormGradV3"} <= {*kinds}
    assert "SquaredDifference" not in kinds
    synchronized = layers.BatchNormalization(synchronized=True)
    assert not synchronized._has_one_operation(tf.ones((2, 4, 4, 6)), None)
    assert not layer._has_one_operation(tf.ones((2, 4, 4, 6)), tf.ones((2, 4, 4)))
