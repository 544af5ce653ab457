#!/usr/bin/env python3
"""How much memory models take: a process of its own for each, one inference; Linux only."""

import argparse
import csv
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from run import ToolError, load_runtime, open_model, positive

COLUMNS = ["model", "file_mb", "arena_mb", "loaded_mb", "peak_mb", "threads", "runtime"]


def resident(field):
    """VmRSS (now) or VmHWM (the most so far) of this process in MB."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise ToolError(f"expected {field} in /proc/self/status")


def arena(path):
    """MB of the arena that the runtime plans for a model's inputs and results, without XNNPACK."""
    interpreter = open_model(path, kernels="BUILTIN_WITHOUT_DEFAULT_DELEGATES")
    indices = {each["index"] for each in interpreter.get_input_details()}
    for operation in interpreter._get_ops_details():
        indices.update(operation["outputs"])
    arrays = [interpreter.tensor(index)() for index in indices]
    first = min(each.ctypes.data for each in arrays)
    return (max(each.ctypes.data + each.nbytes for each in arrays) - first) / 2**20


def weigh(path, threads):
    """A row of figures; to be called in a process that has not imported the runtime.

    "loaded_mb" and "peak_mb" are what a model adds to one that has: loaded, and at most in an
    inference.
    """
    runtime = load_runtime()[1]
    before = resident("VmRSS")
    interpreter = open_model(path, threads)
    loaded = resident("VmRSS") - before
    interpreter.invoke()
    peak = resident("VmHWM") - before
    sizes = [os.path.getsize(path) / 1e6, arena(path), loaded, peak]
    figures = [os.path.basename(path), *(round(each, 2) for each in sizes)]
    return dict(zip(COLUMNS, [*figures, threads, runtime]))


def weigh_alone(path, threads):
    """`weigh` in a process of its own: a fork, since on a device a launcher may start Python."""
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=fork) as pool:
        try:
            return pool.submit(weigh, path, threads).result()
        except BrokenProcessPool as error:
            raise ToolError(f"the runtime dies of {path}: copy or export it again") from error


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="+")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="(1)")
    parser.add_argument("--csv", metavar="FILE", help="write the figures there as well")
    args = parser.parse_args(arguments)
    try:
        rows = []
        for path in args.model:
            rows.append(weigh_alone(path, args.threads))
            print(
                "{model}  arena {arena_mb} MB, loaded {loaded_mb} MB, at most {peak_mb} MB".format(
                    **rows[-1]
                )
            )
        if args.csv:
            partial = f"{args.csv}.part"
            with open(partial, "w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
            os.replace(partial, args.csv)
    except (ToolError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
