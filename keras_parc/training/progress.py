"""A progress bar for `model.fit`: steps, images per second, time left, metrics."""

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar(keras.callbacks.Callback):
    """Show one bar over all epochs of a `fit`; pass `verbose=0` to `fit` itself.

    Args:
        batch_size: Images per step, for the rate.
        console: Where to draw; default: the terminal. Without a terminal a line is printed per
            epoch.

    Example:
        >>> ProgressBar(batch_size=32).batch_size
        32
    """

    def __init__(self, batch_size: int, console: Console | None = None):
        super().__init__()
        self.batch_size = batch_size
        self._console = console or Console()

    def on_train_begin(self, logs=None):
        epochs, steps = self.params["epochs"], self.params["steps"]
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
        self._task = self._bar.add_task("training", total=epochs * steps, rate="", metrics="")
        self._bar.start()
        self._images, self._seconds, self._traced = 0, 0.0, False

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if self._traced:  # the first step also builds the graph and says nothing about the rate
            self._images += self.batch_size
            self._seconds += time.perf_counter() - self._start
        self._traced = True
        self._bar.update(self._task, advance=1, rate=self._rate(), metrics=_text(logs))

    def on_epoch_end(self, epoch, logs=None):
        self._console.print(
            f"epoch {epoch + 1}/{self.params['epochs']}  {_text(logs)}  {self._rate()}",
            soft_wrap=True,
        )

    def _rate(self) -> str:
        return f"{self._images / self._seconds:.0f} images/s" if self._seconds else ""

    def on_train_end(self, logs=None):
        self._bar.stop()


def _text(logs) -> str:
    return "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
