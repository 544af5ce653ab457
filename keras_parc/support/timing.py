"""Comparing the time of several functions in one process."""

import time
from collections.abc import Callable

import numpy as np


def interleaved(
    functions: dict[str, Callable[[], object]], rounds: int = 50, warm_up: int = 5
) -> dict[str, dict[str, float]]:
    """Time functions in turn, A B C A B C ..., so that a change of the machine's speed hits all.

    Args:
        functions: Names to functions without arguments.
        rounds: Timed calls of each, at least 1.
        warm_up: Calls of each before, not timed.

    Returns:
        Name to `median_ms`, `p10_ms`, `p90_ms` in milliseconds and `ratio`, the median of the
        ratios to the first function's time in the same round. Compare ratios; the absolute times
        belong to this machine and moment.

    Example:
        >>> sorted(interleaved({"a": lambda: None}, rounds=3)["a"])
        ['median_ms', 'p10_ms', 'p90_ms', 'ratio']
    """
    times = {name: [] for name in functions}
    for turn in range(warm_up + rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn >= warm_up:
                times[name].append(1e3 * (time.perf_counter() - start))
    first = np.array(next(iter(times.values())))
    return {
        name: {
            "median_ms": float(np.median(values)),
            "p10_ms": float(np.percentile(values, 10)),
            "p90_ms": float(np.percentile(values, 90)),
            "ratio": float(np.median(values / first)),
        }
        for name, values in times.items()
    }
