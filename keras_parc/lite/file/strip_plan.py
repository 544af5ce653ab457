"""Which operations are run in strips of rows, and in how many: a model of what time they take."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.flatbuffer import BUILTIN
from keras_parc.lite.file.rows import JOINED, ROWS, File, Need, Rows

_COUNTS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
_LONGEST = 60  # operations in a region
_LEAST_ROWS = 2  # of a strip of the result
_WORTH = 0.97  # of the time of the whole: what is promised is not exact
_MEMORY = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0)  # what a byte of the arena beyond the cache may cost


@dataclass(frozen=True)
class Device:
    """What the plan depends on; times are in that of a byte that lies in the cache.

    Args:
        cache: Bytes of the cache that a core has to itself; 0: nothing is cut.
        far: The time of a byte that does not lie in it.
        product: The time of a multiplication of float32 or int8: as a Cortex-A17's.
        start: The time of starting an operation. Where another cache lies behind this one, bytes
            outside are cheaper than the plan says, which a larger figure makes up for.
        slower: How much slower than the fastest plan one of less memory may be.
    """

    cache: int
    far: float = 3.0
    product: tuple[float, float] = (1.0, 1.0)
    start: float = 20_000.0
    slower: float = 1.05


@dataclass(frozen=True)
class Region:
    """Operations that follow each other, of whose results one is read by others.

    Args:
        first: Number of the first operation.
        stop: Number of the one after the last.
        result: The number of that result.
        count: How many strips it is computed in.
    """

    first: int
    stop: int
    result: int
    count: int


@dataclass(frozen=True)
class _Choice:
    region: Region | None
    time: float
    memory: float  # bytes


def strips_of(height: int, count: int) -> list[Rows]:
    """The rows of each strip, as even as can be.

    Example:
        >>> strips_of(7, 3)
        [(0, 2), (2, 5), (5, 7)]
    """
    edges = np.linspace(0, height, count + 1).round().astype(int).tolist()
    return list(itertools.pairwise(edges))


def demands(file: File, region: Region, rows: Rows) -> dict[int, Rows] | None:
    """The rows of each tensor that some rows of a region's result need; None: it cannot be told."""
    needed = {region.result: rows}
    for number in reversed(range(region.first, region.stop)):
        operator = file.operators[number]
        found = file.needs(operator, needed[int(operator.outputs[0])])
        if found is None:
            return None
        _add(needed, found)
    return needed


def _add(needed: dict[int, Rows], found: dict[int, Need]) -> None:
    for tensor, each in found.items():
        if each.rows is not None:
            first, stop = needed.get(tensor, each.rows)
            needed[tensor] = min(first, each.rows[0]), max(stop, each.rows[1])


def plan(file: File, device: Device) -> list[Region]:
    """The regions that take the least time, and of those as fast the ones of the least memory.

    Args:
        file: The file.
        device: What it is for.

    Returns:
        Regions in order that share no operation.
    """
    choices = [list(_choices(file, stop, device)) for stop in range(1, len(file.operators) + 1)]
    plans = [_cheapest(choices, price, device.cache) for price in _MEMORY]
    fastest = min(sum(each.time for each in chosen) for chosen in plans)
    if fastest > _WORTH * sum(each[0].time for each in choices):
        return []
    quick = [p for p in plans if sum(each.time for each in p) <= device.slower * fastest]
    best = min(quick, key=lambda chosen: max((each.memory for each in chosen), default=0))
    return [each.region for each in best if each.region is not None]


def _cheapest(choices: list[list[_Choice]], price: float, cache: int) -> list[_Choice]:
    def cost(choice: _Choice) -> float:
        return choice.time + price * max(0.0, choice.memory - cache)

    least, last = [0.0], []
    for stop, each in enumerate(choices, 1):
        first = [x.region.first if x.region else stop - 1 for x in each]
        total = [least[start] + cost(x) for start, x in zip(first, each, strict=True)]
        best = int(np.argmin(total))
        least.append(total[best])
        last.append((first[best], each[best]))
    chosen, stop = [], len(choices)
    while stop:
        stop, each = last[stop - 1]
        chosen.append(each)
    return chosen[::-1]


