"""The learning rate: a linear warm-up by step, then half a cosine, as tables.

Every value is worked out once in float64, so that the graph only looks it up and a resumed run
cannot differ from an uninterrupted one.
"""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops


def learning_rate(
    step: int,
    progress: float,
    *,
    start: float,
    peak: float,
    end: float,
    warm_up_steps: int,
) -> float:
    """The learning rate of one step.

    Args:
        step: Number of the optimizer's step, from 0.
        progress: How much of the training is done, 0 to 1; the warm-up counts as part of it.
        start: Rate of step 0.
        peak: Rate after the warm-up.
        end: Rate at progress 1.
        warm_up_steps: Length of the warm-up, 0 or more.

    Returns:
        The rate.

    Source: the authors' training code, arXiv 2203.03952, section 4.1.

    Example:
        >>> rate = dict(start=4e-4, peak=4e-3, end=4e-4, warm_up_steps=3000)
        >>> [round(learning_rate(step, 0.0, **rate), 6) for step in (0, 1500, 3000)]
        [0.0004, 0.0022, 0.004]
    """
    if step < warm_up_steps:
        return start + (peak - start) * step / warm_up_steps
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * progress))


@keras.saving.register_keras_serializable(package="keras_parc")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """`learning_rate` as a schedule of a Keras optimizer.

    Args:
        steps_per_epoch: Optimizer steps of each epoch; they differ when the batch does.
        start: Rate of step 0.
        peak: Rate after the warm-up.
        end: Rate the cosine ends at.
        warm_up_steps: Length of the warm-up in optimizer steps.
        by: "epoch": the cosine falls once an epoch, as the authors' does. "step": at every step.

    Raises:
        ValueError: `by` is neither, or there are no steps.

    Example:
        >>> schedule = WarmUpCosine([10, 10], start=0.0, peak=1.0, end=0.0, warm_up_steps=4)
        >>> [round(float(schedule(step)), 4) for step in (0, 2, 4, 9, 10, 19)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.5]
    """

    def __init__(
        self,
        steps_per_epoch: Sequence[int],
        *,
        start: float,
        peak: float,
        end: float,
        warm_up_steps: int,
        by: str = "epoch",
    ):
        if by not in ("epoch", "step"):
            raise ValueError(f"`by` must be 'epoch' or 'step', got {by!r}.")
        self.steps_per_epoch = [int(steps) for steps in steps_per_epoch]
        total, epochs = sum(self.steps_per_epoch), len(self.steps_per_epoch)
        if min(self.steps_per_epoch, default=0) < 1:
            raise ValueError(f"Every epoch needs at least one step, got {steps_per_epoch!r}.")
        self.start, self.peak, self.end = start, peak, end
        self.warm_up_steps, self.by = warm_up_steps, by

        def rate(step, progress):
            shape = dict(start=start, peak=peak, end=end, warm_up_steps=warm_up_steps)
            return learning_rate(step, progress, **shape)

        self._warm_up = np.array([rate(step, 0.0) for step in range(warm_up_steps)], "float32")
        # The cosine is looked up by `ends`: place i holds until optimizer step ends[i].
        ends = np.cumsum(self.steps_per_epoch) if by == "epoch" else np.arange(1, total + 1)
        count = epochs if by == "epoch" else total
        self._ends = ends.astype("int32")
        self._cosine = np.array([rate(warm_up_steps, i / count) for i in range(count)], "float32")

    def __call__(self, step):
        step = ops.cast(step, "int32")
        place = ops.searchsorted(self._ends, ops.reshape(step, (1,)), side="right")[0]
        rate = ops.take(self._cosine, ops.minimum(place, len(self._cosine) - 1))
        if not self.warm_up_steps:
            return rate
        warm_up = ops.take(self._warm_up, ops.minimum(step, self.warm_up_steps - 1))
        return ops.where(step < self.warm_up_steps, warm_up, rate)

    def get_config(self):
        names = ("steps_per_epoch", "start", "peak", "end", "warm_up_steps", "by")
        return {name: getattr(self, name) for name in names}
