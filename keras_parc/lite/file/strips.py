"""Large maps computed in strips of rows that stay in the cache, instead of whole.

The results are the same to the bit, in int8 too: a strip has the weights and the grid of the whole.
"""

import logging
from collections.abc import Sequence

import numpy as np

from keras_parc.lite.file import flatbuffer
from keras_parc.lite.file.order import depth_first
from keras_parc.lite.file.outputs import OpenFile
from keras_parc.lite.file.rows import ROWS, File
from keras_parc.lite.file.strip_plan import Device, Region, demands, plan, strips_of

log = logging.getLogger(__name__)

# What files are made for where nobody says it. Desktops and phones have a larger cache behind the
# one of a core; the RK3288 has not, where most of a float32 model's time is that of memory. NPUs
# have a compiler that cuts.
DEVICES = {
    "litert": Device(2048 << 10, far=4.0, product=(0.2, 0.05), start=800_000.0, slower=1.01),
    "portable": Device(512 << 10),
    "npu": Device(0),
}


def device_for(target: str, cache_kib: int | None) -> Device:
    """What a file is made for.

    Args:
        target: See `to_tflite`.
        cache_kib: See `to_tflite`.

    Raises:
        ValueError: It is no size of a cache.

    Example:
        >>> device_for("litert", 512).cache
        524288
    """
    if cache_kib is None:
        return DEVICES[target]
    if isinstance(cache_kib, bool) or not isinstance(cache_kib, int) or cache_kib < 0:
        raise ValueError(f"`cache_kib` must be a whole number from 0, got {cache_kib!r}.")
    return Device(cache_kib << 10)


def in_strips(content: bytes, device: Device, sample: Sequence[np.ndarray]) -> bytes:
    """Run operations on maps that do not fit the cache in strips, where that is faster.

    Also orders the operations depth first, where that needs less memory.

    Args:
        content: The bytes of a file.
        device: What it is for.
        sample: A value for each input, on which the result is compared.

    Returns:
        The bytes of a file that computes the same.
    """
    changed = _in_strips(content, device)
    if changed != content:
        before, after = OpenFile(content)(sample), OpenFile(changed)(sample)
        if not all(map(_is_close, after, before)):
            log.warning("Strips of maps would change what the file computes: it has none.")
            return content
    return changed


def _is_close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal up to the order of sums, which kernels may choose by the height of a map."""
    largest = np.abs(expected[np.isfinite(expected)], dtype="float64").max(initial=0.0)
    return np.allclose(found, expected, rtol=0, atol=1e-5 * largest, equal_nan=True)


def _in_strips(content: bytes, device: Device) -> bytes:
    model = flatbuffer.read(content)
    changed = depth_first(model)
    regions = plan(File(model), device) if device.cache else []
    changed = cut(model, regions) or changed
    return flatbuffer.write(model) if changed else content


def cut(model: "flatbuffer.schema.ModelT", regions: Sequence[Region]) -> bool:
    """Run regions in strips.

    Args:
        model: The objects of a file; changed in place.
        regions: In order; they share no operation.

    Returns:
        Whether anything changed: a region stays whole if rows of it cannot be had alone.
    """
    file = File(model)
    order, at = [], 0
    for region in regions:
        operators = _strips(file, region)
        if operators:
            order += [*file.operators[at : region.first], *operators]
            at = region.stop
    model.subgraphs[0].operators = order + file.operators[at:]
    if order:
        depth_first(model)
    return bool(order)


def _strips(file: File, region: Region) -> list:
    """The operations that compute a region in strips; none where it has to stay whole."""
    before = len(file.graph.operators)
    every = strips_of(file.shape(region.result)[ROWS], region.count)
    needed = [demands(file, region, rows) for rows in every]
    if None in needed:
        return []
    file.join(region.result, [_strip(file, region, each) for each in needed])
    added = file.graph.operators[before:]
    del file.graph.operators[before:]
    return added


def _strip(file: File, region: Region, needed: dict) -> int:
    """Add the operations that compute the rows of a region's result; returns their last result."""
    made, windows = {}, {}
    for operator in file.operators[region.first : region.stop]:
        output, given = int(operator.outputs[0]), {}
        for tensor, need in file.needs(operator, needed[output]).items():
            if need.rows is None:
                continue
            whole = made.get(tensor, tensor)
            above = needed[tensor][0] if tensor in made else 0
            rows = need.rows[0] - above, need.rows[1] - above
            if rows == (0, file.shape(whole)[ROWS]):
                given[tensor] = whole
            else:
                if (whole, rows) not in windows:
                    windows[whole, rows] = file.window(whole, rows)
                given[tensor] = windows[whole, rows]
        made[output] = file.strip(operator, needed[output], given)
    return made[region.result]
