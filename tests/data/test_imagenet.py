"""ImageNet's preprocessing and class names."""

import keras
import numpy as np
import pytest

import keras_parc
from keras_parc.models.imagenet import _classes


def test_class_names():
    """A few fixed points of the usual order, which is that of the WordNet ids."""
    classes = _classes()
    assert len(classes) == 1000
    assert [synset for synset, _ in classes] == sorted(synset for synset, _ in classes)
    assert len({synset for synset, _ in classes}) == 1000
    assert classes[0] == ("n01440764", "tench")
    assert classes[207] == ("n02099601", "golden retriever")
    assert classes[281] == ("n02123045", "tabby")
    assert classes[999] == ("n15075141", "toilet tissue")
    names = [name for _, name in classes]
    assert {name for name in names if names.count(name) > 1} == {"crane", "maillot"}


@pytest.mark.any_backend
def test_decode_predictions():
    scores = np.zeros((2, 1000), "float32")
    scores[0, [207, 281, 5]] = (0.5, 0.3, 0.1)
    scores[1, 999] = 1
    first, second = keras_parc.decode_predictions(keras.ops.convert_to_tensor(scores), top=2)
    assert first == [
        ("n02099601", "golden retriever", 0.5),
        ("n02123045", "tabby", pytest.approx(0.3)),
    ]
    assert second[0] == ("n15075141", "toilet tissue", 1.0)
    assert [len(row) for row in keras_parc.decode_predictions(scores)] == [5, 5]


@pytest.mark.parametrize("shape", [(2, 10), (1000,), (1, 1, 1000)])
def test_other_classes_are_refused(shape):
    with pytest.raises(ValueError, match=r"1000 ImageNet classes, .* got \("):
        keras_parc.decode_predictions(np.zeros(shape))


@pytest.mark.parametrize("top", [0, 1001, 1.5, True])
def test_top_out_of_range(top):
    with pytest.raises(ValueError, match="`top` must be a whole number from 1 to 1000"):
        keras_parc.decode_predictions(np.zeros((1, 1000)), top=top)


@pytest.mark.any_backend
def test_preprocess_input():
    rgb = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype("uint8")
    expected = np.stack([rgb[..., 2], rgb[..., 1], rgb[..., 0]], -1) / np.float32(255)
    got = keras_parc.preprocess_input(rgb)
    assert isinstance(got, np.ndarray)
    assert got.dtype == "float32"
    np.testing.assert_array_equal(got, expected)
    tensor = keras_parc.preprocess_input(keras.ops.convert_to_tensor(rgb))
    assert keras.ops.is_tensor(tensor)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\), got \(4, 5, 1\)"):
        keras_parc.preprocess_input(np.zeros((4, 5, 1)))