def _choices(file: File, stop: int, device: Device) -> Iterator[_Choice]:
    """The last operation before `stop` as it is, and each region that ends with it."""
    operator = file.operators[stop - 1]
    touched = _bytes(file, {int(t): None for t in [*operator.inputs, *operator.outputs]})
    time = device.start + _products(file, operator, device) + _moved(touched, touched, device)
    yield _Choice(None, time, touched)
    if len(operator.outputs) != 1 or not file.is_map(int(operator.outputs[0])):
        return
    result = int(operator.outputs[0])
    height = file.shape(result)[ROWS]
    for count in _COUNTS:
        if height >= _LEAST_ROWS * count:
            yield from _regions(file, stop, result, count, device)


def _regions(file: File, stop: int, result: int, count: int, device: Device) -> Iterator[_Choice]:
    """Longer and longer regions, timed by a strip of the middle."""
    rows = strips_of(file.shape(result)[ROWS], count)[count // 2]
    cache, start = device.cache, device.start
    needed, made, fixed, near, working, large = {result: rows}, set(), 0.0, 0.0, 0.0, False
    for number in reversed(range(max(0, stop - _LONGEST), stop)):
        operator = file.operators[number]
        made.add(output := int(operator.outputs[0]))
        if output not in needed or (output != result and file.leaves(output, stop)):
            return
        found = file.needs(operator, needed[output])
        if found is None:
            return
        _add(needed, found)
        tensors = {x: each.rows for x, each in found.items()} | {output: needed[output]}
        touched = _bytes(file, tensors)
        share = (needed[output][1] - needed[output][0]) / file.shape(output)[ROWS]
        fixed += start + _products(file, operator, device) * share
        near, working = near + touched, max(working, touched)
        large = large or _bytes(file, dict.fromkeys(tensors)) > cache
        entries = {x: rows for x, rows in needed.items() if x not in made}
        if not large:
            continue
        whole = _bytes(file, dict.fromkeys(entries))
        part = _bytes(file, entries)
        cut = start + _moved(part, whole, device) + part
        time = count * (fixed + _moved(near, working, device) + cut)
        size, joins = _bytes(file, {result: None}), 1 if count <= JOINED else 2
        time += joins * (start + _moved(2 * size, 2 * size, device))
        yield _Choice(Region(number, stop, result, count), time, whole + working + 2 * size)


def _moved(size: float, working: float, device: Device) -> float:
    """The time of some bytes, among all those that are in use."""
    far = max(0.0, 1.0 - device.cache / working) if working else 0.0
    return size * (1.0 + far * (device.far - 1.0))


def _bytes(file: File, tensors: dict[int, Rows | None]) -> float:
    """Bytes of rows of tensors; None: all."""
    total = 0.0
    for tensor, rows in tensors.items():
        size = flatbuffer.size(file.model, tensor)
        part = 1.0 if rows is None or not size else (rows[1] - rows[0]) / file.shape(tensor)[ROWS]
        total += size * part
    return total


def _products(file: File, operator, device: Device) -> float:
    """The time of an operation's multiplications."""
    if file.kind(operator) not in (BUILTIN.CONV_2D, BUILTIN.DEPTHWISE_CONV_2D):
        return 0.0
    kernel = file.shape(int(operator.inputs[1]))
    inside = kernel[3] if file.kind(operator) == BUILTIN.CONV_2D else 1
    result = int(operator.outputs[0])
    products = float(np.prod(file.shape(result))) * kernel[1] * kernel[2] * inside
    is_float = file.graph.tensors[result].type == flatbuffer.TYPES["float32"]
    return products * device.product[0 if is_float else 1]
