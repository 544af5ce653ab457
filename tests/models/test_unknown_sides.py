"""Every model with unknown sides trains and predicts, compiled, on images of several sizes.

In TensorFlow's graphs, where sides are tensors; JAX and PyTorch see the sizes of every batch.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from registered import own_models

import keras_parc
from keras_parc.layers.patches import Fold, Unfold
from keras_parc.layers.resize import ResizeLike
from keras_parc.models.losses import pixel_cross_entropy


def batches(targets):
    """Images of 64 and 96 pixels, in a data set that does not say so."""
    rng = np.random.default_rng(0)

    def generate():
        for size in (64, 96):
            images = rng.uniform(0, 255, (2, size, size, 3)).astype("float32")
            yield images, targets(size)

    some = targets(64)
    shapes = tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None,) * some.ndim, some.dtype)
    return tf.data.Dataset.from_generator(generate, output_signature=shapes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [each for each in own_models() if each.task == "classification"],
    ids=lambda entry: entry.key,
)
def test_a_classifier(entry):
    model = entry.build(input_shape=(None, None, 3), classes=3)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    data = batches(lambda size: np.array([0, 2]))
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()
    expected = [model(images, training=False) for images, _ in data]
    found = model.predict(data.map(lambda images, labels: images), verbose=0)
    assert found.shape == (4, 3)
    assert np.isfinite(keras.ops.convert_to_numpy(expected[1])).all()


@pytest.mark.slow
def test_a_segmenter():
    backbone = keras_parc.ParCNetTiny(input_shape=(None, None, 3), include_top=False)
    model = keras_parc.DeepLabV3(backbone, classes=3)
    model.compile("sgd", pixel_cross_entropy(), jit_compile=False)
    data = batches(lambda size: np.ones((2, size, size), "int32"))
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("shape", [(4, 6), (5, 7), (8, 8), (1, 1)])
def test_layers_compute_the_same_where_sides_are_tensors(shape):
    x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype("float32")
    like = np.zeros((2, 9, 8, 1), "float32")

    def compiled(function, *arguments):
        specs = [tf.TensorSpec((*(None,) * (a.ndim - 1), a.shape[-1])) for a in arguments]
        return tf.function(function, input_signature=specs)(*arguments).numpy()

    layer = ResizeLike()
    np.testing.assert_allclose(
        compiled(lambda x, like: layer([x, like]), x, like), layer([x, like]), rtol=1e-5, atol=1e-5
    )
    unfold, fold = Unfold(2), Fold(2)
    there = compiled(unfold, x)
    np.testing.assert_allclose(there, unfold(x), rtol=1e-5, atol=1e-5)
    back = compiled(lambda patches, x: fold([patches, x]), np.asarray(unfold(x)), x)
    np.testing.assert_allclose(back, fold([unfold(x), x]), rtol=1e-5, atol=1e-5)
    if shape == (8, 8):
        np.testing.assert_array_equal(back, x)
