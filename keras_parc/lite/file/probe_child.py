"""The other end of `keras_parc.lite.file.probe`: does with a file what the package does with one.

Run as a script: `python -P probe_child.py FILE KERNELS THREADS`. Exit code 0: the file runs; 1: it
does not, and the last line of the output says why; a signal: the runtime died of it.
"""

import contextlib
import os
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_parc.support import compat


def limit_memory() -> None:
    """To what the machine has; where it is short of that, the system shall kill this process."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def run(path: str, kernels: str, threads: int) -> None:
    """Open the file, read what the package reads of it, and run it twice."""
    interpreter = Interpreter(
        path, num_threads=threads, experimental_op_resolver_type=OpResolverType[kernels]
    )
    interpreter.allocate_tensors()
    interpreter.get_tensor_details()
    compat.operation_details(interpreter)
    for key in interpreter.get_signature_list():
        interpreter.get_signature_runner(key).get_output_details()
    for values in (zeros, noise):
        for each in interpreter.get_input_details():
            interpreter.set_tensor(each["index"], values(each["shape"], np.dtype(each["dtype"])))
        interpreter.invoke()
        for each in interpreter.get_output_details():
            interpreter.get_tensor(each["index"])


def zeros(shape: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A black image."""
    return np.zeros(shape, dtype)


def noise(shape: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Random pixels; zeros of types that pixels do not have: a number may be a place in a table."""
    if dtype.kind not in "iuf" or (dtype.kind != "f" and dtype.itemsize > 1):
        return zeros(shape, dtype)
    low, high = (0, 255) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.random.default_rng(0).uniform(low, high, shape).astype(dtype)


if __name__ == "__main__":
    limit_memory()
    try:
        run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except MemoryError:
        print("it needs more memory than this machine has")
        sys.exit(1)
    except Exception as error:  # of whatever kind: the file is the cause
        print("the runtime refuses it:", " ".join(str(error).split()) or repr(error))
        sys.exit(1)
