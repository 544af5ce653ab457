"""Weights that users saved: of another number of classes, of another model, damaged."""

import keras
import numpy as np
import pytest

from keras_parc.models.mobilevit import MobileViTTiny
from keras_parc.models.parc_net import ParCNetTiny

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module", params=["mine.weights.h5", "mine.keras"])
def saved(request, tmp_path_factory):
    """A model of five classes, and its file."""
    model = ParCNetTiny(input_shape=SHAPE, classes=5)
    for variable in model.weights:  # zeros and ones of the start would prove nothing
        variable.assign(variable + keras.random.uniform(variable.shape, 0.1, 0.2, seed=1))
    path = tmp_path_factory.mktemp("saved") / request.param
    (model.save if path.suffix == ".keras" else model.save_weights)(path)
    return model, path


def weights(model, head=False):
    layers = [each for each in model.layers if (each.name == "predictions") == head]
    return [value for layer in layers for value in layer.get_weights()]


@pytest.mark.any_backend
def test_the_same_classes(saved, caplog):
    model, path = saved
    loaded = ParCNetTiny(input_shape=SHAPE, classes=5, weights=path)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not caplog.records


def test_other_classes(saved, caplog):
    """Everything but the head, which is that of a new model, in one line."""
    model, path = saved
    keras.utils.set_random_seed(3)
    new = ParCNetTiny(input_shape=SHAPE, classes=6)
    keras.utils.set_random_seed(3)
    loaded = ParCNetTiny(input_shape=SHAPE, classes=6, weights=path)
    for ours, theirs in zip(weights(loaded), weights(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(weights(loaded, head=True), weights(new, head=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (record,) = caplog.records
    assert "everything but predictions is loaded" in record.message
    assert str(path) in record.message


def test_without_the_head(saved):
    model, path = saved
    loaded = ParCNetTiny(input_shape=SHAPE, include_top=False, weights=path)
    for ours, theirs in zip(loaded.get_weights(), weights(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_model(saved, recwarn):
    """One line that names both, and no warning of every layer."""
    _, path = saved
    with pytest.raises(ValueError, match="does not hold the weights of 'mobilevit_tiny'") as told:
        MobileViTTiny(input_shape=(64, 64, 3), classes=5, weights=path)
    message = str(told.value)
    assert str(path) in message
    assert "\n" not in message
    assert ("the model 'parc_net_tiny'" in message) == (path.suffix == ".keras")
    assert not [each for each in recwarn if "mismatch" in str(each.message)]


def test_a_model_that_exists_is_left_as_it_was(saved):
    from keras_parc.weights.loading import load_own

    _, path = saved
    model = MobileViTTiny(input_shape=(64, 64, 3), classes=5)
    before = model.get_weights()
    with pytest.raises(ValueError, match="does not hold"):
        load_own(model, str(path))
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_that_are_no_numbers(tmp_path, caplog):
    """Of a training that diverged: they are loaded, as they are, and it is said."""
    model = ParCNetTiny(input_shape=SHAPE, classes=5)
    model.set_weights([np.full_like(each, np.nan) for each in model.get_weights()])
    model.save_weights(tmp_path / "nan.weights.h5")
    loaded = ParCNetTiny(input_shape=SHAPE, classes=5, weights=tmp_path / "nan.weights.h5")
    assert all(np.isnan(each).all() for each in loaded.get_weights())
    assert "some of the weights are NaN" in caplog.text


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(100), b"PK\3\4"])
@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
def test_damaged_files(tmp_path, content, ending):
    path = tmp_path / f"bad{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad{ending}' cannot be read: .") as told:
        ParCNetTiny(input_shape=SHAPE, classes=5, weights=path)
    assert "\n" not in str(told.value)
