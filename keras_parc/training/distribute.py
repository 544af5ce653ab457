"""Many devices and many hosts, through what Keras and TensorFlow have."""

import contextlib
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Devices:
    """Where a run computes. All images of a step are divided among all devices.

    One host: TensorFlow (`tf.distribute.MirroredStrategy`) or JAX. Several hosts: JAX only
    (`keras.distribution.DataParallel`); every host runs the same command with its own `host`, and
    all see the same output folder.

    Attributes:
        devices: Devices of each host: its first GPUs, or CPUs if there are none.
        hosts: Number of hosts.
        host: Number of this one, from 0; 0 writes the files.
        coordinator: `address:port` of host 0, needed with several hosts.

    Raises:
        ValueError: A number out of range, or several hosts without a coordinator.

    Example:
        >>> Devices(devices=4, hosts=2, coordinator="10.0.0.1:1234").total
        8
    """

    devices: int = 1
    hosts: int = 1
    host: int = 0
    coordinator: str | None = None

    def __post_init__(self):
        if self.devices < 1 or self.hosts < 1:
            raise ValueError(
                f"Expected at least 1 device and 1 host, got {self.devices} and {self.hosts}."
            )
        if not 0 <= self.host < self.hosts:
            raise ValueError(f"`host` must be 0 to {self.hosts - 1}, got {self.host}.")
        if self.hosts > 1 and not self.coordinator:
            raise ValueError("Several hosts need the `coordinator`, the address:port of host 0.")

    @property
    def total(self) -> int:
        """Devices of all hosts."""
        return self.devices * self.hosts

    def connect(self) -> None:
        """Join the other hosts, before anything computes.

        Raises:
            ValueError: Several hosts on another backend than JAX.
        """
        if self.hosts == 1:
            return
        if keras.config.backend() != "jax":
            # MultiWorkerMirroredStrategy fails with Keras 3 (keras issue 20585).
            raise ValueError(
                "Training on several hosts needs the JAX backend: set KERAS_BACKEND=jax. The "
                "finished model loads on TensorFlow and exports."
            )
        keras.distribution.initialize(self.coordinator, self.hosts, self.host)

    def scope(self) -> contextlib.AbstractContextManager:
        """A context to build and train models in.

        Raises:
            ValueError: There are not as many devices, or the backend cannot use several.
        """
        backend = keras.config.backend()
        if self.total == 1:
            return contextlib.nullcontext()
        if backend == "tensorflow":
            import tensorflow as tf

            found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            names = [device.name for device in found]
            self._check_count(names)
            return tf.distribute.MirroredStrategy(names[: self.devices]).scope()
        if backend == "jax":
            import jax

            local = [f"{device.platform}:{device.id}" for device in jax.local_devices()]
            self._check_count(local)
            names = [
                f"{device.platform}:{device.id}"
                for process in range(self.hosts)
                for device in [d for d in jax.devices() if d.process_index == process][
                    : self.devices
                ]
            ]
            return keras.distribution.DataParallel(devices=names, auto_shard_dataset=False).scope()
        raise ValueError(f"The {backend} backend trains on one device only: use TensorFlow or JAX.")

    def wait(self) -> None:
        """Wait until all hosts have come here."""
        if self.hosts > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("wait")

    def _check_count(self, found: list[str]) -> None:
        if len(found) < self.devices:
            raise ValueError(f"Expected {self.devices} devices, found {len(found)}: {found}.")


ONE_DEVICE = Devices()


@contextlib.contextmanager
def without_distribution():
    """Do something on this host that the others do not, such as saving with Keras.

    Keras makes variables while it saves, and under a distribution every host would have to.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)
