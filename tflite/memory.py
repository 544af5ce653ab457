#!/usr/bin/env python3
"""How much memory models take: a process of its own for each, one inference; Linux only."""

import argparse
import csv
import os
import subprocess
import sys

from run import ToolError, load_runtime, one_line, open_model, positive

COLUMNS = ["model", "file_mb", "loaded_mb", "peak_mb", "threads", "runtime"]


def resident(field):
    """VmRSS (now) or VmHWM (the most so far) of this process in MB."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise ToolError(f"expected {field} in /proc/self/status")


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
            loaded, peak = map(float, done.stdout.split())
            size = os.path.getsize(path) / 1e6
            figures = [round(size, 2), round(loaded, 1), round(peak, 1), args.threads, runtime]
            rows.append(dict(zip(COLUMNS, [os.path.basename(path), *figures])))
            print(f"{rows[-1]['model']}  loaded {loaded:.1f} MB, at most {peak:.1f} MB")
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
