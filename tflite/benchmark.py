#!/usr/bin/env python3
"""Time .tflite models against each other on this machine.

    python benchmark.py MODEL... [--runs N] [--threads N] [--cpus 0,1] [--csv FILE]

The models take turns, one inference each, so that heat and other load hit all of them alike.
Needs run.py and model_file.py beside it, numpy and ai-edge-litert or tflite-runtime.
"""

import argparse
import csv
import glob
import os
import platform
import sys
import time

import numpy as np

from run import ToolError, encode, load_runtime, one_line, open_model, positive, read_metadata

COLUMNS = ["model", "median_ms", "p10_ms", "p90_ms", "min_ms", "ratio"]


def fill_inputs(interpreter, metadata):
    """Give every input the same random pixels on every machine, prepared as run.py does."""
    generator = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        pixels = generator.integers(0, 256, detail["shape"]).astype(np.uint8)
        values = encode(pixels, detail, metadata)
        interpreter.set_tensor(detail["index"], values)


def measure(interpreters, runs, warmup):
    """Return milliseconds, (runs, models): the models take turns."""
    times = np.zeros((warmup + runs, len(interpreters)))
    for row in times:
        for column, interpreter in enumerate(interpreters):
            start = time.perf_counter()
            interpreter.invoke()
            row[column] = (time.perf_counter() - start) * 1000
    return times[warmup:]


def summarize(models, times):
    """One row a model: median, spread, and the ratio of medians to the first model."""
    rows = []
    for model, column in zip(models, times.T):
        low, median, high = np.percentile(column, [10, 50, 90])
        figures = [median, low, high, column.min(), median / np.median(times[:, 0])]
        rows.append(dict(zip(COLUMNS, [model, *(round(float(value), 4) for value in figures)])))
    return rows


def temperature(root="/sys"):
    """The hottest CPU sensor in degrees Celsius, None where there is none to read."""
    degrees = []
    for zone in glob.glob(f"{root}/class/thermal/thermal_zone*"):
        kind, value = read(f"{zone}/type"), read(f"{zone}/temp")
        if any(word in kind.lower() for word in ("cpu", "soc", "pkg")) and value.isdigit():
            degrees.append(int(value) / 1000)
    return max(degrees) if degrees else None


def governor(root="/sys"):
    """The CPUs' frequency governors, empty where they cannot be read."""
    files = glob.glob(f"{root}/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return "+".join(sorted({read(file) for file in files}))


def machine_name():
    """The board, else the processor, and the architecture."""
    board = read("/proc/device-tree/model")
    for line in read("/proc/cpuinfo").splitlines():
        if not board and line.startswith(("model name", "Hardware")):
            board = line.split(":", 1)[1].strip()
    return f"{board} {platform.machine()}".strip()


def read(path):
    """A small system file's text, empty where it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""


def pin(cpus):
    """Keep this process on the given CPUs, '0,1'; Linux only."""
    try:
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    except (AttributeError, ValueError, OSError) as error:
        raise ToolError(f"cannot pin to CPUs {cpus!r} (expected 0,1): {one_line(error)}") from error


def write_csv(path, rows):
    """Write the rows; a killed run leaves the old file."""
    partial = f"{path}.part"
    try:
        with open(partial, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, path)
    except OSError as error:
        raise ToolError(f"cannot write {path}: {error.strerror}") from error


def show(rows, facts):
    """Print the table and the circumstances."""
    width = max(len(row["model"]) for row in rows)
    print(f"{'model':{width}}  median ms     p10     p90     min  ratio")
    for row in rows:
        print(
            f"{row['model']:{width}}  {row['median_ms']:9.3f} {row['p10_ms']:7.3f} "
            f"{row['p90_ms']:7.3f} {row['min_ms']:7.3f} {row['ratio']:6.3f}"
        )
    print(", ".join(f"{name} {value}" for name, value in facts.items() if value not in ("", None)))


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="+")
    parser.add_argument("--runs", type=positive, default=50, metavar="N", help="(50)")
    parser.add_argument("--warmup", type=positive, default=5, metavar="N", help="(5)")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="(1)")
    parser.add_argument("--cpus", metavar="0,1", help="pin to these CPUs")
    parser.add_argument("--csv", metavar="FILE", help="write the figures there as well")
    args = parser.parse_args(arguments)
    try:
        if args.cpus:  # before the runtime starts its threads
            pin(args.cpus)
        interpreters = [open_model(path, args.threads) for path in args.model]
        for path, interpreter in zip(args.model, interpreters):
            fill_inputs(interpreter, read_metadata(path))
        before = temperature()
        times = measure(interpreters, args.runs, args.warmup)
        facts = {
            "threads": args.threads,
            "cpus": args.cpus or "",
            "runs": args.runs,
            "machine": machine_name(),
            "runtime": load_runtime()[1],
            "governor": governor(),
            "celsius_before": before,
            "celsius_after": temperature(),
        }
        rows = summarize(args.model, times)
        show(rows, facts)
        if args.csv:
            write_csv(args.csv, [{**row, **facts} for row in rows])
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
