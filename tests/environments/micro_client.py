"""Run a model in TensorFlow Lite for microcontrollers; needs tflite-micro, not keras_parc.

    python micro_client.py MODEL INPUTS.npy OUTPUTS.npy

`INPUTS`: (n, 1, height, width, 3) in the type that the model takes; `OUTPUTS`: (n, ...), raw.
"""

import sys

import numpy as np
from tflite_micro import runtime

ARENA = 64 << 20


def main(model, inputs, outputs):
    interpreter = runtime.Interpreter.from_file(model, arena_size=ARENA)
    found = []
    for value in np.load(inputs):
        interpreter.set_input(value, 0)
        interpreter.invoke()
        found.append(interpreter.get_output(0))
    np.save(outputs, np.stack(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
