"""The other end of `keras_parc.lite.process`: TensorFlow's converter in a process of its own.

Run as `python -m keras_parc.lite.worker`: reads pickled `(task, *arguments)` from its standard
input until that is closed, and answers each with a pickled `(succeeded, bytes or message)`.
"""

import os
import pickle
import sys

from keras_parc.support import compat


def convert(folder: str, quantize: str | None) -> bytes:
    """A SavedModel as a file of built-in operations; `quantize`: None, "float16" or "dynamic"."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.allow_custom_ops = False
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    compat.disable_per_channel_dense(converter)
    return converter.convert()


def quantize(content: bytes, input_type: str, output_type: str, floats: list[str]) -> bytes:
    """A float32 file whose tensors have ranges as int8, except the operations named in `floats`."""
    import tensorflow as tf

    return compat.mlir_quantize(
        content,
        input_data_type=tf.as_dtype(input_type),
        output_data_type=tf.as_dtype(output_type),
        denylisted_nodes=floats or None,
    )


TASKS = {"convert": convert, "quantize": quantize}


def main() -> None:
    """Answer requests until the input is closed."""
    # Libraries print to standard output: it becomes standard error, and a copy carries the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    import tensorflow  # noqa: F401  # Now, while the caller prepares its first request.

    while requests.peek(1):
        task, *arguments = pickle.load(requests)
        function = TASKS[task]
        try:
            answer = True, function(*arguments)
        except Exception as error:  # The converter's own error class is not public.
            answer = False, str(error)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
