#!/usr/bin/env python3
"""Run .tflite models here, on emulated ARM and on tflite-runtime, and compare what they compute.

    python compare.py MODEL... [--targets TARGET...] [--lsb 4] [--rel 1e-4] [--cache 1024]
                      [--csv FILE]

A target is compared with the kernels of its own kind here: with XNNPACK, or where its runtime has
none with the built-in ones, which round int8 otherwise. Outputs from int8 arithmetic may differ by
--lsb quantization steps, those from float arithmetic by --rel of the largest value. Exit code 1
where one differs more, or a runtime fails or crashes. --cache also counts, in ten times the time,
what caches of 32 KiB and, behind it, so many KiB miss (the RK3288 has
1024), and the MB from and to memory: icount.c.
Run setup.sh first; KERAS_PARC_ARM says where its targets are (.arm in the repository).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmark import write_csv
from run import ToolError

HERE = os.path.dirname(os.path.abspath(__file__))
# For each target, the kernels here that compute as its runtime does.
KERNELS = {"armv7x": "AUTO", "armv7": "BUILTIN_REF", "arm64": "AUTO", "x86": "BUILTIN_REF"}
EMULATED = ["armv7x", "armv7", "arm64"]
COLUMNS = ["model", "target", "machine", "runtime", "partitions", "instructions", "lsb", "rel"]
COLUMNS += ["top1_same", "l1_misses", "l2_misses", "memory_mb", "verdict"]


def infer(model, out, target=None, inputs=None, kernels="AUTO", runs=2, timeout=600, cache=None):
    """Run infer.py here or on a target; return its facts. Raise ToolError where it fails."""
    command = [sys.executable] if target is None else [os.path.join(HERE, "run_arm"), target]
    command += [os.path.join(HERE, "infer.py"), model, out, "--kernels", kernels]
    command += ["--runs", str(runs)]
    command += ["--inputs", inputs] if inputs else []
    where = f"on {target}" if target else "here"
    count = f"{out}.count"
    try:
        done = subprocess.run(
            command,
            env=dict(os.environ, COUNT=count, CACHE=str(cache or "")),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"no result {where} within {timeout} s") from error
    if done.returncode:
        number = -done.returncode if done.returncode < 0 else done.returncode - 128
        if number > 0:
            raise ToolError(f"crashed {where}: {signal.Signals(number).name}")
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ToolError(f"failed {where}: {lines[-1]}")
    facts = json.loads(done.stdout)
    if target not in (None, "x86"):
        with open(count) as file:  # the last inference: the first still packs weights
            counted = [int(each) for each in file.read().splitlines()[-1].split()]
        facts["instructions"] = counted[0]
        if cache:
            facts["l1_misses"], facts["l2_misses"] = counted[1:3]
            facts["memory_mb"] = round(counted[3] / 1e6, 2)
    return facts


def difference(reference, other):
    """Return the largest differences of two results and whether the top-1 of all outputs agree.

    The differences are "lsb", of outputs from int8 arithmetic, and "rel", of the others.
    """
    worst, same = {}, True
    with np.load(reference) as a, np.load(other) as b:
        for i, step in enumerate(a["lsb"]):
            x, y = (file[f"output_{i}"].astype(np.float64) for file in (a, b))
            if x.shape != y.shape or not np.isfinite(y).all():
                raise ToolError(f"failed: output {i} is {y.shape}, expected finite {x.shape}")
            unit, scale = ("lsb", step) if step else ("rel", np.abs(x).max() or 1.0)
            amount = float(np.abs(x - y).max() / scale)
            worst[unit] = max(worst.get(unit, 0.0), round(amount, 2 if step else 9))
            same = same and bool((x.argmax(-1) == y.argmax(-1)).all())
    return {**worst, "top1_same": same}


def compare(model, targets, limits, inputs, folder, cache=None):
    """Yield a row for each target."""
    references = {kernels: f"{folder}/{kernels}.npz" for kernels in map(KERNELS.get, targets)}
    for kernels, path in references.items():
        infer(model, path, inputs=inputs, kernels=kernels)
    for target in targets:
        row = dict.fromkeys(COLUMNS, "")
        row.update(model=os.path.basename(model), target=target)
        out = f"{folder}/{target}.npz"
        try:
            row.update(
                infer(model, out, target, inputs, cache=cache, timeout=3600 if cache else 600)
            )
            row.update(difference(references[KERNELS[target]], out))
            close = all(row[unit] == "" or row[unit] <= limits[unit] for unit in limits)
            row["verdict"] = "ok" if close else "differs"
        except ToolError as error:
            row["verdict"] = str(error)
        yield row


def show(row):
    """Print one row."""
    parts = [f"{row['model']:28} {row['target']:7}"]
    if row["top1_same"] != "":
        counted = row["instructions"]
        counted = f"{counted / 1e6:9.2f} M" if counted != "" else " " * 11
        parts.append(f"{counted}  {row['partitions']:2} XNNPACK")
        if row["memory_mb"] != "":
            parts.append(f"{row['l2_misses'] / 1e6:.2f} M L2 misses, {row['memory_mb']:.1f} MB")
        amounts = [f"{row[unit]:.2g} {unit}" for unit in ("lsb", "rel") if row[unit] != ""]
        parts.append(f"{', '.join(amounts):>11}  top-1 {'same' if row['top1_same'] else 'other':5}")
    print("  ".join([*parts, row["verdict"]]), flush=True)


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="+")
    parser.add_argument("--targets", nargs="+", choices=KERNELS, default=EMULATED)
    parser.add_argument("--inputs", metavar="IN.npz", help="input_0, ...; default: random pixels")
    parser.add_argument("--lsb", type=float, default=4, help="allowed for int8 outputs (4)")
    parser.add_argument("--rel", type=float, default=1e-4, help="allowed for float outputs (1e-4)")
    parser.add_argument("--cache", type=int, metavar="KIB", help="model caches, the last of KIB")
    parser.add_argument("--csv", metavar="FILE", help="write the rows there as well")
    args = parser.parse_args(arguments)
    limits = {"lsb": args.lsb, "rel": args.rel}
    rows = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for model in args.model:
                for row in compare(model, args.targets, limits, args.inputs, folder, args.cache):
                    show(row)
                    rows.append(row)
        if args.csv:
            write_csv(args.csv, rows)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if all(row["verdict"] == "ok" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
