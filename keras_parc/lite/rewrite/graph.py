"""A small graph between two Keras models: what the rules of `deploy` change.

A node is one operation on one image; its weights are float64 arrays, so that folding them into
each other rounds once, at the end. Shapes leave the batch out. `operations` has what a node can be,
with its attributes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_parc.lite.rewrite.operations import AFFINE, Operation


@dataclass(eq=False)
class Node:
    """One operation in a graph.

    Args:
        op: Which operation.
        inputs: The nodes whose results it takes.
        shape: Shape of its result, without the batch.
        name: Of the Keras layer that it becomes.
        attrs: Its attributes, as `op.attributes` lists them; `node["bias"]` reads and sets one.
    """

    op: Operation
    inputs: list["Node"]
    shape: tuple[int, ...]
    name: str
    attrs: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key):
        return self.attrs[key]

    def __setitem__(self, key, value):
        self.attrs[key] = value

    def __repr__(self):
        return f"<{self.op} {self.name} {self.shape}>"

    @property
    def channels(self) -> int:
        return self.shape[-1]


@dataclass(eq=False)
class Graph:
    """Nodes between the inputs and the outputs of a model.

    Args:
        inputs: The nodes of `INPUT`.
        outputs: The nodes whose results the model returns, in order.
        structure: How the model nests them: a list, a dictionary or a single tensor.
        name: Name of the model.
        input_structure: How the model nests its inputs; None: one, or a list of them.
        kept: The kinds of operations that no reader knows, and why.
    """

    inputs: list[Node]
    outputs: list[Node]
    structure: Any = None
    name: str = "model"
    input_structure: Any = None
    kept: dict[str, str] = field(default_factory=dict)

    def nodes(self) -> list[Node]:
        """All nodes the outputs need, inputs before their consumers."""
        done, order, stack = set(), [], [(node, False) for node in reversed(self.outputs)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif node not in done:
                done.add(node)
                stack.append((node, True))
                stack.extend((each, False) for each in reversed(node.inputs))
        return order

    def consumers(self) -> dict[Node, list[Node]]:
        """The nodes that read each node, once for each time; not whether it is an output."""
        found = {node: [] for node in self.nodes()}
        for node in found:
            for each in node.inputs:
                found[each].append(node)
        return found

    def replace(self, old: Node, new: Node, within: Iterable[Node] | None = None) -> None:
        """Let every reader of `old` (or those of `within`) read `new` instead."""
        for node in self.nodes() if within is None else within:
            if node is not new:
                node.inputs = [new if each is old else each for each in node.inputs]
        if within is None:
            self.outputs = [new if each is old else each for each in self.outputs]

    def only_reader(self, node: Node, reader: Node, consumers=None) -> bool:
        """Whether only `reader` reads `node`, and `node` is not an output."""
        consumers = consumers or self.consumers()
        return node not in self.outputs and set(consumers[node]) == {reader}


Rule = Callable[[Graph, Node, dict[Node, list[Node]]], bool]


def apply_everywhere(graph: Graph, *rules: Rule) -> None:
    """Apply rules until none changes the graph; a rule returns whether it did."""
    changed = True
    while changed:
        changed = False
        consumers = graph.consumers()
        for node in graph.nodes():
            if node in consumers and any(rule(graph, node, consumers) for rule in rules):
                changed = True
                consumers = graph.consumers()


def affine(x: Node, scale, shift, name: str) -> Node:
    """`x * scale + shift`, both broadcast to the channels of `x`.

    Args:
        x: The node before.
        scale: A number or `(channels,)`.
        shift: A number, `(channels,)` or `(height, width, channels)`.
        name: Name of the new node.
    """
    scale = np.broadcast_to(np.asarray(scale, "float64"), (x.channels,)).copy()
    shift = np.asarray(shift, "float64")
    if shift.ndim < 2:
        shift = np.broadcast_to(shift, (x.channels,)).copy()
    return Node(AFFINE, [x], x.shape, name, {"scale": scale, "shift": per_channel(shift)})


def per_channel(shift: np.ndarray) -> np.ndarray:
    """A shift as `(channels,)` if it is the same at all positions; any other as it is.

    Example:
        >>> per_channel(np.ones((5, 6, 4))).shape
        (4,)
    """
    if shift.ndim == 3:
        mean = shift.mean((0, 1))
        if np.abs(shift - mean).max() <= 1e-12 * max(np.abs(shift).max(), 1e-30):
            return mean
    return shift


def concat_shifts(shifts: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Shifts of several tensors as one, along the channels; `shape` is that of the result."""
    if any(shift.ndim == 3 for shift in shifts):
        shifts = [np.broadcast_to(shift, (*shape[:2], shift.shape[-1])) for shift in shifts]
    return np.concatenate(shifts, -1)
