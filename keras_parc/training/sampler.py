"""Multi-scale batches: another image size at every step, the batch adjusted to the size."""

from collections.abc import Sequence

import numpy as np


def batch_of(size: int, batch: int, base_size: int, replicas: int) -> int:
    """Images per replica at a size: more where images are smaller, never fewer than `batch`.

    Args:
        size: Side of the images in pixels.
        batch: Images per replica at `base_size`.
        base_size: The side `batch` is meant for.
        replicas: Number of replicas; the result is made a multiple of it.

    Returns:
        The batch of one replica.

    Source: the authors' variable batch sampler (MobileViT, arXiv 2110.02178, section 4).

    Example:
        >>> [batch_of(size, 128, 256, replicas=8) for size in (160, 192, 256, 288, 320)]
        [328, 224, 128, 128, 128]
    """
    wanted = max(batch, int(batch * base_size**2 / size**2))
    nearest = max(replicas, int(wanted + replicas / 2) // replicas * replicas)
    return nearest if nearest >= 0.9 * wanted else nearest + replicas


def epoch_plan(
    examples: int,
    choices: Sequence[tuple[int, int]],
    *,
    seed: int,
    epoch: int,
) -> list[tuple[int, int]]:
    """Size and batch of every step of an epoch, drawn uniformly.

    Args:
        examples: Images in the training set. What is left after the last full batch is not used.
        choices: `(size, batch)` to draw from: side in pixels, images of all replicas.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0. The plan is a function of seed and epoch alone.

    Returns:
        `(size, batch)` per step.

    Raises:
        ValueError: There are too few images for a single step.

    Example:
        >>> plan = epoch_plan(1000, [(64, 100), (96, 50)], seed=0, epoch=0)
        >>> 900 < sum(batch for _, batch in plan) <= 1000
        True
    """
    batches = np.array([batch for _, batch in choices])
    if examples < batches.max():
        raise ValueError(
            f"The training set has {examples} images, fewer than one batch of {batches.max()}."
        )
    draws = np.random.default_rng([seed, epoch]).integers(
        len(choices), size=examples // batches.min()
    )
    steps = np.searchsorted(np.cumsum(batches[draws]), examples, side="right")
    return [tuple(choices[draw]) for draw in draws[:steps]]
