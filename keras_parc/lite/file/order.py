"""The order of a file's operations: runtimes run them, and plan their memory, in that order."""

from keras_parc.lite.file import flatbuffer

BUILTIN = flatbuffer.BUILTIN
_STATEFUL = {BUILTIN.ASSIGN_VARIABLE, BUILTIN.CALL_ONCE, BUILTIN.READ_VARIABLE, BUILTIN.VAR_HANDLE}


def depth_first(model: "flatbuffer.schema.ModelT") -> bool:
    """Order the operations from the outputs, operand by operand, where that needs less memory.

    The converter writes the branches of a model side by side, so that the results of all of them
    are held at once.

    Args:
        model: The objects of a file; changed in place.

    Returns:
        Whether the order changed.
    """
    graph = model.subgraphs[0]
    if any(flatbuffer.kind(model, each) in _STATEFUL for each in graph.operators):
        return False
    order = _from_outputs(graph)
    if order == list(range(len(graph.operators))) or peak(model, order) >= peak(model):
        return False
    graph.operators = [graph.operators[number] for number in order]
    return True


def peak(model: "flatbuffer.schema.ModelT", order: list[int] | None = None) -> int:
    """The most bytes that inputs and results take at any time, each held as long as it is read.

    Args:
        model: The objects of a file.
        order: Numbers of the operations; default: as they stand.
    """
    graph = model.subgraphs[0]
    operators = graph.operators if order is None else [graph.operators[number] for number in order]
    last = {int(tensor): len(operators) for tensor in graph.outputs}
    for time, operator in enumerate(operators):
        for tensor in operator.inputs:
            last[int(tensor)] = max(time, last.get(int(tensor), 0))
    held = sum(flatbuffer.size(model, int(tensor)) for tensor in graph.inputs)
    most = held
    for time, operator in enumerate(operators):
        results = [int(tensor) for tensor in operator.outputs]
        held += sum(flatbuffer.size(model, tensor) for tensor in results)
        most = max(most, held)
        made = {*results, *(int(tensor) for tensor in operator.inputs)}
        held -= sum(
            flatbuffer.size(model, tensor) for tensor in made if last.get(tensor, 0) <= time
        )
    return most


def _from_outputs(graph: "flatbuffer.schema.SubGraphT") -> list[int]:
    maker = {int(t): number for number, op in enumerate(graph.operators) for t in op.outputs}
    order, done = [], set()
    stack = [(maker[int(t)], False) for t in reversed(graph.outputs) if int(t) in maker]
    while stack:
        number, ready = stack.pop()
        if ready:
            order.append(number)
        elif number not in done:
            done.add(number)
            stack.append((number, True))
            inputs = [int(t) for t in graph.operators[number].inputs]
            stack.extend((maker[t], False) for t in reversed(inputs) if t in maker)
    # What no output needs, and whose effect may be another, stays at the end.
    return order + [number for number in range(len(graph.operators)) if number not in done]
