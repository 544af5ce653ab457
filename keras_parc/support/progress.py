"""A progress bar for training: steps, images per second, time left, metrics."""

import time
from collections.abc import Sequence

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_PAUSE = 30  # seconds between lines where there is no terminal


class ProgressBar(keras.callbacks.Callback):
    """One bar over all epochs; pass `verbose=0` to `fit` itself and use it as a context.

    Args:
        steps: Steps of all epochs.
        console: Where to draw; default: the terminal. Without a terminal a line every half minute.

    Example:
        >>> with ProgressBar(steps=20, console=Console(quiet=True)) as bar:
        ...     bar.begin([(64, 32)] * 10, done=0)
        ...     bar.report(1, 2, {"loss": 0.5})
    """

    def __init__(self, steps: int, console: Console | None = None):
        super().__init__()
        self._console = console or Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=steps, rate="", metrics="")
        self._images, self._seconds, self._seen = 0, 0.0, set()
        self._printed = time.perf_counter()

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def begin(self, plan: Sequence[tuple[int, int]], done: int) -> None:
        """Announce the steps of the next `fit`, `(size, images)` each, and how many went before."""
        self._plan = plan
        self._bar.update(self._task, completed=done)

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        size, images = self._plan[batch]
        if size in self._seen:  # the first step of a size also compiles, and says nothing
            self._images += images
            self._seconds += time.perf_counter() - self._start
        self._seen.add(size)
        self._bar.update(self._task, advance=1, rate=self._rate(), metrics=_text(logs))
        if not self._console.is_terminal and time.perf_counter() - self._printed > _PAUSE:
            task = self._bar.tasks[self._task]
            steps = f"step {task.completed:.0f}/{task.total:.0f}"
            self._print(f"{steps}  {_text(logs)}  {self._rate()}")

    def report(self, epoch: int, epochs: int, metrics: dict[str, float]) -> None:
        """Print the metrics of an epoch that is done, counted from 1."""
        self._print(f"epoch {epoch}/{epochs}  {_text(metrics)}  {self._rate()}")

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)
        self._printed = time.perf_counter()

    def _rate(self) -> str:
        return f"{self._images / self._seconds:.0f} images/s" if self._seconds else ""


def _text(logs) -> str:
    return "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())


def evaluation_progress(console: Console | None) -> Progress:
    """A bar of images measured, to be used as a context; its tasks need a `rate`, a text.

    Args:
        console: Where to draw; None: standard error. Nothing is drawn where that is no terminal.
    """
    console = console or Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
