#!/usr/bin/env python3
"""Run a .tflite and keep what it computed, to compare machines with one another.

    python infer.py MODEL OUT.npz [--inputs IN.npz] [--runs N] [--threads N] [--kernels KIND]

OUT.npz holds output_0, output_1, ..., `lsb`: one quantization step of each output, 0 where it
comes from float arithmetic, and `graph`: as JSON the operations as the runtime lists them and the
outputs' tensors. Prints facts as JSON. Needs what run.py needs, less Pillow.
"""

import argparse
import json
import os
import platform
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmark import fill_inputs
from run import ToolError, load_runtime, open_model, positive, read_metadata


def give_inputs(interpreter, path):
    """Set the inputs from a file that holds input_0, input_1, ..."""
    with np.load(path) as arrays:
        for i, detail in enumerate(interpreter.get_input_details()):
            name, shape, dtype = f"input_{i}", tuple(detail["shape"]), np.dtype(detail["dtype"])
            array = arrays.get(name)
            if array is None or (array.shape, array.dtype) != (shape, dtype):
                got = "nothing" if array is None else f"{array.dtype} {array.shape}"
                raise ToolError(f"expected {name}: {dtype} {shape} in {path}, got {got}")
            interpreter.set_tensor(detail["index"], array)


def quantization_step(interpreter, output):
    """One step of an output in the output's own unit; 0 for one from float arithmetic."""
    if np.dtype(output["dtype"]).kind != "f":
        return 1.0
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    for op in interpreter._get_ops_details():
        if op["op_name"] == "DEQUANTIZE" and output["index"] in op["outputs"]:
            return float(tensors[op["inputs"][0]]["quantization"][0])
    return 0.0


def results(interpreter, details):
    """The outputs by number; of a detector's, whose last is the count, only as many results."""
    found = [interpreter.get_tensor(detail["index"]) for detail in details]
    if any(
        op["op_name"] == "TFLite_Detection_PostProcess" for op in interpreter._get_ops_details()
    ):
        count = int(found[3][0])  # Beyond it lies uninitialised memory.
        found = [each[:, :count] for each in found[:3]] + [found[3]]
    return {f"output_{i}": each for i, each in enumerate(found)}


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", metavar="OUT.npz")
    parser.add_argument("--inputs", metavar="IN.npz", help="default: the same random pixels always")
    parser.add_argument("--runs", type=positive, default=2, metavar="N", help="(2)")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="(1)")
    parser.add_argument(
        "--kernels", choices=["AUTO", "BUILTIN_REF"], default="AUTO", help="XNNPACK, or plain code"
    )
    args = parser.parse_args(arguments)
    try:
        interpreter = open_model(args.model, args.threads, args.kernels)
        if args.inputs:
            give_inputs(interpreter, args.inputs)
        else:
            fill_inputs(interpreter, read_metadata(args.model))
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.getppid()  # a mark for icount.c; each inference ends with one more
    for _ in range(args.runs):
        interpreter.invoke()
        os.getppid()
    details = interpreter.get_output_details()
    outputs = results(interpreter, details)
    steps = [quantization_step(interpreter, detail) for detail in details]
    nodes = [
        {
            **{key: op[key] for key in ("index", "op_name")},
            **{key: [int(tensor) for tensor in op[key]] for key in ("inputs", "outputs")},
        }
        for op in interpreter._get_ops_details()
    ]
    graph = {"nodes": nodes, "outputs": [int(detail["index"]) for detail in details]}
    np.savez(args.out, lsb=steps, graph=json.dumps(graph), **outputs)
    names = [node["op_name"] for node in nodes]
    facts = {"machine": platform.machine(), "runtime": load_runtime()[1]}
    print(json.dumps({**facts, "partitions": names.count("DELEGATE")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
