"""Rules about the order of channels, and grouped convolutions as plain depthwise ones.

XNNPACK runs a convolution with many groups, or a depthwise one with a multiplier, several times
slower than plain depthwise convolutions. Those need the first inputs (and outputs) of all groups
side by side, then the second ones; the convolutions before and after absorb the change of order.
"""

import numpy as np

from keras_parc.lite.rewrite.graph import Graph, Node
from keras_parc.lite.rewrite.operations import ADD, CONCAT, CONV, DEPTHWISE, PERMUTE, SLICE

MAX_PARTS = 12  # A group of more inputs times outputs stays a grouped convolution.


def fold_permutation(graph: Graph, node: Node, consumers) -> bool:
    """A permutation of the channels, such as RGB to BGR, goes into the weights that read it."""
    if node.op is not PERMUTE:
        return False
    order = np.asarray(node["order"])
    plan = plan_order(graph, node, np.argsort(order), consumers, made_here=True)
    if plan is None:
        return False
    apply_order(plan, consumers)
    graph.replace(node, node.inputs[0])
    return True


def plan_order(
    graph: Graph, node: Node, order, consumers, made_here=False, leave: Node | None = None
) -> dict[Node, np.ndarray] | None:
    """Which tensors must change the order of their channels so that `node` can.

    The new channel i of a tensor is its old channel `order[i]`. Channelwise operations pass an
    order on, in both directions; operations that mix all channels absorb it.

    Args:
        graph: The graph; it is not changed.
        node: The tensor whose order changes.
        order: Its new order.
        consumers: `graph.consumers()`.
        made_here: The caller reorders what makes `node`.
        leave: A reader of `node` that the caller reorders.

    Returns:
        The new order of each tensor that changes, `node` included; None if one cannot change.
    """
    plan: dict[Node, np.ndarray] = {}
    waiting = [(node, np.asarray(order))]
    while waiting:
        tensor, order = waiting.pop()
        if tensor in plan:
            if not np.array_equal(plan[tensor], order):
                return None
            continue
        plan[tensor] = order
        if np.array_equal(order, np.arange(len(order))):
            continue
        if tensor in graph.outputs:
            return None
        if not (made_here and tensor is node):
            before = _orders_before(tensor, order)
            if before is None:
                return None
            waiting += before
        for reader in dict.fromkeys(consumers[tensor]):
            if reader is leave and tensor is node:
                continue
            after = _order_after(reader, plan)
            if after is None:
                return None
            waiting += after
    return plan


def _orders_before(node: Node, order) -> list | None:
    """The orders of the inputs of `node` that give its result in `order`; None if none do."""
    if node.op.mixes(node):
        return []
    if node.op.channelwise(node):
        return [(each, order) for each in node.inputs]
    if node.op is CONCAT:
        found, start = [], 0
        for each in node.inputs:
            part = order[start : start + each.channels] - start
            if part.min() < 0 or part.max() >= each.channels:
                return None
            found.append((each, part))
            start += each.channels
        return found
    return None


def _order_after(node: Node, plan: dict[Node, np.ndarray]) -> list | None:
    """The order of the result of `node` when its inputs change as planned; None if none."""
    if node.op.mixes(node):
        return []
    if node.op.channelwise(node):
        return [(node, next(plan[each] for each in node.inputs if each in plan))]
    if node.op is CONCAT:
        parts, start = [], 0
        for each in node.inputs:
            parts.append(start + plan.get(each, np.arange(each.channels)))
            start += each.channels
        return [(node, np.concatenate(parts))]
    return None


def apply_order(plan: dict[Node, np.ndarray], consumers, skip: tuple[Node, ...] = ()) -> None:
    """Reorder the weights of the nodes planned, and those that absorb the order."""
    touched = dict.fromkeys([*plan, *(reader for node in plan for reader in consumers[node])])
    for node in touched:
        if node in skip:
            continue
        if node.op.mixes(node) and node.inputs[0] in plan:
            node["kernel"] = np.take(node["kernel"], plan[node.inputs[0]], -2)
        if node in plan:
            for name, axis in node.op.channel_axes.items():
                if node[name] is not None:
                    node[name] = np.take(node[name], plan[node], axis)


def split_groups(graph: Graph, node: Node, consumers) -> bool:
    """A grouped convolution of i inputs and o outputs a group becomes i * o depthwise ones.

    The input is reordered to i blocks (first members of all groups, second members, ...), the
    output comes as o blocks: block q is the sum over p of depthwise(p, q) of input block p.
    """
    if node.op is DEPTHWISE:
        groups, inside, outside = node.inputs[0].channels, 1, node["kernel"].shape[-1]
        kernel = node["kernel"].transpose(0, 1, 3, 2)[:, :, None]  # (.., in, out, groups)
    elif node.op is CONV and node["groups"] > 1:
        groups, inside = node["groups"], node["kernel"].shape[2]
        outside = node.channels // groups
        kernel = node["kernel"].reshape(*node["kernel"].shape[:3], groups, outside)
        kernel = kernel.swapaxes(-1, -2)
    else:
        return False
    if inside * outside > MAX_PARTS or (node.op is DEPTHWISE and outside == 1):
        return False
    x = node.inputs[0]
    in_order = np.arange(groups * inside).reshape(groups, inside).T.ravel()
    out_order = np.arange(groups * outside).reshape(groups, outside).T.ravel()
    if inside > 1:
        plan = plan_order(graph, x, in_order, consumers, leave=node)
        if plan is None or node in plan:
            return False
    if outside > 1 and plan_order(graph, node, out_order, consumers, made_here=True) is None:
        return False
    if inside > 1:
        apply_order(plan, consumers, skip=(node,))
    bias = node["bias"].reshape(groups, outside).T
    shared = {name: node[name] for name in ("strides", "padding", "dilation")}
    blocks = [x]
    if inside > 1:
        shape = (*x.shape[:-1], groups)
        blocks = [
            Node(SLICE, [x], shape, node.name, {"start": p * groups, "stop": (p + 1) * groups})
            for p in range(inside)
        ]
    sums = []
    for q in range(outside):
        total = None
        for p, block in enumerate(blocks):
            attrs = {
                "kernel": kernel[:, :, p, q, :, None],
                "bias": bias[q] if p == 0 else np.zeros(groups),
                **shared,
            }
            name = f"{node.name}_{p}_{q}"
            part = Node(DEPTHWISE, [block], (*node.shape[:-1], groups), name, attrs)
            total = part if total is None else Node(ADD, [total, part], part.shape, name)
        sums.append(total)
    result = sums[0]
    if outside > 1:
        result = Node(CONCAT, sums, node.shape, node.name)
        consumers = graph.consumers()
        plan = plan_order(graph, node, out_order, consumers, made_here=True)
        if plan is None:
            back = {"order": np.argsort(out_order)}
            result = Node(PERMUTE, [result], node.shape, node.name, back)
        else:
            apply_order(plan, consumers, skip=(node,))
    graph.replace(node, result)
    return True
