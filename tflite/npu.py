#!/usr/bin/env python3
"""What Arm's compiler Vela makes of models for Ethos-U NPUs: estimates, no measurements.

    python npu.py MODEL... [--npu ethos-u55-128 ...] [--vela PATH] [--csv FILE]

Needs Vela (pip install ethos-u-vela). Exit code 1: a model is not compiled, or part of it is left
to the CPU.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from model_file import ToolError, check_model

# The system and the memory that Vela's own Arm/vela.ini describes for each.
NPUS = {
    "ethos-u55-128": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65-256": ("Ethos_U65_Client_Server", "Dedicated_Sram_384KB"),
    "ethos-u85-256": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
}
COLUMNS = ["model", "npu", "ms", "sram_kib", "dram_kib", "flash_kib", "on_npu", "on_cpu", "cpu"]
COLUMNS += ["system", "memory", "vela"]
SECONDS = 1800


def find_vela(path=None):
    """The command, from PATH or beside this Python where none is given."""
    found = shutil.which(path or "vela") or shutil.which(Path(sys.executable).parent / "vela")
    if found is None:
        raise ToolError(f"expected Vela, there is no {path or 'vela'}: pip install ethos-u-vela")
    return found


def version(vela):
    """Vela's version."""
    done = subprocess.run([vela, "--version"], capture_output=True, text=True)
    if done.returncode:
        raise ToolError(f"{vela} does not run: {last_line(done.stderr)}")
    return done.stdout.strip()


def last_line(text):
    """The last line that is not blank, or that there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


def compiled(path, npu, vela, folder):
    """Compile a model into a folder: its totals, and a row of each operation."""
    system, memory = NPUS[npu]
    arguments = ["--accelerator-config", npu, "--config", "Arm/vela.ini", "--verbose-performance"]
    arguments += ["--system-config", system, "--memory-mode", memory, "--output-dir", folder]
    command = [vela, str(path), *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"Vela takes more than {SECONDS} s for {path}") from error
    if done.returncode:
        problems = [line for line in done.stderr.splitlines() if "Error" in line]
        raise ToolError(f"Vela does not compile {path}: {last_line(chr(10).join(problems[:1]))}")
    tables = []
    for name in ("_summary_", "_per-layer"):
        (file,) = (each for each in Path(folder).iterdir() if name in each.name)
        with open(file, newline="") as lines:
            tables.append(list(csv.DictReader(lines)))
    (totals,), operations = tables
    return totals, operations


def estimate(path, npu, vela):
    """A row of `COLUMNS` but the last."""
    with tempfile.TemporaryDirectory() as folder:
        totals, operations = compiled(path, npu, vela, folder)
    left = [each["Original Operator"].strip() for each in operations if _on_cpu(each)]
    system, memory = NPUS[npu]
    return {
        "model": Path(path).name,
        "npu": npu,
        "ms": round(float(totals["inference_time"]) * 1e3, 2),
        "sram_kib": round(float(totals["sram_memory_used"])),
        "dram_kib": round(float(totals["dram_memory_used"])),
        "flash_kib": round(float(totals["off_chip_flash_memory_used"])),
        "on_npu": len(operations) - len(left),
        "on_cpu": len(left),
        "cpu": " ".join(sorted(set(left))),
        "system": system,
        "memory": memory,
    }


def _on_cpu(operation):
    return operation["Target"].strip() == "CPU"


def write_csv(path, rows):
    """Write the rows, the whole file or none of it."""
    partial = f"{path}.part"
    with open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="+")
    parser.add_argument("--npu", nargs="+", choices=list(NPUS), default=list(NPUS), help="(all)")
    parser.add_argument("--vela", metavar="PATH", help="Vela's command (vela)")
    parser.add_argument("--csv", metavar="FILE", help="write the figures there as well")
    args = parser.parse_args(arguments)
    rows, refused = [], []
    try:
        vela = find_vela(args.vela)
        facts = {"vela": version(vela)}
        for path in args.model:
            check_model(path)
        width = max(len(Path(path).name) for path in args.model)
        print(f"{'model':{width}}  {'npu':13}  est. ms  SRAM KiB  DRAM KiB  on the CPU")
        for path in args.model:
            for npu in args.npu:
                try:
                    row = {**estimate(path, npu, vela), **facts}
                except ToolError as error:
                    print(f"error: {error}", file=sys.stderr)
                    refused.append(path)
                    break
                rows.append(row)
                print(
                    f"{row['model']:{width}}  {npu:13}  {row['ms']:7.2f}  {row['sram_kib']:8} "
                    f" {row['dram_kib']:8}  {row['on_cpu']} {row['cpu']}".rstrip(),
                    flush=True,
                )
        if args.csv:
            write_csv(args.csv, rows)
    except (ToolError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if refused or any(row["on_cpu"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
