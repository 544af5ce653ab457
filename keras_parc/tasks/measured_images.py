"""The images that a run's models are measured on: each read once, for all of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from keras_parc.support.images import open_image
from keras_parc.support.progress import evaluation_progress


class MeasuredImages:
    """A split of a data set, gone through once; names and pictures of single images after that.

    Args:
        builder: What a task's data module opens.
        split: A split, or a part of one.
        dataset: The function of the task's data module that gives the split as batches of images
            and targets.
        console: Where to draw the progress bar; None: standard error.
        **options: Of that function.
    """

    def __init__(
        self,
        builder,
        split: str,
        dataset: Callable[..., Any],
        console: Console | None = None,
        **options,
    ):
        from keras_parc.data.skipped import SkippedImages
        from keras_parc.data.sources import bounds, is_folder

        self._builder, self._split, self._console = builder, split, console
        self.skipped = SkippedImages()
        self._dataset = functools.partial(dataset, builder, split, skipped=self.skipped, **options)
        name, first, end = bounds(builder, split)
        self._total, self._name = end - first, name
        self._paths = builder.paths[name][first:end] if is_folder(builder) else None
        self.count = 0

    def batches(self) -> Iterator[tuple[np.ndarray, Any]]:
        """Images float32 and their targets, as the data set gives them.

        Raises:
            ValueError: Too many images are damaged, or there is none.
        """
        import tensorflow as tf

        with evaluation_progress(self._console) as progress:
            task = progress.add_task("measuring", total=self._total, rate="")
            try:
                for images, targets in self._dataset():
                    yield images.numpy(), targets
                    self.count += len(images)
                    progress.update(task, completed=self.count)
            except tf.errors.InvalidArgumentError as error:
                raise ValueError(self.skipped.failure or str(error)) from error
        if not self.count:
            raise ValueError(
                f"None of the images in {self._split!r} of {self._builder.name!r} can be used."
            )
        if self._paths is not None:
            self._paths = [path for path in self._paths if path not in self.skipped.skipped]

    def name(self, number: int) -> str:
        """What an image is called, by its place among those that `batches` gave."""
        if self._paths is None:
            return f"{self._name}, number {number}"
        path = self._paths[number]
        inside = os.path.relpath(path, self._builder.name)
        return path if inside.startswith("..") else inside

    def pictures(self, numbers: Iterable[int]) -> dict[int, Image.Image]:
        """Images by their places: read from their files; of a set without files, gone through
        again up to the last one, as the models see them."""
        wanted = set(numbers)
        if self._paths is not None:
            return {number: open_image(self._paths[number]) for number in wanted}
        found, number = {}, 0
        for images, _ in self._dataset() if wanted else ():
            for image in images.numpy():
                if number in wanted:
                    found[number] = Image.fromarray(image.astype("uint8"))
                number += 1
            if len(found) == len(wanted):
                break
        return found
