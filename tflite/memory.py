#!/usr/bin/env python3
"""How much memory models take: a process of its own for each, one inference; Linux only."""

import argparse
import csv
import os
import subprocess
import sys

from run import ToolError, load_runtime, one_line, open_model, positive

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
    """MB that a model adds to a process with the runtime: loaded, and at most in an inference."""
    load_runtime()
    before = resident("VmRSS")
    interpreter = open_model(path, threads)
    loaded = resident("VmRSS") - before
    interpreter.invoke()
    return loaded, resident("VmHWM") - before


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="+")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="(1)")
    parser.add_argument("--csv", metavar="FILE", help="write the figures there as well")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    try:
        if args.alone:
            print(*weigh(args.model[0], args.threads))
            return 0
        runtime, rows = load_runtime()[1], []
        for path in args.model:
            command = [sys.executable, __file__, path, "--alone", "--threads", str(args.threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if done.returncode:
                raise ToolError(one_line(done.stderr.decode().replace("error: ", "")))
            sizes = [os.path.getsize(path) / 1e6, arena(path), *map(float, done.stdout.split())]
            figures = [os.path.basename(path), *(round(each, 2) for each in sizes)]
            rows.append(dict(zip(COLUMNS, [*figures, args.threads, runtime])))
            print("{0}  arena {2} MB, loaded {3} MB, at most {4} MB".format(*figures))
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
