"""A small graph between two Keras models: what the rewriting rules of `deploy` work on.

A node is one operation on one image; its weights are float64 arrays, so that folding them into
each other rounds once, at the end. Shapes leave the batch out.

| op | attributes |
|---|---|
| input | |
| conv | kernel (rows, columns, in / groups, out), bias, strides, padding, dilation, groups |
| depthwise | kernel (rows, columns, channels, multiplier), bias, strides, padding, dilation |
| dense | kernel (in, out), bias; over the last axis |
| affine | scale (channels,), shift (channels,) or (height, width, channels) |
| circular | height (height, channels) or None, width (width, channels) or None, bias as a shift |
| wrap | axis: "height" or "width": a side n continued with its first n - 1 again |
| activation | function: a name of `ELEMENTWISE`, or another Keras activation |
| add, multiply, concat | concat along the channels |
| slice, permute | start and stop; order: channels |
| pad, mean | amount ((top, bottom), (left, right)); mean over the map, sides kept |
| reshape | what is left over goes into the batch |
| transpose, matmul | axes, the batch being 0; transposed: whether the second operand is |
| normalize | epsilon: to mean 0 and variance 1 over the channels |
| resize | size: bilinear, half-pixel centres |
| keep | operation, arguments: called as it is |
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LINEAR = ("conv", "depthwise", "dense", "circular")
ELEMENTWISE = frozenset(
    "elu gelu hard_sigmoid hard_silu relu relu6 selu sigmoid silu softplus tanh".split(" ")  # noqa: SIM905
)


@dataclass(eq=False)
class Node:
    """One operation; `shape` is that of its output without the batch."""

    op: str
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
    """Inputs, outputs in order, and the structure (list, dict, single) the outputs came in."""

    inputs: list[Node]
    outputs: list[Node]
    structure: Any = None
    name: str = "model"

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
        """Each node to the nodes that read it (once per reading). Outputs are not among them."""
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
        """Whether nothing but `reader` sees `node`."""
        consumers = consumers or self.consumers()
        return node not in self.outputs and set(consumers[node]) == {reader}


Rule = Callable[[Graph, Node, dict[Node, list[Node]]], bool]


def apply_everywhere(graph: Graph, *rules: Rule) -> None:
    """Apply rules until none changes anything; a rule returns whether it did."""
    changed = True
    while changed:
        changed = False
        consumers = graph.consumers()
        for node in graph.nodes():
            if node in consumers and any(rule(graph, node, consumers) for rule in rules):
                changed = True
                consumers = graph.consumers()


def affine(x: Node, scale, shift, name: str) -> Node:
    """`x * scale + shift`, both broadcast to the channels of `x`."""
    scale = np.broadcast_to(np.asarray(scale, "float64"), (x.channels,)).copy()
    shift = np.asarray(shift, "float64")
    if shift.ndim < 2:
        shift = np.broadcast_to(shift, (x.channels,)).copy()
    return Node("affine", [x], x.shape, name, {"scale": scale, "shift": per_channel(shift)})


def per_channel(shift: np.ndarray) -> np.ndarray:
    """A shift `(height, width, channels)` that is the same everywhere as `(channels,)`."""
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
