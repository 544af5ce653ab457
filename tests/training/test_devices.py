"""`fit` on several devices and hosts: the same training."""

import socket

import keras
import numpy as np
import pytest

import keras_parc
from keras_parc.training.distribute import Devices
from small_training import finished, rows, start


def test_devices_are_checked():
    with pytest.raises(ValueError, match="at least 1 device"):
        Devices(0)
    with pytest.raises(ValueError, match="0 to 1"):
        Devices(hosts=2, host=2, coordinator="x:1")
    with pytest.raises(ValueError, match="coordinator"):
        Devices(hosts=2)
    if keras.config.backend() == "tensorflow":
        with pytest.raises(ValueError, match="KERAS_BACKEND=jax"):
            Devices(hosts=2, coordinator="x:1").connect()
    with pytest.raises(ValueError, match=r"Expected 64 devices, found \d"):
        Devices(64).scope()


def assert_same_losses(one, two):
    """Float32 sums in another order: within 1e-5 after 28 steps (seen: 2e-7)."""
    for a, b in zip(rows(one), rows(two), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["val_loss"] == pytest.approx(a["val_loss"], rel=1e-5)


@pytest.mark.slow
def test_two_devices_learn_what_one_does(tmp_path):
    """MirroredStrategy on two virtual devices, BatchNorm synchronized."""
    finished(start(tmp_path, "devices"))
    assert_same_losses(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_hosts_learn_what_one_does_and_their_model_exports(tmp_path):
    """DataParallel on JAX: two virtual devices, and two processes that talk over loopback."""
    pytest.importorskip("jax")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    two = "--xla_force_host_platform_device_count=2"
    processes = [
        start(tmp_path, "devices", backend="jax", XLA_FLAGS=two),
        *(start(tmp_path / "hosts", "host", n, port, backend="jax") for n in (0, 1)),
    ]
    for process in processes:
        finished(process)
    assert_same_losses(tmp_path / "one", tmp_path / "two")
    assert_same_losses(tmp_path / "one", tmp_path / "hosts")

    model = keras.models.load_model(tmp_path / "two" / "model.keras")
    with np.load(tmp_path / "predictions.npz") as stored:
        images, theirs = stored["images"], stored["scores"]
    np.testing.assert_allclose(model.predict(images, verbose=0), theirs, atol=1e-6)
    lite = keras_parc.to_tflite(model, tmp_path / "small.tflite")
    np.testing.assert_allclose(keras_parc.TFLiteModel(lite)(images), theirs, atol=1e-5)
