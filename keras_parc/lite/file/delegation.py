"""Which operations of a `.tflite` file a delegate leaves to the runtime's own kernels."""

from collections.abc import Sequence

from keras_parc.lite.file.outputs import OpenFile


def outside(nodes: Sequence[dict], outputs: Sequence[int]) -> list[dict]:
    """The operations that a runtime runs with its own kernels.

    The runtime lists all operations, also those that a delegate replaces. So the ones that run are
    found from the outputs backwards, through the delegate where it makes a tensor.

    Args:
        nodes: What `compat.operation_details` gives, of any runtime.
        outputs: The numbers of the output tensors.

    Returns:
        Those of the nodes, not sorted.

    Example:
        >>> add = {"index": 0, "op_name": "ADD", "inputs": [0, 0], "outputs": [1]}
        >>> delegate = add | {"index": 1, "op_name": "DELEGATE"}
        >>> len(outside([add, delegate], [1])), len(outside([add], [1]))
        (0, 1)
    """
    maker = {}
    for node in sorted(nodes, key=lambda node: node["op_name"] == "DELEGATE"):
        maker.update({int(tensor): node for tensor in node["outputs"]})
    running, waiting = {}, list(outputs)
    while waiting:
        node = maker.get(int(waiting.pop()))
        if node is not None and node["index"] not in running:
            running[node["index"]] = node
            waiting.extend(tensor for tensor in node["inputs"] if tensor >= 0)
    return [node for node in running.values() if node["op_name"] != "DELEGATE"]


def results_outside(content: bytes) -> list[str]:
    """Names of the results of the operations that XNNPACK leaves out, sorted.

    Args:
        content: The bytes of a file that this process made.

    Raises:
        ValueError: The runtime refuses it.
    """
    file = OpenFile(content)
    left, names = outside(file.operations(), file.outputs), file.names
    return sorted(names[int(node["outputs"][0])] for node in left)
