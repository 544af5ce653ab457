"""The machine and the backend that figures were measured on."""

import contextlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import keras


def circumstances(rounds: int, jit: bool) -> dict[str, str | int | bool]:
    """What a row of figures says of how it came about.

    Args:
        rounds: Measurements of each.
        jit: Whether XLA compiled on TensorFlow. JAX always does.
    """
    backend = keras.config.backend()
    return {
        "backend": backend,
        "version": version(backend),
        "keras": keras.__version__,
        "jit": jit if backend == "tensorflow" else backend == "jax",
        "rounds": rounds,
        "device": device_name(),
    }


def device_name() -> str:
    """What the backend computes on: the name of the GPU, else of the processor and its cores."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        if jax.devices()[0].platform != "cpu":
            return jax.devices()[0].device_kind
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    elif backend == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU")[:1]:
            return tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
    return f"{_processor()}, {cores()} core{'s' * (cores() > 1)}"


def cores() -> int:
    """How many cores of the processor this process may use.

    Example:
        >>> cores() > 0
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of main memory that this process may still take; 4 GiB where the system does not say.

    Example:
        >>> free_memory() > 0
        True
    """
    found = []
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(each for each in lines if each.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # of a container; "max" is no number
        folder = Path("/sys/fs/cgroup")
        limit, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
        found.append(int(limit) - int(used))
    return max(2**28, min(found, default=2**32))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
